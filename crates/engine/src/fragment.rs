//! Fragments: later ones carry no ports, so the first one's are remembered for them. And packets sent as fragments where
//! the host's stack would take them for its own, or for forged.
//!
//! A fragment that comes before the first one of its datagram is left to the host's stack, which holds it
//! and gives up on it: the datagram is lost, never misdelivered.

use crate::{
    checksum::{fold, pseudo_header},
    packet::{
        DONT_FRAGMENT, ETH, FRAGMENT, FRAGMENT_OFFSET, IP, Ipv4, MORE_FRAGMENTS, Packet, TCP, UDP,
    },
    pipeline::Verdict,
    reason::Reason,
    rewrite::Part,
    tables::{FragmentKey, FragmentPorts, Hop, Tables, ticks},
};

/// Seconds that a first fragment is remembered, as the kernel waits for the rest (`ipfrag_time`): after that
/// its identification may be another datagram's.
const MEMORY: u32 = 30;

/// Most fragments that a packet is sent in.
const PIECES: u32 = 32;

/// What part of a datagram a packet is.
#[inline(always)]
pub const fn part(ip: &Ipv4) -> Part {
    if ip.fragment & FRAGMENT == 0 {
        Part::Whole
    } else if ip.fragment & FRAGMENT_OFFSET == 0 {
        Part::First
    } else {
        Part::Later
    }
}

/// What all fragments of a datagram have in common (RFC 791 §3.2).
#[inline(always)]
pub const fn key(ip: &Ipv4) -> FragmentKey {
    FragmentKey {
        source: ip.source,
        destination: ip.destination,
        id_protocol: ip.id as u32 | (ip.protocol as u32) << 16,
    }
}

/// Remember a first fragment's ports for the others.
#[inline(always)]
pub fn remember<T: Tables>(tables: &T, ip: &Ipv4, ports: u32) {
    if let Some(config) = tables.config() {
        let tick = ticks(tables.now(), config);
        tables.remember_fragment(&key(ip), FragmentPorts { ports, tick });
    }
}

/// The ports of a later fragment's datagram.
#[inline(always)]
pub fn find<T: Tables>(tables: &T, ip: &Ipv4) -> Option<u32> {
    let first = tables.find_fragment(&key(ip))?;
    let config = tables.config()?;
    let age = ticks(tables.now(), config).wrapping_sub(first.tick);
    (age < MEMORY * config.ticks_per_second.get()).then_some(first.ports)
}

/// Send a packet whose IP header has no options as fragments that fit; the last one becomes the packet itself.
#[inline(never)]
pub(crate) fn send<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ipv4,
    mtu: usize,
    hop: &Hop,
) -> Verdict {
    let piece = mtu.saturating_sub(IP) & !7;
    // Those that go out first cannot wait for a neighbour to be found.
    let possible = ip.version_ihl == 0x45
        && ip.fragment & DONT_FRAGMENT == 0
        && hop.flags.get() & Hop::RESOLVED != 0
        && packet.segment_length().is_none()
        && piece != 0;
    if !possible {
        return Verdict::Drop(Reason::TooLong);
    }
    let macs = [hop.macs[0].get(), hop.macs[1].get(), hop.macs[2].get()];
    let ifindex = hop.ifindex.get();
    if packet.put(0, macs).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    // It may be a fragment itself.
    let mut units = u16::from_be(ip.fragment & FRAGMENT_OFFSET);
    let mut left = ip.length().saturating_sub(IP);
    let mut failures = 0u32;
    tables.repeat(PIECES, || {
        if left + IP <= mtu {
            return true;
        }
        let header = cut(ip, piece, units.to_be() | MORE_FRAGMENTS);
        if packet.put(ETH, header).is_none()
            || packet.send_front(ETH + IP, piece, ifindex).is_none()
        {
            failures += 1;
            return true;
        }
        left -= piece;
        units = units.wrapping_add((piece / 8) as u16);
        false
    });
    let header = cut(ip, left, units.to_be() | ip.fragment & MORE_FRAGMENTS);
    if failures != 0 || left + IP > mtu || packet.put(ETH, header).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    Verdict::Redirect(ifindex)
}

/// The header of a fragment with so many bytes.
#[inline(always)]
fn cut(ip: &Ipv4, bytes: usize, fragment: u16) -> Ipv4 {
    let header = Ipv4 {
        total_length: ((IP + bytes) as u16).to_be(),
        fragment,
        checksum: 0,
        ..*ip
    };
    header.sealed()
}

/// Whether the TCP or UDP checksum of a whole packet is the sum of the pseudo header, for hardware to complete: that
/// cannot be done in fragments.
#[inline(always)]
pub(crate) fn is_unfinished<P: Packet>(packet: &P, ip: &Ipv4) -> bool {
    let at = match ip.protocol {
        TCP => 16,
        UDP => 6,
        _ => return false,
    };
    let header = ip.header_length();
    let length = ip.length().wrapping_sub(header) as u16;
    let unfinished = fold(pseudo_header(
        ip.source,
        ip.destination,
        ip.protocol,
        length,
    ));
    ip.fragment & FRAGMENT == 0 && packet.load::<u16>(ETH + header + at) == Some(unfinished)
}
