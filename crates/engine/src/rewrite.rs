//! Masquerading: the fields that change on the way to a server and back.

use crate::{
    checksum::{Difference, fold, pseudo_header},
    packet::{ETH, IP, Ipv4, L4Change, Packet, UDP},
    state::Direction,
};

/// What part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment: it has the ports and the checksum of the whole.
    First,
    /// A later fragment: addresses only.
    Later,
}

/// A packet's address and port, to be changed.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite {
    /// Which end changes: the destination on the way in, the source on the way out.
    pub direction: Direction,
    /// Port before.
    pub old_port: u16,
    /// Address after.
    pub address: u32,
    /// Port after.
    pub port: u16,
    /// Time to live after.
    pub ttl: u8,
}

/// Offset of the TCP or UDP header when the IP header has no options.
pub const L4: usize = ETH + IP;

/// Change address, port, time to live and checksums of a packet without IP options. `None` when the packet
/// could not be written.
#[inline(always)]
pub fn simple<P: Packet>(packet: &mut P, ip: &Ipv4, to: &Rewrite) -> Option<()> {
    let change = l4_change(ip, to);
    if change.udp {
        packet.fix_checksum(L4 + 6, &change)?;
    } else {
        packet.fix_checksum(L4 + 16, &change)?;
    }
    match to.direction {
        Direction::In => {
            packet.put(L4 + 2, to.port)?;
            packet.put(ETH + 16, to.address)?;
        }
        Direction::Out => {
            packet.put(L4, to.port)?;
            packet.put(ETH + 12, to.address)?;
        }
    }
    packet.put(
        ETH + 8,
        ttl_protocol_checksum(ip, change.address.0, to.address, to.ttl),
    )
}

/// As [`simple`] for packets with options and for fragments, whose TCP or UDP header begins at `l4`.
#[inline(always)]
pub fn general<P: Packet>(
    packet: &mut P,
    ip: &Ipv4,
    l4: usize,
    part: Part,
    to: &Rewrite,
) -> Option<()> {
    let change = l4_change(ip, to);
    let (address_at, port_at) = match to.direction {
        Direction::In => (ETH + 16, l4 + 2),
        Direction::Out => (ETH + 12, l4),
    };
    if part != Part::Later {
        packet.fix_checksum_anywhere(if change.udp { l4 + 6 } else { l4 + 16 }, &change)?;
        packet.store(port_at, to.port)?;
    }
    packet.put(
        ETH + 8,
        ttl_protocol_checksum(ip, change.address.0, to.address, to.ttl),
    )?;
    packet.store(address_at, to.address)?;
    Some(())
}

/// Change nothing but the time to live.
#[inline(always)]
pub fn time_to_live<P: Packet>(packet: &mut P, ip: &Ipv4, ttl: u8) -> Option<()> {
    packet.put(ETH + 8, ttl_protocol_checksum(ip, 0, 0, ttl))
}

#[inline(always)]
fn l4_change(ip: &Ipv4, to: &Rewrite) -> L4Change {
    let old = match to.direction {
        Direction::In => ip.destination,
        Direction::Out => ip.source,
    };
    L4Change {
        address: (old, to.address),
        port: (to.old_port, to.port),
        udp: ip.protocol == UDP,
    }
}

/// Time to live, protocol and header checksum: one word of the header.
#[inline(always)]
pub(crate) fn ttl_protocol_checksum(ip: &Ipv4, old_address: u32, address: u32, ttl: u8) -> u32 {
    let old = ip.ttl as u16 | (ip.protocol as u16) << 8;
    let new = ttl as u16 | (ip.protocol as u16) << 8;
    let checksum = Difference::none()
        .word(old_address, address)
        .half(old, new)
        .apply(ip.checksum);
    new as u32 | (checksum as u32) << 16
}

/// Give a whole UDP datagram without checksum one, as IPVS does before it translates (`ip_vs_proto_udp.c`). A
/// datagram too long to be summed here stays without.
#[inline(always)]
pub fn give_udp_checksum<P: Packet>(packet: &mut P, ip: &Ipv4, l4: usize) -> Option<()> {
    if packet.segment_length().is_some() || packet.load::<u16>(l4 + 6)? != 0 {
        return Some(());
    }
    let length = ip.length().checked_sub(ip.header_length())?;
    if let Some(sum) = packet.sum(l4, length) {
        let sum =
            !fold(fold(sum) as u64 + pseudo_header(ip.source, ip.destination, UDP, length as u16));
        packet.store_checksum(l4 + 6, if sum == 0 { 0xffff } else { sum })?;
    }
    Some(())
}
