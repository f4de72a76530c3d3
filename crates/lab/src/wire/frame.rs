//! A frame as far as the lab looks into it.

use std::{fmt, net::Ipv4Addr};

use crate::topology::TunnelKind;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// What a frame carries, and from whom to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// Who sent it, as it says itself.
    pub source: Mac,
    /// To whom.
    pub destination: Mac,
    /// What is in it.
    pub payload: Payload,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payload {
    /// An ARP message.
    Arp(Arp),
    /// An IPv4 packet.
    Ip(Ip),
    /// An IPv4 packet in another one.
    Tunnel(Encapsulated),
}

/// An ARP message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arp {
    /// Whether it answers; it asks otherwise.
    pub reply: bool,
    /// The address that it says is the sender's.
    pub sender: Ipv4Addr,
    /// And that it asks for, or that asked.
    pub target: Ipv4Addr,
}

/// An IPv4 packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ip {
    /// From.
    pub source: Ipv4Addr,
    /// To.
    pub destination: Ipv4Addr,
    /// Number of the protocol in it.
    pub protocol: u8,
    /// Type and code, if it is ICMP.
    pub icmp: Option<(u8, u8)>,
}

/// A packet in a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encapsulated {
    /// How it is wrapped.
    pub kind: TunnelKind,
    /// The outer packet.
    pub outer: Ip,
    /// The inner packet.
    pub inner: Ip,
    /// Bytes from the start of the outer packet to that of the inner one.
    pub overhead: u16,
    /// Whether both packets say how long they are, and the frame is that long.
    pub lengths_agree: bool,
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPIP: u8 = 4;
const GRE: u8 = 47;
const ETHERNET: usize = 14;

impl Frame {
    /// Reads the beginning of a frame that is `length` bytes long; nothing of what the lab does not look at.
    #[must_use]
    pub fn parse(bytes: &[u8], length: usize, gue: Option<u16>) -> Option<Self> {
        let payload = bytes.get(ETHERNET..)?;
        let payload = match number(bytes, 12)? {
            0x0806 => Payload::Arp(Arp {
                reply: number(payload, 6)? == 2,
                sender: address(payload, 14)?,
                target: address(payload, 24)?,
            }),
            0x0800 => match encapsulated(payload, length.saturating_sub(ETHERNET), gue) {
                Some(packet) => Payload::Tunnel(packet),
                None => Payload::Ip(ip(payload)?),
            },
            _ => return None,
        };
        Some(Self {
            source: mac(bytes, 6)?,
            destination: mac(bytes, 0)?,
            payload,
        })
    }
}

impl Ip {
    /// Whether TCP is in it.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }

    /// Whether it tells its receiver that packets must be shorter.
    #[must_use]
    pub fn is_fragmentation_needed(&self) -> bool {
        self.icmp == Some((3, 4))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

fn encapsulated(packet: &[u8], length: usize, gue: Option<u16>) -> Option<Encapsulated> {
    let outer = ip(packet)?;
    let header = header_length(packet)?;
    let (kind, between) = match outer.protocol {
        IPIP => (TunnelKind::Ipip, 0),
        GRE if number(packet, header + 2)? == 0x0800 => {
            // Checksum, key and sequence number are four bytes each, if their bits are set.
            let bits = packet.get(header)? & 0b1011_0000;
            (TunnelKind::Gre, 4 + 4 * bits.count_ones() as usize)
        }
        UDP if gue.is_some() && gue == number(packet, header + 2) => {
            // The length of the rest of the GUE header, in words.
            let words = usize::from(packet.get(header + 8)? & 0x1f);
            (TunnelKind::Gue, 8 + 4 + 4 * words)
        }
        _ => return None,
    };
    let overhead = header + between;
    let inside = packet.get(overhead..)?;
    let inner_length = usize::from(number(inside, 2)?);
    let outer_length = usize::from(number(packet, 2)?);
    Some(Encapsulated {
        kind,
        outer,
        inner: ip(inside)?,
        overhead: overhead as u16,
        lengths_agree: outer_length == length && inner_length + overhead == outer_length,
    })
}

fn ip(packet: &[u8]) -> Option<Ip> {
    let header = header_length(packet)?;
    let protocol = *packet.get(9)?;
    let icmp = number(packet, header).map(|both| (both.to_be_bytes()[0], both.to_be_bytes()[1]));
    Some(Ip {
        source: address(packet, 12)?,
        destination: address(packet, 16)?,
        protocol,
        icmp: icmp.filter(|_| protocol == ICMP),
    })
}

/// Length of an IPv4 header; nothing when it is none.
fn header_length(packet: &[u8]) -> Option<usize> {
    let first = packet.first()?;
    (first >> 4 == 4).then_some(usize::from(first & 15) * 4)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(bytes.into())
}

fn mac(bytes: &[u8], at: usize) -> Option<Mac> {
    Some(Mac(bytes.get(at..at + 6)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ethernet(kind: u16) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1];
        frame.extend(kind.to_be_bytes());
        frame
    }

    fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        packet.extend(from);
        packet.extend(to);
        packet.extend(body);
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    fn wrapped(protocol: u8, between: &[u8]) -> Option<Encapsulated> {
        let inner = ipv4(TCP, [192, 168, 56, 1], [192, 168, 56, 50], &[0; 20]);
        let body = [between, &inner].concat();
        let mut frame = ethernet(0x0800);
        frame.extend(ipv4(protocol, [192, 168, 56, 10], [10, 9, 0, 10], &body));
        match Frame::parse(&frame, frame.len(), Some(6080))
            .unwrap()
            .payload
        {
            Payload::Tunnel(packet) => Some(packet),
            _ => None,
        }
    }

    #[test]
    fn tunnels_are_told_apart_and_measured() {
        let gue = [
            0x80,
            0,
            6080_u16.to_be_bytes()[0],
            6080_u16.to_be_bytes()[1],
            0,
            0,
            0,
            0,
            0,
            4,
            0,
            0,
        ];
        for (protocol, between, kind) in [
            (IPIP, &[][..], TunnelKind::Ipip),
            (GRE, &[0, 0, 8, 0][..], TunnelKind::Gre),
            (UDP, &gue[..], TunnelKind::Gue),
        ] {
            let packet = wrapped(protocol, between).unwrap();
            assert_eq!(packet.kind, kind);
            assert_eq!(packet.overhead, kind.overhead());
            assert!(packet.lengths_agree);
            assert_eq!(packet.inner.destination, Ipv4Addr::new(192, 168, 56, 50));
            assert!(packet.inner.is_tcp());
        }
        let with_checksum = wrapped(GRE, &[0x80, 0, 8, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(with_checksum.overhead, 28);
        assert_eq!(wrapped(UDP, &[0; 12]), None);
    }

    #[test]
    fn an_arp_answer_names_whose_address_it_is() {
        let mut frame = ethernet(0x0806);
        frame.extend([0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 192, 168, 56, 50]);
        frame.extend([2, 0, 0, 0, 0, 9, 192, 168, 56, 1]);
        let frame = Frame::parse(&frame, frame.len(), None).unwrap();
        assert_eq!(frame.source.to_string(), "02:00:00:00:00:01");
        let Payload::Arp(arp) = frame.payload else {
            panic!("{frame:?}")
        };
        assert!(arp.reply);
        assert_eq!(arp.sender, Ipv4Addr::new(192, 168, 56, 50));
    }

    #[test]
    fn a_frame_cut_anywhere_is_read_without_panic() {
        let inner = ipv4(TCP, [1; 4], [2; 4], &[0; 20]);
        let mut frame = ethernet(0x0800);
        frame.extend(ipv4(IPIP, [3; 4], [4; 4], &inner));
        for length in 0..frame.len() {
            let _ = Frame::parse(&frame[..length], frame.len(), Some(6080));
        }
    }
}
