//! Source hashing (`ip_vs_sh.c`): 256 slots by the client's address and, with flag 2 (`sh-port`), port.
//!
//! Each server in turn takes as many slots one after another as its weight says, and one if it is 0. With weights that
//! add up to more than 256 the servers at the end of the list get too few, or none: of two with weight 1000, the
//! newer takes all. That is IPVS's way and stays so, because clients are to go where they go there; who wants shares
//! that are true to any weights takes [`maglev`](super::maglev).
//!
//! If a slot's owner is not usable, its clients are refused, unless flag 1 (`sh-fallback`) has other slots tried.

#[cfg(not(target_arch = "bpf"))]
use super::fill::{Member, deal};
use super::ring::Key;

/// Slots of the ring (`CONFIG_IP_VS_SH_TAB_BITS` is 8).
pub(super) const SLOTS: u32 = 256;

/// The slot for a key.
#[inline(always)]
pub(super) fn slot(key: Key, attempt: u32) -> u32 {
    let hash = key.origin.sum().wrapping_mul(0x61c8_8647) >> 24;
    hash.wrapping_add(attempt) & (SLOTS - 1)
}

/// Who owns the slots.
#[cfg(not(target_arch = "bpf"))]
pub(super) fn owners(servers: &[Member]) -> Vec<u16> {
    deal(servers, |weight| weight.max(1))
}
