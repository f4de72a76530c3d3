//! Fragments: all of a datagram go to the same server, or none arrives whole.

use furiwake_engine::{
    host::{Hook, HostTables},
    pipeline::Verdict,
    reason::Reason,
};

use crate::{
    director::{
        BACK, FRONT, NAME_SERVER, NAMES, VIRTUAL, client, director, forwarded, next_hop, send,
    },
    wire::{Spec, fault, fragments, together},
};

fn request(without_checksum: bool) -> Vec<u8> {
    let spec = Spec::udp(client(1), NAMES, 3000);
    Spec {
        dont_fragment: false,
        without_checksum,
        ..spec
    }
    .packet()
}

fn through(hook: Hook, tables: &HostTables, parts: &[Vec<u8>], to: u32) -> Vec<u8> {
    let sent: Vec<_> = parts
        .iter()
        .map(|part| forwarded(hook, tables, part, to))
        .collect();
    together(&sent)
}

#[test]
fn fragments_in_order_arrive_whole_both_ways() {
    for hook in Hook::ALL {
        let tables = director();
        let arrived = through(hook, &tables, &fragments(&request(false), 1480), BACK);
        assert_eq!(fault(&arrived), None);
        assert_eq!(arrived[16..20], NAME_SERVER.ip().octets());
        assert_eq!(arrived[22..24], NAME_SERVER.port().to_be_bytes());
        assert_eq!(arrived[28..], request(false)[28..]);
        let spec = Spec::udp(NAME_SERVER, client(1), 3000);
        let reply = Spec {
            dont_fragment: false,
            ..spec
        }
        .packet();
        let arrived = through(hook, &tables, &fragments(&reply, 1480), FRONT);
        assert_eq!(fault(&arrived), None);
        assert_eq!(arrived[12..16], VIRTUAL.octets());
        assert_eq!(arrived[20..22], NAMES.port().to_be_bytes());
        // Counted as the packets that they are.
        assert_eq!(tables.connections().len(), 1);
    }
}

#[test]
fn fragments_of_a_datagram_without_checksum_stay_without() {
    let tables = director();
    let arrived = through(Hook::Tc, &tables, &fragments(&request(true), 1480), BACK);
    assert_eq!(fault(&arrived), Some("UDP has no checksum"));
    assert_eq!(arrived[28..], request(true)[28..]);
}

#[test]
fn a_fragment_before_the_first_is_left_to_the_host() {
    for hook in Hook::ALL {
        let tables = director();
        let parts = fragments(&request(false), 1480);
        let (verdict, _) = send(hook, &tables, &parts[1]);
        assert_eq!(verdict, Verdict::Pass(Reason::FragmentUnknown));
        assert!(tables.connections().is_empty());
        forwarded(hook, &tables, &parts[0], BACK);
        forwarded(hook, &tables, &parts[1], BACK);
    }
}

#[test]
fn fragments_of_another_datagram_are_not_taken_for_it() {
    let tables = director();
    let parts = fragments(&request(false), 1480);
    forwarded(Hook::Tc, &tables, &parts[0], BACK);
    let spec = Spec::udp(client(1), NAMES, 3000);
    let other = Spec {
        dont_fragment: false,
        id: 0x4321,
        ..spec
    }
    .packet();
    let (verdict, _) = send(Hook::Tc, &tables, &fragments(&other, 1480)[1]);
    assert_eq!(verdict, Verdict::Pass(Reason::FragmentUnknown));
}

#[test]
fn fragments_that_the_host_has_to_fragment_again_all_go_to_the_server() {
    for hook in Hook::ALL {
        let mut tables = director();
        tables
            .set_next_hop(*NAME_SERVER.ip(), next_hop(1400))
            .unwrap();
        let parts = fragments(&request(false), 1480);
        let sent: Vec<_> = parts.iter().map(|part| send(hook, &tables, part)).collect();
        let verdicts: Vec<_> = sent.iter().map(|s| s.0).collect();
        let by_host = Verdict::Stack(Reason::Fragmented);
        assert_eq!(verdicts, [by_host, by_host, Verdict::Redirect(BACK)]);
        let arrived = together(&sent.into_iter().map(|s| s.1).collect::<Vec<_>>());
        assert_eq!(fault(&arrived), None);
        assert_eq!(arrived[16..20], NAME_SERVER.ip().octets());
    }
}
