//! Direct routing and tunnels: what leaves for the server, and what is said about it.

use std::net::Ipv4Addr;

use furiwake_engine::{
    host::{Frame, Hook, HostTables, Method, NextHop, Outcome, ServerOptions},
    pipeline::Verdict,
    reason::Reason,
    settings,
    tables::Server,
    tunnel::{GRE, GUE, IPIP, overhead},
};

use crate::{
    director::{
        BACK, DIRECTOR, EMPTY, FRONT, NAME_SERVER, NAMES, VIRTUAL, WEB, WEB_SERVER, client,
        director, forwarded, frame, next_hop, send_frame,
    },
    wire::{ACK, FIN, RST, SYN, Spec, TCP, UDP, fault, icmp, l4_sum, pseudo_header, sum, together},
};

const PORT: u16 = 6080;

/// Every kind, with and without checksum.
fn kinds() -> [u32; 6] {
    let gue = GUE | u32::from(PORT.to_be()) << 16;
    [
        IPIP,
        gue,
        gue | Server::CHECKSUM,
        gue | Server::REMOTE_CHECKSUM,
        GRE,
        GRE | Server::CHECKSUM,
    ]
}

fn director_with(method: Method) -> HostTables {
    let mut tables = director();
    for (service, protocol, server) in [(WEB, TCP, WEB_SERVER), (NAMES, UDP, NAME_SERVER)] {
        let service = tables.service_at(service, protocol).unwrap();
        let at = tables.server_at(service, server).unwrap();
        let options = ServerOptions {
            method,
            ..ServerOptions::masqueraded(1)
        };
        tables.edit_server(at, &options).unwrap();
    }
    tables
}

fn run(hook: Hook, tables: &HostTables, packet: &[u8]) -> Outcome {
    send_frame(hook, tables, Frame::new(FRONT, frame(packet)))
}

/// As a director passes a request on.
fn lowered(spec: &Spec) -> Vec<u8> {
    Spec {
        ttl: spec.ttl - 1,
        ..spec.clone()
    }
    .packet()
}

/// See that a packet is well wrapped; gives the outer header and what is inside.
fn unwrapped(kind: u32, packet: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (outer, rest) = packet.split_at(20);
    assert_eq!(sum(outer), 0xffff);
    assert_eq!(outer[..1], [0x45]);
    assert_eq!(outer[12..16], DIRECTOR.octets());
    let checked = kind & (Server::CHECKSUM | Server::REMOTE_CHECKSUM) != 0;
    let shim = overhead(kind) as usize - 20;
    match kind & 0xff {
        GUE => {
            assert_eq!(outer[9], 17);
            let port = u16::from_be_bytes([rest[0], rest[1]]);
            assert!((32768..=60999).contains(&port));
            assert_eq!(rest[2..4], PORT.to_be_bytes());
            assert_eq!(rest[4..6], (rest.len() as u16).to_be_bytes());
            assert_eq!(rest[8..12], [0, 4, 0, 0]);
            if checked {
                assert_eq!(l4_sum(outer, rest), 0);
            } else {
                assert_eq!(rest[6..8], [0, 0]);
            }
        }
        GRE => {
            assert_eq!(outer[9], 47);
            assert_eq!(rest[..4], [if checked { 0x80 } else { 0 }, 0, 8, 0]);
            if checked {
                assert_eq!(sum(rest), 0xffff);
            }
        }
        _ => assert_eq!(outer[9], 4),
    }
    (outer.to_vec(), rest[shim..].to_vec())
}

#[test]
fn a_tunnel_carries_the_packet_whole_with_checksums_that_hold() {
    for hook in Hook::ALL {
        for kind in kinds() {
            let tables = director_with(Method::Tunnel(kind));
            let requests = [
                Spec::tcp(client(1), WEB, SYN),
                Spec {
                    payload: 33,
                    ..Spec::tcp(client(1), WEB, ACK)
                },
                Spec {
                    options: 2,
                    ..Spec::tcp(client(1), WEB, ACK)
                },
                Spec::udp(client(2), NAMES, 11),
                Spec {
                    without_checksum: true,
                    ..Spec::udp(client(2), NAMES, 12)
                },
            ];
            for spec in requests {
                let outcome = run(hook, &tables, &spec.packet());
                assert_eq!(outcome.verdict, Verdict::Redirect(BACK), "{spec:?}");
                let (outer, inner) = unwrapped(kind, &outcome.bytes[14..]);
                assert_eq!(inner, lowered(&spec));
                assert_eq!((outer[8], outer[6]), (63, 0x40));
                assert_eq!(outer[2..4], (outcome.bytes.len() as u16 - 14).to_be_bytes());
            }
        }
    }
}

#[test]
fn the_outer_header_has_the_inner_class_but_not_its_congestion() {
    for hook in Hook::ALL {
        let tables = director_with(Method::Tunnel(IPIP));
        for (inner, outer) in [(0, 0), (0xb8, 0xb8), (1, 1), (2, 2), (0xbb, 0xba)] {
            let spec = Spec {
                tos: inner,
                ..Spec::tcp(client(1), WEB, SYN)
            };
            let sent = run(hook, &tables, &spec.packet()).bytes;
            assert_eq!((sent[15], sent[35]), (outer, inner));
        }
    }
}

#[test]
fn packets_of_a_connection_have_one_source_port_and_connections_many() {
    let tables = director_with(Method::Tunnel(kinds()[1]));
    let port = |hook, from, options| {
        let spec = Spec {
            options,
            ..Spec::tcp(client(from), WEB, SYN)
        };
        let sent = run(hook, &tables, &spec.packet()).bytes;
        sent[34..36].to_vec()
    };
    let mut ports: Vec<_> = (1001..1100)
        .map(|from| {
            let one = port(Hook::Xdp, from, 0);
            assert_eq!(one, port(Hook::Tc, from, 1));
            one
        })
        .collect();
    ports.sort();
    ports.dedup();
    assert!(ports.len() > 90);
}

#[test]
fn an_unfinished_checksum_inside_is_allowed_for_outside() {
    let kind = kinds()[2];
    let tables = director_with(Method::Tunnel(kind));
    let spec = Spec {
        payload: 20,
        ..Spec::tcp(client(1), WEB, SYN)
    };
    let mut packet = spec.packet();
    let partial = sum(&pseudo_header(&packet[..20], packet.len() - 20));
    packet[36..38].copy_from_slice(&partial.to_be_bytes());
    let outcome = send_frame(
        Hook::XdpVeth,
        &tables,
        Frame {
            is_unfinished: true,
            ..Frame::new(FRONT, frame(&packet))
        },
    );
    let mut sent = outcome.bytes[14..].to_vec();
    let at = overhead(kind) as usize + 36;
    sent[at..at + 2].copy_from_slice(&spec.packet()[36..38]);
    assert_eq!(unwrapped(kind, &sent).1, lowered(&spec));
}

#[test]
fn super_packets_are_wrapped_without_a_checksum_of_their_own() {
    for kind in kinds() {
        let tables = director_with(Method::Tunnel(kind));
        let spec = Spec {
            payload: 9000,
            ..Spec::tcp(client(1), WEB, SYN)
        };
        let outcome = send_frame(
            Hook::Tc,
            &tables,
            Frame {
                segment_size: Some(1400),
                ..Frame::new(FRONT, frame(&spec.packet()))
            },
        );
        assert_eq!(outcome.verdict, Verdict::Redirect(BACK));
        let plain = kind & !(Server::CHECKSUM | Server::REMOTE_CHECKSUM);
        assert_eq!(unwrapped(plain, &outcome.bytes[14..]).1, lowered(&spec));
    }
}

#[test]
fn a_neighbour_that_is_not_known_is_found_for_the_wrapped_packet() {
    let mut tables = director_with(Method::Tunnel(IPIP));
    let hop = NextHop {
        macs: None,
        ..next_hop(1500)
    };
    tables.set_next_hop(*WEB_SERVER.ip(), hop).unwrap();
    let spec = Spec::tcp(client(1), WEB, SYN);
    let outcome = run(Hook::Xdp, &tables, &spec.packet());
    let gateway = u32::from_ne_bytes(WEB_SERVER.ip().octets());
    assert_eq!(outcome.verdict, Verdict::Neighbour(BACK, gateway));
    assert_eq!(unwrapped(IPIP, &outcome.bytes[14..]).1, lowered(&spec));
}

#[test]
fn what_does_not_fit_and_may_be_fragmented_leaves_in_pieces_that_make_the_whole() {
    for hook in Hook::ALL {
        let methods = kinds().map(Method::Tunnel).into_iter();
        for method in methods.chain([Method::Gateway]) {
            let mut tables = director_with(method);
            tables
                .set_next_hop(*WEB_SERVER.ip(), next_hop(600))
                .unwrap();
            let spec = Spec {
                payload: 1400,
                dont_fragment: false,
                ..Spec::tcp(client(1), WEB, SYN)
            };
            let outcome = run(hook, &tables, &spec.packet());
            assert_eq!(outcome.verdict, Verdict::Redirect(BACK));
            let first = outcome.sent.iter().map(|(ifindex, bytes)| {
                assert_eq!((*ifindex, &bytes[..12]), (BACK, &outcome.bytes[..12]));
                bytes[14..].to_vec()
            });
            let pieces: Vec<_> = first.chain([outcome.bytes[14..].to_vec()]).collect();
            assert_eq!(pieces.len(), 3);
            assert!(pieces.iter().all(|piece| piece.len() <= 600));
            let whole = together(&pieces);
            let inner = match method {
                Method::Tunnel(kind) => unwrapped(kind, &whole).1,
                _ => whole,
            };
            assert_eq!(inner, lowered(&spec));
        }
    }
}

#[test]
fn without_discovery_the_flag_is_ignored() {
    let mut tables = director_with(Method::Tunnel(IPIP));
    tables.settings().settings.set(0);
    tables
        .set_next_hop(*WEB_SERVER.ip(), next_hop(1000))
        .unwrap();
    let spec = Spec {
        payload: 1000,
        ..Spec::tcp(client(1), WEB, SYN)
    };
    let outcome = run(Hook::Xdp, &tables, &spec.packet());
    assert_eq!(outcome.sent.len(), 1);
    assert_eq!(outcome.bytes[20] & 0x40, 0);
}

/// What a router between the director and a server says about a packet that was wrapped.
fn complaint(tables: &HostTables, mtu: u32, wrapped: &[u8]) -> Outcome {
    let quoted = &wrapped[..wrapped.len().min(528)];
    let packet = icmp([192, 168, 1, 77], DIRECTOR.octets(), 3, 4, mtu, quoted);
    send_frame(Hook::Xdp, tables, Frame::new(BACK, frame(&packet)))
}

#[test]
fn a_narrow_path_is_told_to_the_client_and_remembered_for_ten_minutes() {
    for kind in kinds() {
        let tables = director_with(Method::Tunnel(kind));
        let spec = Spec {
            payload: 1300,
            ..Spec::tcp(client(1), WEB, SYN)
        };
        let room = 1000 - overhead(kind) as u16;
        let sent = run(Hook::Xdp, &tables, &spec.packet());
        assert_eq!(sent.verdict, Verdict::Redirect(BACK));
        let told = complaint(&tables, 1000, &sent.bytes[14..]);
        assert_eq!(told.verdict, Verdict::Redirect(FRONT));
        let answer = &told.bytes[14..];
        assert_eq!(fault(answer), None);
        assert_eq!(answer[12..16], VIRTUAL.octets());
        assert_eq!(answer[20..22], [3, 4]);
        assert_eq!(answer[26..28], room.to_be_bytes());
        let quoted = &answer[28..];
        assert_eq!(quoted, &lowered(&spec)[..quoted.len()]);

        // The next one is told by the director itself.
        let again = forwarded(Hook::Xdp, &tables, &spec.packet(), FRONT);
        assert_eq!(again[26..28], room.to_be_bytes());
        // A wider one, or one that cannot be, does not change that.
        complaint(&tables, 1200, &sent.bytes[14..]);
        let again = forwarded(Hook::Xdp, &tables, &spec.packet(), FRONT);
        assert_eq!(again[26..28], room.to_be_bytes());
        complaint(&tables, 0, &sent.bytes[14..]);
        let again = forwarded(Hook::Xdp, &tables, &spec.packet(), FRONT);
        let least = 552 - overhead(kind) as u16;
        assert_eq!(again[26..28], least.to_be_bytes());

        tables.advance_ms(602_000);
        let sent = run(Hook::Xdp, &tables, &spec.packet());
        assert_eq!(sent.verdict, Verdict::Redirect(BACK));
    }
}

#[test]
fn a_client_that_lets_its_packets_be_fragmented_is_not_told() {
    let tables = director_with(Method::Tunnel(IPIP));
    let spec = Spec {
        dont_fragment: false,
        ..Spec::tcp(client(1), WEB, SYN)
    };
    let sent = run(Hook::Xdp, &tables, &spec.packet());
    let told = complaint(&tables, 1000, &sent.bytes[14..]);
    assert_eq!(told.verdict, Verdict::Drop(Reason::TunnelError));
}

#[test]
fn errors_about_tunnels_of_others_are_the_hosts() {
    let tables = director_with(Method::Tunnel(IPIP));
    let spec = Spec::tcp(client(1), WEB, SYN);
    let sent = run(Hook::Xdp, &tables, &spec.packet()).bytes[14..].to_vec();
    for (at, what) in [(12, "source"), (19, "server"), (39, "virtual address")] {
        let mut other = sent.clone();
        other[at] ^= 0x40;
        let told = complaint(&tables, 1000, &other);
        assert_eq!(
            told.verdict,
            Verdict::Pass(Reason::IcmpUnrelated),
            "another {what}"
        );
    }
    for length in 0..44 {
        let told = complaint(&tables, 1000, &sent[..length]);
        assert_eq!(told.verdict, Verdict::Pass(Reason::IcmpUnrelated));
    }
}

#[test]
fn a_way_that_is_missing_is_told() {
    for hook in Hook::ALL {
        let mut tables = director_with(Method::Gateway);
        tables.set_unreachable(*WEB_SERVER.ip()).unwrap();
        let spec = Spec::tcp(client(1), WEB, SYN);
        let answer = forwarded(hook, &tables, &spec.packet(), FRONT);
        assert_eq!(answer[20..22], [3, 1]);
        assert_eq!(tables.reason(Reason::NoRouteToServer), 1);
    }
}

#[test]
fn without_a_server_a_client_may_get_a_reset() {
    for hook in Hook::ALL {
        let tables = director();
        tables
            .settings()
            .settings
            .set(settings::DEFAULT | settings::RESET_WITHOUT_SERVER | settings::SLOPPY_TCP);
        let answer_to = |flags, payload| {
            let spec = Spec {
                payload,
                ..Spec::tcp(client(1), EMPTY, flags)
            };
            forwarded(hook, &tables, &spec.packet(), FRONT)
        };
        let reset = answer_to(SYN, 0);
        assert_eq!(reset.len(), 40);
        assert_eq!(reset[20..24], [0, 81, 0, 1]);
        assert_eq!(reset[24..28], [0; 4]);
        assert_eq!(reset[28..32], 1001u32.to_be_bytes());
        assert_eq!(reset[33], RST | ACK);
        let reset = answer_to(SYN | FIN, 10);
        assert_eq!(reset[28..32], 1012u32.to_be_bytes());
        let reset = answer_to(ACK, 10);
        assert_eq!(reset[24..28], 2000u32.to_be_bytes());
        assert_eq!((&reset[28..32], reset[33]), (&[0; 4][..], RST));
    }
}

#[test]
fn a_gateway_server_gets_the_packet_as_it_is() {
    for hook in Hook::ALL {
        let tables = director_with(Method::Gateway);
        let spec = Spec {
            without_checksum: true,
            ..Spec::udp(client(1), NAMES, 9)
        };
        let outcome = run(hook, &tables, &spec.packet());
        assert_eq!(outcome.verdict, Verdict::Redirect(BACK));
        assert_eq!(outcome.at_xdp, hook != Hook::Tc);
        assert_eq!(outcome.bytes[14..], lowered(&spec));
        let to = Ipv4Addr::from([
            outcome.bytes[30],
            outcome.bytes[31],
            outcome.bytes[32],
            outcome.bytes[33],
        ]);
        assert_eq!(to, VIRTUAL);
    }
}
