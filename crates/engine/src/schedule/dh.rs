//! Destination hashing (`ip_vs_dh.c`): 256 slots by the destination's address, one for each server in turn, whatever
//! its weight. If the slot's owner is not usable there is no other.
//!
//! The slot is found as for sh, see [`sh::slot`](super::sh).

#[cfg(not(target_arch = "bpf"))]
use super::fill::{Member, deal};

/// Who owns the slots.
#[cfg(not(target_arch = "bpf"))]
pub(super) fn owners(servers: &[Member]) -> Vec<u16> {
    deal(servers, |_| 1)
}
