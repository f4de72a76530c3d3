//! Packets of the recordings: made, read, and as text.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::wire::{Seen, Wire, owner};

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// All of it.
    None,
    /// A fragment that more follow.
    More,
    /// The last one.
    Last,
}

impl Fragment {
    pub(super) fn of(packet: &[u8]) -> Self {
        if packet[0] >> 4 != 4 {
            return Self::None;
        }
        let word = u16::from_be_bytes([packet[6], packet[7]]);
        match (word & 0x2000 != 0, word & 0x1fff) {
            (true, _) => Self::More,
            (false, 0) => Self::None,
            (false, _) => Self::Last,
        }
    }
}

/// A packet that left, as text. What the director chooses for packets of its own is left out, once it is known to be
/// valid: identification (and with it the header's checksum), source port of GUE (and its checksum).
pub(super) fn described(seen: &Seen) -> String {
    let Seen { wire, to, packet } = seen;
    let mut bytes = packet.clone();
    let is_v4 = bytes.len() >= 20 && bytes[0] >> 4 == 4;
    let mut faults = String::new();
    if is_v4 && is_of_director(&bytes) {
        let header = header_length(&bytes);
        if checksum(&bytes[..header]) != 0 {
            faults += " (wrong header checksum)";
        }
        bytes[4..6].fill(0);
        bytes[10..12].fill(0);
        if is_gue(&bytes) {
            let l4 = &bytes[header..];
            if l4[6..8] != [0, 0] {
                let has_all = usize::from(u16::from_be_bytes([l4[4], l4[5]])) == l4.len();
                if has_all && l4_sum(&bytes) != 0 {
                    faults += " (wrong checksum of GUE)";
                }
                bytes[header + 6..header + 8].copy_from_slice(&[0xff, 0xff]);
            }
            if bytes[header..header + 2] < 32768u16.to_be_bytes()[..] {
                faults += " (source port out of the ephemeral range)";
            }
            bytes[header..header + 2].fill(0);
        }
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{wire:?} {} {hex}{faults}", owner(*to))
}

/// Whether the director made a packet, or its outer header.
fn is_of_director(packet: &[u8]) -> bool {
    let source = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
    let is_error = packet[1] == 0xc0 && packet[9] == ICMP;
    let is_echo = packet[9] == ICMP && packet.len() > 20 && packet[20] == 0;
    is_error || is_echo || source == Wire::Back.address()
}

/// Whether the first bytes of a datagram behind the director's own header are GUE's.
fn is_gue(packet: &[u8]) -> bool {
    let offset = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff;
    packet[9] == UDP && offset == 0 && packet.len() >= 28
}

pub(super) fn header_length(packet: &[u8]) -> usize {
    usize::from(packet[0] & 15) * 4
}

pub(super) fn source(packet: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15])
}

pub(super) fn destination(packet: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19])
}

/// The Internet checksum (RFC 1071) of some bytes: 0 when they hold a valid one.
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of what an IP packet carries, pseudo header included.
fn l4_sum(packet: &[u8]) -> u16 {
    let l4 = &packet[header_length(packet)..];
    let mut bytes = packet[12..20].to_vec();
    bytes.extend([0, packet[9]]);
    bytes.extend((l4.len() as u16).to_be_bytes());
    bytes.extend(l4);
    checksum(&bytes)
}

/// An IP packet around something, with valid checksums.
pub(super) fn ip(header: Header, l4: &[u8]) -> Vec<u8> {
    let Header {
        tos,
        dont_fragment,
        protocol,
        source,
        destination,
    } = header;
    let mut packet = vec![0x45, tos];
    packet.extend((20 + l4.len() as u16).to_be_bytes());
    let flags = if dont_fragment { 0x40 } else { 0 };
    packet.extend([0, 0, flags, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(l4);
    let at = match protocol {
        TCP => 20 + 16,
        UDP => 20 + 6,
        ICMP => {
            let sum = checksum(&packet[20..]);
            packet[22..24].copy_from_slice(&sum.to_be_bytes());
            return packet;
        }
        _ => return packet,
    };
    let sum = l4_sum(&packet);
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// What an IP header says.
pub(super) struct Header {
    pub(super) tos: u8,
    pub(super) dont_fragment: bool,
    pub(super) protocol: u8,
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
}

/// A TCP packet without data.
pub(super) fn tcp(from: SocketAddrV4, to: SocketAddrV4, numbers: (u32, u32), flags: u8) -> Vec<u8> {
    let mut l4 = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    l4.extend(numbers.0.to_be_bytes());
    l4.extend(numbers.1.to_be_bytes());
    // Nobody who refuses has a window.
    let window = if flags & RST != 0 { 0 } else { 0x20 };
    l4.extend([0x50, flags, window, 0, 0, 0, 0, 0]);
    ip(header(TCP, from, to), &l4)
}

/// A datagram.
pub(super) fn udp(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let mut l4 = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    l4.extend((8 + payload.len() as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend(payload);
    ip(header(UDP, from, to), &l4)
}

const fn header(protocol: u8, from: SocketAddrV4, to: SocketAddrV4) -> Header {
    Header {
        tos: 0,
        dont_fragment: true,
        protocol,
        source: *from.ip(),
        destination: *to.ip(),
    }
}

pub(super) fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}
