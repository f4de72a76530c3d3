//! Checksums that hardware was to finish: veth hands them over as they are.

use furiwake_engine::{
    host::{Frame, Hook},
    pipeline::Verdict,
};

use crate::{
    director::{
        BACK, FRONT, NAME_SERVER, NAMES, WEB, WEB_SERVER, client, director, frame, send_frame,
    },
    wire::{ACK, SYN, Spec, TCP, fault, l4_sum, pseudo_header, sum},
};

/// A frame whose TCP or UDP checksum is the sum of the pseudo header.
fn unfinished(spec: &Spec) -> Frame {
    let mut packet = spec.packet();
    let (ip, l4) = packet.split_at_mut(20);
    let partial = sum(&pseudo_header(ip, l4.len()));
    let at = checksum_at(spec);
    l4[at..at + 2].copy_from_slice(&partial.to_be_bytes());
    Frame {
        is_unfinished: true,
        ..Frame::new(FRONT, frame(&packet))
    }
}

fn checksum_at(spec: &Spec) -> usize {
    if spec.protocol == TCP { 16 } else { 6 }
}

/// Do what the hardware does.
fn finish(packet: &mut [u8], at: usize) {
    let (ip, l4) = packet.split_at_mut(20);
    let partial = u16::from_be_bytes([l4[at], l4[at + 1]]);
    assert_eq!(partial, sum(&pseudo_header(ip, l4.len())));
    l4[at..at + 2].fill(0);
    let checksum = l4_sum(ip, l4);
    l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn unfinished_checksums_can_be_finished_after_masquerading() {
    let packets = [
        (Spec::tcp(client(1), WEB, SYN), BACK),
        (Spec::tcp(WEB_SERVER, client(1), SYN | ACK), FRONT),
        (Spec::udp(client(1), NAMES, 33), BACK),
        (Spec::udp(NAME_SERVER, client(1), 34), FRONT),
    ];
    for hook in [Hook::XdpVeth, Hook::Tc] {
        let tables = director();
        for (spec, to) in &packets {
            let outcome = send_frame(hook, &tables, unfinished(spec));
            assert_eq!(outcome.verdict, Verdict::Redirect(*to));
            assert!(
                !outcome.at_xdp,
                "XDP cannot tell that it is unfinished to who comes next"
            );
            let mut packet = outcome.bytes[14..].to_vec();
            finish(&mut packet, checksum_at(spec));
            assert_eq!(fault(&packet), None);
        }
    }
}

#[test]
fn finished_checksums_are_dealt_with_at_xdp_also_on_veth() {
    let tables = director();
    let request = frame(&Spec::tcp(client(1), WEB, SYN).packet());
    let outcome = send_frame(Hook::XdpVeth, &tables, Frame::new(FRONT, request));
    assert!(outcome.at_xdp);
    assert_eq!(fault(&outcome.bytes[14..]), None);
}
