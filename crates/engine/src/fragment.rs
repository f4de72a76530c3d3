//! Fragments: later ones carry no ports, so the first one's are remembered for them.
//!
//! A fragment that comes before the first one of its datagram is left to the host's stack, which holds it
//! and gives up on it: the datagram is lost, never misdelivered.

use crate::{
    packet::{FRAGMENT, FRAGMENT_OFFSET, Ipv4},
    rewrite::Part,
    tables::{FragmentKey, FragmentPorts, Tables, ticks},
};

/// Seconds that a first fragment is remembered, as the kernel waits for the rest (`ipfrag_time`): after that
/// its identification may be another datagram's.
const MEMORY: u32 = 30;

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
