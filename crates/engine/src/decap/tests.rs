//! Packets of tunnels, written out, and what becomes of them.

use super::{
    Event::{self, *},
    Family, Settings, Verdict,
    host::{Frame, HostRules},
    mapped,
};
use crate::checksum::{fold, sum};

const DIRECTOR: [u8; 4] = [10, 0, 0, 1];
const HERE: [u8; 4] = [10, 0, 0, 2];
const CLIENT: [u8; 4] = [198, 51, 100, 7];
const VIP: [u8; 4] = [203, 0, 113, 5];
const DIRECTOR_6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const HERE_6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const CLIENT_6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const VIP_6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
const PORT: u16 = 6080;

fn v4(address: [u8; 4]) -> super::Address {
    mapped(u32::from_ne_bytes(address))
}

fn v6(address: [u8; 16]) -> super::Address {
    core::array::from_fn(|i| u32::from_ne_bytes(address[i * 4..][..4].try_into().unwrap()))
}

fn rules() -> HostRules {
    let settings = Settings {
        kinds: Settings::IPIP | Settings::GUE | Settings::GRE,
        gue_port: PORT.to_be().into(),
        restricted: 0,
    };
    HostRules::new(settings, &[v4(VIP), v6(VIP_6)], &[v4(HERE), v6(HERE_6)])
}

/// An IPv4 packet.
fn ip4(from: [u8; 4], to: [u8; 4], protocol: u8, tos: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut bytes = vec![0x45, tos];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0x12, 0x34, 0, 0, 64, protocol, 0, 0]);
    bytes.extend(from);
    bytes.extend(to);
    finish(&mut bytes, 10);
    bytes.extend(payload);
    bytes
}

/// Write the checksum of an IPv4 header.
fn finish(bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].fill(0);
    let checksum = !fold(sum(bytes));
    bytes[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
}

/// An IPv6 packet.
fn ip6(from: [u8; 16], to: [u8; 16], protocol: u8, class: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60 | class >> 4, class << 4, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([protocol, 64]);
    bytes.extend(from);
    bytes.extend(to);
    bytes.extend(payload);
    bytes
}

/// A UDP datagram with its checksum, or the sum of its pseudo header alone.
fn udp(from: &[u8], to: &[u8], port: u16, payload: &[u8], is_finished: bool) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut bytes = 5000u16.to_be_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    let mut pseudo = [from, to, &[0, 17], &length.to_be_bytes()].concat();
    if is_finished {
        pseudo.extend(&bytes);
    }
    let sum = fold(sum(&pseudo));
    let field = if is_finished { !sum } else { sum };
    bytes[6..8].copy_from_slice(&field.to_ne_bytes());
    bytes
}

fn request() -> Vec<u8> {
    request_with(0)
}

fn request_with(tos: u8) -> Vec<u8> {
    ip4(
        CLIENT,
        VIP,
        17,
        tos,
        &udp(&CLIENT, &VIP, 80, b"furiwake", true),
    )
}

fn request_6() -> Vec<u8> {
    ip6(
        CLIENT_6,
        VIP_6,
        17,
        0,
        &udp(&CLIENT_6, &VIP_6, 80, b"furiwake", true),
    )
}

fn frame(packet: &[u8]) -> Frame {
    let ethertype = if packet[0] >> 4 == 4 {
        Family::V4
    } else {
        Family::V6
    };
    let mut bytes = vec![2; 12];
    bytes.extend(ethertype.ethertype().to_ne_bytes());
    bytes.extend(packet);
    Frame {
        bytes,
        ..Frame::default()
    }
}

/// GUE version 0 with these first four bytes and fields.
fn gue(head: [u8; 4], fields: &[u8], inner: &[u8]) -> Vec<u8> {
    let payload = [&head, fields, inner].concat();
    let mut bytes = udp(&DIRECTOR, &HERE, PORT, &payload, true);
    bytes[6..8].fill(0);
    bytes
}

fn outside(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip4(DIRECTOR, HERE, protocol, 0, payload)
}

fn outside_6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip6(DIRECTOR_6, HERE_6, protocol, 0, payload)
}

/// The frame comes out as the inner packet.
#[track_caller]
fn delivers(outer: &[u8], inner: &[u8], kind: Event) {
    let rules = rules();
    let mut got = frame(outer);
    let verdict = rules.receive(&mut got);
    assert_eq!(
        (verdict, rules.counts()),
        (Verdict::Deliver, vec![(kind, 1, inner.len() as u64)])
    );
    assert_eq!(got, frame(inner));
}

/// The frame stays as it is, for this reason.
#[track_caller]
fn refuses(outer: &[u8], event: Event) {
    refuses_by(&rules(), outer, event);
}

#[track_caller]
fn refuses_by(rules: &HostRules, outer: &[u8], event: Event) {
    let mut got = frame(outer);
    let verdict = rules.receive(&mut got);
    let wanted = if event.drops() {
        Verdict::Drop
    } else {
        Verdict::Leave
    };
    let counts = if event == None {
        vec![]
    } else {
        vec![(event, 1, 0)]
    };
    assert_eq!((verdict, rules.counts()), (wanted, counts));
    assert_eq!(got, frame(outer));
}

#[test]
fn ipip_of_any_family_in_any_is_taken_out() {
    delivers(&outside(4, &request()), &request(), Ipip);
    delivers(&outside(41, &request_6()), &request_6(), Ipip);
    delivers(&outside_6(4, &request()), &request(), Ipip);
    delivers(&outside_6(41, &request_6()), &request_6(), Ipip);
}

#[test]
fn options_of_the_outer_header_go_with_it() {
    let mut outer = outside(4, &[&[1; 8], &request()[..]].concat());
    outer[0] = 0x47;
    let header = &mut outer[..28];
    finish(header, 10);
    delivers(&outer, &request(), Ipip);
    // The limit on nesting that ip6tnl sends.
    let options = [&[4, 0, 4, 1, 4, 1, 0, 0], &request()[..]].concat();
    delivers(&outside_6(60, &options), &request(), Ipip);
}

#[test]
fn gre_is_taken_out_and_its_checksum_verified() {
    delivers(
        &outside(47, &[&[0, 0, 8, 0], &request()[..]].concat()),
        &request(),
        Gre,
    );
    delivers(
        &outside(47, &[&[0, 0, 0x86, 0xdd], &request_6()[..]].concat()),
        &request_6(),
        Gre,
    );
    let mut payload = [&[0x80, 0, 8, 0, 0, 0, 0, 0], &request()[..]].concat();
    finish(&mut payload, 4);
    delivers(&outside(47, &payload), &request(), Gre);
    delivers(&outside_6(47, &payload), &request(), Gre);
    payload[5] ^= 1;
    refuses(&outside(47, &payload), BadChecksum);
    let mut verified = frame(&outside(47, &payload));
    verified.is_verified = true;
    assert_eq!(rules().receive(&mut verified), Verdict::Deliver);
}

#[test]
fn gre_with_key_numbers_or_another_version_is_somebody_elses() {
    for head in [0x2000u16, 0x1000, 0x4000, 0x0400, 0x0001] {
        let [high, low] = head.to_be_bytes();
        let payload = [&[high, low, 8, 0, 0, 0, 0, 0], &request()[..]].concat();
        refuses(&outside(47, &payload), Unsupported);
    }
    // Bits that a receiver must ignore.
    let payload = [&[0x03, 0xf8, 8, 0], &request()[..]].concat();
    delivers(&outside(47, &payload), &request(), Gre);
    // Transparent Ethernet bridging.
    refuses(
        &outside(47, &[&[0, 0, 0x65, 0x58], &request()[..]].concat()),
        Unsupported,
    );
}

#[test]
fn gue_of_both_versions_is_taken_out() {
    delivers(
        &outside(17, &gue([0, 4, 0, 0], &[], &request())),
        &request(),
        Gue,
    );
    delivers(
        &outside(17, &gue([0, 41, 0, 0], &[], &request_6())),
        &request_6(),
        Gue,
    );
    delivers(
        &outside_6(17, &gue([0, 4, 0, 0], &[], &request())),
        &request(),
        Gue,
    );
    let direct = |inner: &[u8]| {
        let mut bytes = udp(&DIRECTOR, &HERE, PORT, inner, true);
        bytes[6..8].fill(0);
        outside(17, &bytes)
    };
    delivers(&direct(&request()), &request(), Gue);
    delivers(&direct(&request_6()), &request_6(), Gue);
}

#[test]
fn gue_fields_are_skipped_and_unknown_flags_refused() {
    // Words beyond those that flags name.
    delivers(
        &outside(17, &gue([2, 4, 0, 0], &[7; 8], &request())),
        &request(),
        Gue,
    );
    delivers(
        &outside(17, &gue([1, 4, 0, 1], &[0; 4], &request())),
        &request(),
        Gue,
    );
    for (head, fields, event) in [
        ([0x20, 4, 0, 0], &[][..], Unsupported),
        ([0, 47, 0, 0], &[], Unsupported),
        ([1, 4, 0x80, 0], &[0; 4], Unsupported),
        ([1, 4, 0, 1], &[0x40, 0, 0, 0], Unsupported),
        ([0, 4, 0, 1], &[], Malformed),
        ([1, 4, 0, 1], &[0x80, 0, 0, 0], Malformed),
        ([0xc0, 4, 0, 0], &[], Unsupported),
    ] {
        refuses(&outside(17, &gue(head, fields, &request())), event);
    }
}

#[test]
fn the_checksum_of_gue_is_verified() {
    let payload = [&[0, 4, 0, 0], &request()[..]].concat();
    let mut bytes = udp(&DIRECTOR, &HERE, PORT, &payload, true);
    delivers(&outside(17, &bytes), &request(), Gue);
    bytes[7] ^= 1;
    refuses(&outside(17, &bytes), BadChecksum);
    let bytes = udp(&DIRECTOR_6, &HERE_6, PORT, &payload, true);
    delivers(&outside_6(17, &bytes), &request(), Gue);
    // Left to the hardware by somebody on this machine.
    let bytes = udp(&DIRECTOR, &HERE, PORT, &payload, false);
    delivers(&outside(17, &bytes), &request(), Gue);
    for protocol in [17, 47] {
        let inner = ip4(
            CLIENT,
            VIP,
            17,
            0,
            &udp(&CLIENT, &VIP, 80, b"furiwake", false),
        );
        let mut payload = if protocol == 17 {
            udp(
                &DIRECTOR,
                &HERE,
                PORT,
                &[&[0, 4, 0, 0], &inner[..]].concat(),
                true,
            )
        } else {
            [&[0x80, 0, 8, 0, 0, 0, 0, 0], &inner[..]].concat()
        };
        // A checksum for what the hardware would have made of it.
        payload[if protocol == 17 { 6 } else { 4 }] = 0x55;
        let kind = if protocol == 17 { Gue } else { Gre };
        delivers(&outside(protocol, &payload), &inner, kind);
    }
}

#[test]
fn remote_checksums_are_finished() {
    let unfinished = ip4(
        CLIENT,
        VIP,
        17,
        0,
        &udp(&CLIENT, &VIP, 80, b"furiwake", false),
    );
    let fields = [0x80, 0, 0, 0, 0, 20, 0, 26];
    let outer = outside(17, &gue([2, 4, 0, 1], &fields, &unfinished));
    delivers(&outer, &request(), Gue);
    let unfinished = ip6(
        CLIENT_6,
        VIP_6,
        17,
        0,
        &udp(&CLIENT_6, &VIP_6, 80, b"furiwake", false),
    );
    let fields_6 = [0x80, 0, 0, 0, 0, 40, 0, 46];
    let outer = outside(17, &gue([2, 41, 0, 1], &fields_6, &unfinished));
    delivers(&outer, &request_6(), Gue);
    for [start, field] in [[20, 28], [19, 26], [22, 28], [20, 0]] {
        let fields = [0x80, 0, 0, 0, 0, start, 0, field];
        refuses(
            &outside(17, &gue([2, 4, 0, 1], &fields, &request())),
            Malformed,
        );
    }
}

#[test]
fn what_is_not_for_a_virtual_address_stays_in_its_tunnel() {
    let other = ip4(CLIENT, [203, 0, 113, 6], 17, 0, b"");
    refuses(&outside(4, &other), NotVirtual);
    // The address of another family that looks alike.
    let mut rules = rules();
    rules.virtuals = vec![v6(VIP_6)];
    refuses_by(&rules, &outside(4, &request()), NotVirtual);
}

#[test]
fn only_tunnels_to_this_host_from_allowed_senders_are_ended() {
    refuses(&ip4(DIRECTOR, [10, 0, 0, 3], 4, 0, &request()), NotLocal);
    let mut rules = rules();
    rules.settings.restricted = 1;
    rules.senders = vec![v4([10, 0, 0, 9])];
    refuses_by(&rules, &outside(4, &request()), SenderNotAllowed);
    rules.senders = vec![v4(DIRECTOR)];
    assert_eq!(
        rules.receive(&mut frame(&outside(4, &request()))),
        Verdict::Deliver
    );
    let mut foreign = frame(&outside(4, &request()));
    foreign.is_foreign = true;
    assert_eq!(rules.receive(&mut foreign), Verdict::Leave);
}

#[test]
fn kinds_that_were_not_asked_for_and_other_packets_pass_uncounted() {
    let mut rules = rules();
    rules.settings.kinds = Settings::GUE;
    refuses_by(&rules, &outside(4, &request()), None);
    refuses_by(
        &rules,
        &outside(47, &[&[0, 0, 8, 0], &request()[..]].concat()),
        None,
    );
    rules.settings.kinds = Settings::IPIP;
    refuses_by(
        &rules,
        &outside(17, &gue([0, 4, 0, 0], &[], &request())),
        None,
    );
    refuses(&request(), None);
    refuses(&request_6(), None);
    refuses(
        &outside(17, &udp(&DIRECTOR, &HERE, 53, &request(), true)),
        None,
    );
}

#[test]
fn fragments_of_tunnels_are_left_to_the_stack() {
    for fragment in [[0x20, 0], [0, 8]] {
        let mut outer = outside(4, &request());
        outer[6..8].copy_from_slice(&fragment);
        finish(&mut outer[..20], 10);
        refuses(&outer, Fragment);
    }
    let header = |offset: u8| [4, 0, 0, offset, 0, 0, 0, 1];
    refuses(
        &outside_6(44, &[&header(1), &request()[..]].concat()),
        Fragment,
    );
    refuses(
        &outside_6(44, &[&header(8), &request()[..]].concat()),
        Fragment,
    );
    // Of UDP only the first tells its port; the others may be of anything.
    let mut outer = outside(17, &gue([0, 4, 0, 0], &[], &request()));
    for (fragment, event) in [([0x20, 0], Fragment), ([0, 8], None)] {
        outer[6..8].copy_from_slice(&fragment);
        finish(&mut outer[..20], 10);
        refuses(&outer, event);
    }
}

#[test]
fn headers_that_are_short_or_wrong_are_left_to_the_stack() {
    let good = outside(4, &request());
    refuses(&good[..39], Malformed);
    let mut wrong = good.clone();
    wrong[10] ^= 1;
    refuses(&wrong, Malformed);
    let mut longer = good.clone();
    longer[3] += 1;
    finish(&mut longer[..20], 10);
    refuses(&longer, Malformed);
    refuses(&outside(41, &request()), Malformed);
    refuses(&outside(47, &[0, 0]), Malformed);
    refuses(
        &outside(17, &gue([31, 4, 0, 0], &[], &request())),
        Malformed,
    );
}

#[test]
fn congestion_on_the_way_is_told_to_the_inner_packet() {
    const NOT_ECT: u8 = 0;
    const ECT_1: u8 = 1;
    const ECT_0: u8 = 2;
    const CE: u8 = 3;
    // RFC 6040, figure 4: inner, outer, what becomes of it.
    let rows = [
        (NOT_ECT, NOT_ECT, Some(NOT_ECT)),
        (NOT_ECT, ECT_0, Some(NOT_ECT)),
        (NOT_ECT, ECT_1, Some(NOT_ECT)),
        (NOT_ECT, CE, Option::None),
        (ECT_0, NOT_ECT, Some(ECT_0)),
        (ECT_0, ECT_0, Some(ECT_0)),
        (ECT_0, ECT_1, Some(ECT_1)),
        (ECT_0, CE, Some(CE)),
        (ECT_1, NOT_ECT, Some(ECT_1)),
        (ECT_1, ECT_0, Some(ECT_1)),
        (ECT_1, ECT_1, Some(ECT_1)),
        (ECT_1, CE, Some(CE)),
        (CE, NOT_ECT, Some(CE)),
        (CE, ECT_0, Some(CE)),
        (CE, ECT_1, Some(CE)),
        (CE, CE, Some(CE)),
    ];
    for (inner, outer, becomes) in rows {
        const DSCP: u8 = 0xb8;
        let inner_6 = |ecn| ip6(CLIENT_6, VIP_6, 17, DSCP | ecn, b"furiwake");
        let packets = [
            ip4(DIRECTOR, HERE, 4, outer, &request_with(DSCP | inner)),
            ip6(DIRECTOR_6, HERE_6, 41, outer, &inner_6(inner)),
        ];
        match becomes {
            Some(ecn) => {
                delivers(&packets[0], &request_with(DSCP | ecn), Ipip);
                delivers(&packets[1], &inner_6(ecn), Ipip);
            }
            Option::None => packets.iter().for_each(|p| refuses(p, Congestion)),
        }
    }
}

#[test]
fn super_packets_may_be_longer_than_their_headers_say() {
    let mut outer = outside(4, &request());
    outer[2..4].fill(0);
    finish(&mut outer[..20], 10);
    let mut got = frame(&outer);
    got.is_segmented = true;
    assert_eq!(rules().receive(&mut got), Verdict::Deliver);
    assert_eq!(got.bytes, frame(&request()).bytes);
}

#[test]
fn super_packets_of_datagrams_in_gue_are_refused() {
    let mut got = frame(&outside(17, &gue([0, 4, 0, 0], &[], &request())));
    got.is_segmented = true;
    let rules = rules();
    assert_eq!(rules.receive(&mut got), Verdict::Drop);
    assert_eq!(rules.counts(), [(Failed, 1, 0)]);
}

#[test]
fn events_are_numbered_in_order_and_named_apart() {
    let mut names: Vec<_> = Event::ALL.iter().map(|event| event.name()).collect();
    for (number, event) in Event::ALL.iter().enumerate() {
        assert_eq!(*event as usize, number);
        assert!(!event.meaning().is_empty());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Event::ALL.len());
}

mod anything {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_what_is_left_is_untouched(
            kind in 0usize..4,
            noise in proptest::collection::vec((0usize..120, any::<u8>()), 0..6),
            length in 0usize..140,
            is_segmented: bool,
        ) {
            let mut outer = match kind {
                0 => outside(4, &request()),
                1 => outside(47, &[&[0x80, 0, 8, 0, 0, 0, 0, 0], &request()[..]].concat()),
                2 => outside(17, &gue([2, 4, 0, 1], &[0x80, 0, 0, 0, 0, 20, 0, 26], &request())),
                _ => outside_6(17, &gue([0, 41, 0, 0], &[], &request_6())),
            };
            for (at, byte) in noise {
                if let Some(old) = outer.get_mut(at) {
                    *old = byte;
                }
            }
            if outer[0] >> 4 == 4 {
                finish(&mut outer[..20], 10);
            }
            outer.truncate(length);
            let mut got = frame(&[outer, vec![0]].concat());
            got.is_segmented = is_segmented;
            let before = got.clone();
            match rules().receive(&mut got) {
                Verdict::Deliver => prop_assert!(got.bytes.len() < before.bytes.len()),
                Verdict::Leave => prop_assert_eq!(got, before),
                Verdict::Drop => {}
            }
        }
    }
}
