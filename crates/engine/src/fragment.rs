//! Fragments: later ones carry no ports, so the first one's are remembered for them.
//!
//! A fragment that comes before the first one of its datagram is left to the host's stack, which holds it
//! and gives up on it: the datagram is lost, never misdelivered.

use crate::{
    packet::{FRAGMENT, FRAGMENT_OFFSET, Ipv4},
    rewrite::Part,
    tables::FragmentKey,
};

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
