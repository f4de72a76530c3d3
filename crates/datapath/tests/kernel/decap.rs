//! Decapsulation: the program and the engine on the host make the same of every packet.

use furiwake_datapath::{
    decap::{Decap, Options, Tunnel},
    trial::Arrival,
};
use furiwake_engine::decap::{
    Address, Event, Settings, Verdict,
    host::{Frame, HostRules},
    mapped,
};

use crate::{
    network::{Wire, in_network},
    packet::{self, checksum, ip, udp},
};

const CLIENT: &str = "198.51.100.7:5000";
const VIP: &str = "203.0.113.5:80";
const DIRECTOR: [u8; 4] = [10, 0, 0, 100];
const HERE: [u8; 4] = [10, 0, 0, 1];
const PORT: u16 = 6080;
/// One address ends in these, the rest is 2001:db8::.
const CLIENT_6: u8 = 7;
const VIP_6: u8 = 5;
const DIRECTOR_6: u8 = 1;
const HERE_6: u8 = 2;

fn address_6(last: u8) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

/// The engine on the host and the program, configured alike.
struct Both {
    host: HostRules,
    kernel: Decap,
}

impl Both {
    fn new() -> Self {
        Self::with_senders(&[])
    }

    fn with_senders(senders: &[[u8; 4]]) -> Self {
        let options = Options {
            virtuals: vec!["203.0.113.5".parse().unwrap(), address_6(VIP_6).into()],
            senders: senders
                .iter()
                .map(|sender| ((*sender).into(), 32))
                .collect(),
            tunnels: vec![Tunnel::Ipip, Tunnel::Gue, Tunnel::Gre],
            gue_port: PORT,
        };
        let settings = Settings {
            kinds: Settings::IPIP | Settings::GUE | Settings::GRE,
            gue_port: PORT.to_be().into(),
            restricted: u32::from(!senders.is_empty()),
        };
        let virtuals = [v4([203, 0, 113, 5]), v6(VIP_6)];
        let mut host = HostRules::new(settings, &virtuals, &[v4(HERE), v6(HERE_6)]);
        host.senders = senders.iter().map(|sender| v4(*sender)).collect();
        Self {
            host,
            kernel: Decap::load(&options).unwrap(),
        }
    }

    /// What both make of a packet: it must be the same.
    fn receive(&self, packet: &[u8]) -> (Verdict, Vec<u8>) {
        const UNSPEC: i32 = -1;
        const SHOT: i32 = 2;
        const REDIRECT: i32 = 7;
        let bytes = frame(packet);
        let mut frame = Frame {
            bytes: bytes.clone(),
            ..Frame::default()
        };
        let verdict = self.host.receive(&mut frame);
        let answer = self.kernel.try_frame(&Arrival {
            ifindex: Wire::Front.ifindex(),
            frame: &bytes,
            segment_size: None,
        });
        let answer = answer.unwrap();
        match verdict {
            Verdict::Drop => assert_eq!(answer.action, SHOT, "{packet:02x?}"),
            Verdict::Leave => assert_eq!(answer.action, UNSPEC, "{packet:02x?}"),
            Verdict::Deliver => assert!(
                matches!(answer.action, UNSPEC | REDIRECT),
                "{} {packet:02x?}",
                answer.action
            ),
        }
        if verdict != Verdict::Drop {
            assert_eq!(answer.frame, frame.bytes, "{packet:02x?}");
        }
        let counts: Vec<_> = self.kernel.counts().unwrap();
        let counts: Vec<_> = counts
            .iter()
            .filter(|count| count.packets > 0)
            .map(|count| (count.name, count.packets))
            .collect();
        let on_host: Vec<_> = self.host.counts();
        let on_host: Vec<_> = on_host
            .iter()
            .map(|(event, packets, _)| (event.name(), *packets))
            .collect();
        assert_eq!(counts, on_host, "{packet:02x?}");
        (verdict, frame.bytes)
    }

    #[track_caller]
    fn delivers(&self, outer: &[u8], inner: &[u8]) {
        assert_eq!(self.receive(outer), (Verdict::Deliver, frame(inner)));
    }

    #[track_caller]
    fn refuses(&self, outer: &[u8], event: Event) {
        let count = || {
            let counts = self.host.counts();
            counts
                .iter()
                .find(|(e, ..)| *e == event)
                .map_or(0, |(_, packets, _)| *packets)
        };
        let before = count();
        let verdict = if event.drops() {
            Verdict::Drop
        } else {
            Verdict::Leave
        };
        assert_eq!(self.receive(outer), (verdict, frame(outer)));
        assert_eq!(count(), before + 1);
    }
}

fn v4(address: [u8; 4]) -> Address {
    mapped(u32::from_ne_bytes(address))
}

fn v6(last: u8) -> Address {
    let bytes = address_6(last);
    std::array::from_fn(|i| u32::from_ne_bytes(bytes[i * 4..][..4].try_into().unwrap()))
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let mut bytes = packet::frame(Wire::Front.mac(), [2, 4, 10, 0, 0, 100], packet);
    if packet.first().is_some_and(|first| first >> 4 == 6) {
        bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
    }
    bytes
}

fn request() -> Vec<u8> {
    udp(CLIENT, VIP).packet()
}

fn ip6(from: u8, to: u8, protocol: u8, class: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60 | class >> 4, class << 4, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([protocol, 64]);
    bytes.extend(address_6(from));
    bytes.extend(address_6(to));
    bytes.extend(payload);
    bytes
}

fn request_6() -> Vec<u8> {
    let mut datagram = vec![0x13, 0x88, 0, 80, 0, 16, 0, 0];
    datagram.extend(b"furiwake");
    let pseudo = [
        &address_6(CLIENT_6),
        &address_6(VIP_6),
        &[0, 17, 0, 16][..],
        &datagram,
    ]
    .concat();
    let sum = checksum(&pseudo).to_be_bytes();
    datagram[6..8].copy_from_slice(&sum);
    ip6(CLIENT_6, VIP_6, 17, 0, &datagram)
}

fn outside(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip(DIRECTOR.into(), HERE.into(), protocol, 64, 0, &[], payload)
}

fn outside_6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip6(DIRECTOR_6, HERE_6, protocol, 0, payload)
}

/// GUE with or without a checksum, for the IPv4 ends.
fn gue(head: [u8; 4], fields: &[u8], inner: &[u8], has_checksum: bool) -> Vec<u8> {
    let payload = [&head, fields, inner].concat();
    let length = (8 + payload.len()) as u16;
    let mut bytes = 40000u16.to_be_bytes().to_vec();
    bytes.extend(PORT.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    if has_checksum {
        let pseudo = [
            &DIRECTOR[..],
            &HERE,
            &[0, 17],
            &length.to_be_bytes()[..],
            &bytes,
        ]
        .concat();
        let sum = checksum(&pseudo).to_be_bytes();
        bytes[6..8].copy_from_slice(&sum);
    }
    bytes
}

fn gre(inner: &[u8], has_checksum: bool) -> Vec<u8> {
    let protocol: [u8; 2] = if inner[0] >> 4 == 4 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    };
    if !has_checksum {
        return [&[0, 0], &protocol, inner].concat();
    }
    let mut bytes = [&[0x80, 0], &protocol, &[0, 0, 0, 0][..], inner].concat();
    let sum = checksum(&bytes).to_be_bytes();
    bytes[4..6].copy_from_slice(&sum);
    bytes
}

/// The request as a sender with remote checksum offload sends it.
fn remote() -> Vec<u8> {
    let mut inner = request();
    let pseudo = [&inner[12..20], &[0, 17, 0, 16]].concat();
    let sum = (!checksum(&pseudo)).to_be_bytes();
    inner[26..28].copy_from_slice(&sum);
    gue([2, 4, 0, 1], &[0x80, 0, 0, 0, 0, 20, 0, 26], &inner, false)
}

#[test]
fn every_tunnel_is_taken_out_of_the_kernel_as_on_the_host() {
    in_network(|| {
        let both = Both::new();
        let inners = [request(), request_6()];
        for (inner, protocol) in inners.iter().zip([4, 41]) {
            both.delivers(&outside(protocol, inner), inner);
            both.delivers(&outside_6(protocol, inner), inner);
            for has_checksum in [false, true] {
                both.delivers(&outside(47, &gre(inner, has_checksum)), inner);
                both.delivers(&outside_6(47, &gre(inner, has_checksum)), inner);
                let payload = gue([0, protocol, 0, 0], &[], inner, has_checksum);
                both.delivers(&outside(17, &payload), inner);
            }
            let payload = gue([2, protocol, 0, 0], &[1; 8], inner, true);
            both.delivers(&outside(17, &payload), inner);
        }
        both.delivers(&outside(17, &remote()), &request());
        let large = udp(CLIENT, VIP).payload(1400).packet();
        both.delivers(&outside(17, &gue([0, 4, 0, 0], &[], &large, true)), &large);
        let options = [1; 40];
        let outer = ip(DIRECTOR.into(), HERE.into(), 4, 64, 0, &options, &request());
        both.delivers(&outer, &request());
    });
}

#[test]
fn what_is_not_taken_out_has_a_counted_reason() {
    in_network(|| {
        let both = Both::new();
        let elsewhere = udp(CLIENT, "203.0.113.6:80").packet();
        both.refuses(&outside(4, &elsewhere), Event::NotVirtual);
        // Forwarded to a neighbour, were it not for us.
        let to = |host: [u8; 4]| ip(DIRECTOR.into(), host.into(), 4, 64, 0, &[], &request());
        both.refuses(&to([192, 168, 1, 1]), Event::NotLocal);
        both.refuses(&to([172, 16, 0, 1]), Event::NotLocal);
        let fragment = ip(DIRECTOR.into(), HERE.into(), 4, 64, 0x2000, &[], &request());
        both.refuses(&fragment, Event::Fragment);
        let mut keyed = gre(&request(), true);
        keyed[0] = 0x20;
        both.refuses(&outside(47, &keyed), Event::Unsupported);
        let mut wrong = gre(&request(), true);
        wrong[4] ^= 1;
        both.refuses(&outside(47, &wrong), Event::BadChecksum);
        both.refuses(&outside(4, &request()[..18]), Event::Malformed);
        let mut congested = outside(4, &request());
        congested[1] = 3;
        congested[10..12].fill(0);
        let sum = checksum(&congested[..20]).to_be_bytes();
        congested[10..12].copy_from_slice(&sum);
        both.refuses(&congested, Event::Congestion);
        assert_eq!(both.receive(&request()).0, Verdict::Leave);
        let counts = both.kernel.counts().unwrap();
        assert!(counts.iter().all(|count| count.name != "none"));
    });
}

#[test]
fn senders_that_are_not_named_are_refused() {
    in_network(|| {
        let both = Both::with_senders(&[DIRECTOR]);
        both.delivers(&outside(4, &request()), &request());
        let other = [10, 0, 0, 101];
        let outer = ip(other.into(), HERE.into(), 4, 64, 0, &[], &request());
        both.refuses(&outer, Event::SenderNotAllowed);
    });
}

#[test]
fn damaged_packets_fare_alike_on_the_host_and_in_the_kernel() {
    in_network(|| {
        let both = Both::new();
        let seeds = [
            outside(4, &request()),
            outside(41, &request_6()),
            outside(47, &gre(&request(), true)),
            outside(17, &gue([0, 4, 0, 0], &[], &request(), true)),
            outside(17, &remote()),
            outside_6(47, &gre(&request_6(), true)),
            outside_6(4, &request()),
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as usize % below
        };
        let mut delivered = 0;
        for turn in 0..6000 {
            let mut packet = seeds[turn % seeds.len()].clone();
            let is_v4 = packet[0] >> 4 == 4;
            for _ in 0..random(3) {
                let at = random(packet.len());
                // Whom it is for stays, and so does what routing says about that.
                let destination = if is_v4 { 16..20 } else { 24..40 };
                if !destination.contains(&at) && at != 0 {
                    packet[at] = random(256) as u8;
                }
            }
            if is_v4 && random(8) != 0 {
                packet[10..12].fill(0);
                let sum = checksum(&packet[..20]).to_be_bytes();
                packet[10..12].copy_from_slice(&sum);
            }
            if random(16) == 0 {
                // Trials need the whole outer header.
                let header = if is_v4 { 20 } else { 40 };
                packet.truncate(header + random(packet.len() - header));
            }
            delivered += u32::from(both.receive(&packet).0 == Verdict::Deliver);
        }
        assert!(delivered > 1000, "{delivered}");
    });
}

#[test]
fn the_directors_maps_are_made_with_room_for_nothing() {
    in_network(|| {
        let large: Vec<_> = Both::new().kernel.map_sizes();
        let large: Vec<_> = large
            .iter()
            .filter(|(name, size)| *size > 8 && !name.starts_with("DECAP_"))
            .collect();
        assert!(
            large.is_empty(),
            "{large:?}: say in load.rs that they are the director's"
        );
    });
}
