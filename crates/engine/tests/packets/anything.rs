//! Whatever comes: nothing panics, hooks agree, checksums stay valid.

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_engine::{
    host::{self, Hook},
    pipeline::Verdict,
};
use proptest::prelude::*;

use crate::{
    director::{
        BACK, EMPTY, FRONT, NAME_SERVER, NAMES, State, WEB, WEB_SERVER, client, director, frame,
        next_hop, send,
    },
    wire::{Spec, TCP, UDP, fault, icmp},
};

/// A packet of somebody who plays by the rules.
fn spec() -> impl Strategy<Value = Spec> {
    let flags = prop_oneof![3 => Just(2u8), 3 => Just(18u8), 3 => Just(16u8), 2 => Just(17u8), 1 => any::<u8>()];
    let end = prop_oneof![
        8 => (0u16..3).prop_map(|port| client(20000 + port)),
        1 => Just(client(20)),
        1 => Just(SocketAddrV4::new(Ipv4Addr::new(172, 16, 0, 1), 7)),
    ];
    let direction = prop_oneof![
        4 => Just((WEB, TCP, true)), 4 => Just((WEB_SERVER, TCP, false)),
        3 => Just((NAMES, UDP, true)), 3 => Just((NAME_SERVER, UDP, false)),
        1 => Just((EMPTY, TCP, true)), 1 => Just((WEB, UDP, true)),
    ];
    let rare = |p: u32| prop_oneof![9 => Just(false), p => Just(true)];
    let ttl = prop_oneof![1 => Just(1u8), 1 => Just(2), 1 => Just(0), 9 => any::<u8>()];
    let options = prop_oneof![5 => Just(0usize), 1 => 1usize..11];
    let payload = prop_oneof![8 => 0usize..80, 1 => 1400usize..1600];
    (
        (end, direction, flags, ttl, any::<u8>()),
        (any::<u16>(), rare(9), options, payload, rare(3), 0usize..8),
    )
        .prop_map(
            |((client, (ours, protocol, is_in), flags, ttl, tos), rest)| {
                let (id, dont_fragment, options, payload, without_checksum, padding) = rest;
                let (source, destination) = if is_in {
                    (client, ours)
                } else {
                    (ours, client)
                };
                Spec {
                    protocol,
                    source,
                    destination,
                    flags,
                    ttl,
                    tos,
                    id,
                    dont_fragment,
                    options,
                    payload,
                    without_checksum,
                    padding,
                }
            },
        )
}

/// An IP packet: as built, in an error that quotes it, cut, or with bytes changed.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let router = [10, 0, 0, 99];
    let error = (spec(), any::<bool>(), 3u8..13, 0u8..16, 0usize..80).prop_map(
        move |(spec, is_in, kind, code, keep)| {
            let quoted = spec.packet();
            let keep = keep.min(quoted.len());
            let to = if is_in { *WEB.ip() } else { *spec.source.ip() };
            icmp(router, to.octets(), kind, code, 1400, &quoted[..keep])
        },
    );
    prop_oneof![
        8 => spec().prop_map(|spec| spec.packet()),
        2 => error,
        1 => (spec(), any::<prop::sample::Index>()).prop_map(|(spec, at)| {
            let mut packet = spec.packet();
            packet.truncate(at.index(packet.len()));
            packet
        }),
        2 => (spec(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(spec, at, byte)| {
            let mut packet = spec.packet();
            let at = at.index(packet.len().min(44));
            packet[at] = byte;
            packet
        }),
    ]
}

proptest! {
    #[test]
    fn hooks_agree_about_every_packet_and_what_is_counted(
        packets in proptest::collection::vec((packet(), 0u64..3000), 1..40),
        takes_xdp: bool,
    ) {
        let all = Hook::ALL.map(|hook| {
            let mut tables = director();
            let hop = host::NextHop { takes_xdp, ..next_hop(1500) };
            tables.set_next_hop(*WEB_SERVER.ip(), hop).unwrap();
            (hook, tables)
        });
        for (packet, pause) in packets {
            let frame = frame(&packet);
            let outcomes = all.each_ref().map(|(hook, tables)| {
                tables.advance_ms(pause);
                tables.sweep();
                let outcome = host::run(*hook, tables, FRONT, &frame);
                (outcome.verdict, outcome.bytes, State::of(tables))
            });
            prop_assert_eq!(&outcomes[0], &outcomes[2]);
            prop_assert_eq!(&outcomes[1], &outcomes[2]);
        }
    }

    #[test]
    fn what_is_sent_has_valid_checksums(specs in proptest::collection::vec(spec(), 1..40)) {
        let tables = director();
        for spec in specs {
            let mut packet = spec.packet();
            let length = packet.len();
            packet.resize(length + spec.padding, 0);
            // `send` checks what is sent and that what is passed is untouched.
            let (verdict, bytes) = send(Hook::Xdp, &tables, &packet);
            if matches!(verdict, Verdict::Redirect(_)) && bytes[9] != 1 {
                prop_assert_eq!(bytes[8] + 1, spec.ttl);
                prop_assert_eq!((bytes[1], &bytes[4..8]), (packet[1], &packet[4..8]));
                prop_assert_eq!(bytes.len(), packet.len());
            }
        }
    }

    #[test]
    fn any_bytes_end_in_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..200), at_ip: bool) {
        let bytes = if at_ip { frame(&bytes) } else { bytes };
        let tables = director();
        for hook in Hook::ALL {
            let outcome = host::run(hook, &tables, FRONT, &bytes);
            if matches!(outcome.verdict, Verdict::Pass(_)) {
                prop_assert_eq!(outcome.bytes, bytes.clone());
            }
        }
    }
}

#[test]
fn a_packet_cut_anywhere_is_left_to_the_host() {
    let requests = [
        Spec::tcp(client(1), WEB, 2),
        Spec {
            options: 3,
            ..Spec::tcp(client(1), WEB, 2)
        },
        Spec {
            without_checksum: true,
            ..Spec::udp(client(1), NAMES, 20)
        },
    ];
    for spec in requests {
        let packet = spec.packet();
        for hook in Hook::ALL {
            for keep in 0..packet.len() {
                let tables = director();
                let (verdict, _) = send(hook, &tables, &packet[..keep]);
                assert!(
                    matches!(verdict, Verdict::Pass(_)),
                    "{keep} bytes: {verdict:?}"
                );
                assert!(tables.connections().is_empty());
            }
        }
    }
}

#[test]
fn udp_without_checksum_gets_one_both_ways() {
    for payload in [0, 1, 2, 7, 63, 64, 65, 1400] {
        for hook in Hook::ALL {
            let tables = director();
            let without = |source, destination| Spec {
                without_checksum: true,
                ..Spec::udp(source, destination, payload)
            };
            let request = without(client(1), NAMES).packet();
            let (verdict, bytes) = send(hook, &tables, &request);
            assert_eq!(verdict, Verdict::Redirect(BACK));
            assert_eq!(fault(&bytes), None);
            let reply = without(NAME_SERVER, client(1)).packet();
            let (verdict, bytes) = send(hook, &tables, &reply);
            assert_eq!(verdict, Verdict::Redirect(FRONT));
            assert_eq!(fault(&bytes), None);
        }
    }
}
