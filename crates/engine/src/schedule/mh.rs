//! Maglev hashing as IPVS has it (`ip_vs_mh.c`, on 64-bit machines): 4093 slots by the client's address and, with
//! flag 2 (`mh-port`), port.
//!
//! Weights go into the ring as they last were above zero: quiescing a server moves nobody else's clients. If a slot's
//! owner is not usable, its clients are refused, unless flag 1 (`mh-fallback`) has other slots tried.

#[cfg(not(target_arch = "bpf"))]
use super::fill::{Member, Seat, populate};
use super::ring::Key;
use crate::siphash::SipHash13;

/// Slots of the ring; a prime (`CONFIG_IP_VS_MH_TAB_INDEX` is 12).
pub(super) const SLOTS: u32 = 4093;

const KEY_1: u64 = 2_654_435_761;
#[cfg(not(target_arch = "bpf"))]
const KEY_2: u64 = 2_654_446_892;
/// Most bits of a server's turns.
#[cfg(not(target_arch = "bpf"))]
const TURN_BITS: u32 = 6;

/// The slot for a key.
#[inline(always)]
pub(super) fn slot(key: Key, attempt: u32) -> u32 {
    hash(KEY_1, key.origin.sum().wrapping_add(attempt)) % key.slots
}

#[inline(always)]
fn hash(key: u64, value: u32) -> u32 {
    SipHash13::new(key, key).finish(value as u64, 4) as u32
}

/// Who owns the slots.
#[cfg(not(target_arch = "bpf"))]
pub(super) fn owners(servers: &[Member]) -> Vec<u16> {
    let weights = || servers.iter().map(|server| server.last_weight);
    let (divisor, _) = super::wrr::divisor_and_mark(weights());
    let greatest = weights().max().unwrap_or(0) / divisor;
    let shift = (u32::BITS - greatest.leading_zeros()).saturating_sub(TURN_BITS);
    let seat = |server: &Member| {
        let place = server.folded.wrapping_add(server.port as u32);
        let turns = (server.last_weight / divisor) >> shift;
        Seat {
            owner: server.index,
            offset: hash(KEY_1, place) % SLOTS,
            skip: hash(KEY_2, place) % (SLOTS - 1) + 1,
            turns: turns.max(u32::from(server.last_weight != 0)),
            quota: SLOTS,
        }
    };
    populate(SLOTS, servers.iter().map(seat).collect())
}
