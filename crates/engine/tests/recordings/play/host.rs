//! What the recorded director's own stack does with packets that IPVS leaves to it: it answers, forwards, fragments.
//!
//! As much of Linux as the recordings show.

use std::{collections::HashMap, net::Ipv4Addr};

use super::{
    packet::{
        ACK, FIN, Header, ICMP, RST, SYN, TCP, UDP, checksum, destination, header_length, ip,
        source,
    },
    wire::{Seen, Wire, mac_of},
};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PROTOCOL: u8 = 2;
const PORT: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;

/// Routes and neighbours of the host, and what its wires take.
pub(super) struct Host {
    routes: HashMap<Ipv4Addr, Wire>,
    neighbours: HashMap<Ipv4Addr, [u8; 6]>,
    mtus: [u16; 2],
}

impl Default for Host {
    fn default() -> Self {
        Self {
            routes: HashMap::new(),
            neighbours: HashMap::new(),
            mtus: [1500; 2],
        }
    }
}

impl Host {
    pub(super) fn set_mtu(&mut self, wire: Wire, mtu: u16) {
        self.mtus[wire as usize] = mtu;
    }

    pub(super) fn add_route(&mut self, address: Ipv4Addr, wire: Wire) {
        self.routes.insert(address, wire);
    }

    pub(super) fn add_neighbour(&mut self, address: Ipv4Addr, mac: [u8; 6]) {
        self.neighbours.insert(address, mac);
    }

    /// What the host sends when it gets a packet.
    pub(super) fn receive(&self, from: Wire, packet: &[u8]) -> Vec<Seen> {
        if !is_valid(packet) {
            return Vec::new();
        }
        if is_own(destination(packet)) {
            return self.answer(packet);
        }
        let Some(to) = self.wire_towards(destination(packet)) else {
            return Vec::new();
        };
        if packet[8] <= 1 {
            return self.complain(from.address(), packet, TIME_EXCEEDED, 0, 0);
        }
        let mut packet = packet.to_vec();
        packet[8] -= 1;
        fix_header(&mut packet);
        let mtu = self.mtus[to as usize];
        if packet.len() <= usize::from(mtu) {
            return self.emit(packet);
        }
        if packet[6] & 0x40 != 0 {
            let rest = u32::from(mtu);
            return self.complain(
                from.address(),
                &packet,
                UNREACHABLE,
                FRAGMENTATION_NEEDED,
                rest,
            );
        }
        fragments(&packet, mtu)
            .into_iter()
            .flat_map(|piece| self.emit(piece))
            .collect()
    }

    /// A packet to the host itself, where nobody listens.
    fn answer(&self, packet: &[u8]) -> Vec<Seen> {
        let l4 = &packet[header_length(packet)..];
        match packet[9] {
            ICMP if l4.len() >= 8 && l4[0] == ECHO => {
                let mut reply = l4.to_vec();
                reply[0] = ECHO_REPLY;
                reply[2..4].fill(0);
                self.emit(ip(back(packet, ICMP, packet[1], false), &reply))
            }
            ICMP => Vec::new(),
            TCP if l4.len() >= 20 => self.reset(packet, l4),
            TCP => Vec::new(),
            UDP if l4.len() >= 8 => {
                self.complain(destination(packet), packet, UNREACHABLE, PORT, 0)
            }
            UDP => Vec::new(),
            _ => self.complain(destination(packet), packet, UNREACHABLE, PROTOCOL, 0),
        }
    }

    /// Refuse a TCP packet (RFC 9293, 3.5.2).
    fn reset(&self, packet: &[u8], l4: &[u8]) -> Vec<Seen> {
        let flags = l4[13];
        if flags & RST != 0 {
            return Vec::new();
        }
        let number = |at: usize| u32::from_be_bytes(l4[at..at + 4].try_into().unwrap());
        let data = l4.len() as u32 - u32::from(l4[12] >> 4) * 4;
        let length = data + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let (sequence, acknowledged, flags) = match flags & ACK {
            0 => (0, number(4).wrapping_add(length), RST | ACK),
            _ => (number(8), 0, RST),
        };
        let mut reply = [&l4[2..4], &l4[..2]].concat();
        reply.extend(sequence.to_be_bytes());
        reply.extend(acknowledged.to_be_bytes());
        reply.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
        self.emit(ip(back(packet, TCP, packet[1], true), &reply))
    }

    /// Send an ICMP error about a packet; `rest` is what stands before the quotation.
    fn complain(&self, from: Ipv4Addr, about: &[u8], kind: u8, code: u8, rest: u32) -> Vec<Seen> {
        let mut error = vec![kind, code, 0, 0];
        error.extend(rest.to_be_bytes());
        error.extend(&about[..about.len().min(576 - 28)]);
        let header = Header {
            tos: 0xc0,
            dont_fragment: false,
            protocol: ICMP,
            source: from,
            destination: source(about),
        };
        self.emit(ip(header, &error))
    }

    fn wire_towards(&self, address: Ipv4Addr) -> Option<Wire> {
        let route = self.routes.get(&address).copied();
        route.or_else(|| Wire::towards(address))
    }

    fn emit(&self, packet: Vec<u8>) -> Vec<Seen> {
        let to = destination(&packet);
        let Some(wire) = self.wire_towards(to) else {
            return Vec::new();
        };
        let mac = self.neighbours.get(&to).copied();
        vec![Seen {
            wire,
            to: mac.unwrap_or_else(|| mac_of(to)),
            packet,
        }]
    }
}

/// Header of an answer to a packet.
fn back(packet: &[u8], protocol: u8, tos: u8, dont_fragment: bool) -> Header {
    Header {
        tos,
        dont_fragment,
        protocol,
        source: destination(packet),
        destination: source(packet),
    }
}

/// Whether an address is the director's own.
fn is_own(address: Ipv4Addr) -> bool {
    let is_virtual = matches!(address.octets(), [10, 0, 0, 1..=10]);
    is_virtual
        || [Wire::Front, Wire::Back]
            .iter()
            .any(|wire| wire.address() == address)
}

fn is_valid(packet: &[u8]) -> bool {
    packet.len() >= 20
        && packet[0] >> 4 == 4
        && packet.len() >= header_length(packet)
        && checksum(&packet[..header_length(packet)]) == 0
        && usize::from(u16::from_be_bytes([packet[2], packet[3]])) <= packet.len()
}

fn fix_header(packet: &mut [u8]) {
    let header = header_length(packet);
    packet[10..12].fill(0);
    let sum = checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Cut a packet up (RFC 791, 3.2). Options are not among the recordings of fragments.
fn fragments(packet: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let header = header_length(packet);
    let room = (usize::from(mtu) - header) / 8 * 8;
    let word = u16::from_be_bytes([packet[6], packet[7]]);
    let pieces = packet[header..].chunks(room);
    let last = pieces.len() - 1;
    pieces
        .enumerate()
        .map(|(number, piece)| {
            let mut fragment = packet[..header].to_vec();
            fragment.extend(piece);
            let length = fragment.len() as u16;
            fragment[2..4].copy_from_slice(&length.to_be_bytes());
            let more = if number == last {
                word & 0x2000
            } else {
                0x2000
            };
            let offset = (word & 0x1fff) + (number * room / 8) as u16;
            fragment[6..8].copy_from_slice(&(more | offset).to_be_bytes());
            fix_header(&mut fragment);
            fragment
        })
        .collect()
}
