//! Maglev hashing of our own, not in IPVS: 65,537 slots by the client's address and, with flag 2, port.
//!
//! The ring depends on nothing but the servers' addresses, ports and weights: every director that has the same
//! servers makes the same one, in whatever order they were added. Shares are true to the weights to within a slot.
//! A server of weight 0 keeps the slots of weight 1, so that among servers of weight 1 quiescing one moves
//! nobody else's clients.
//!
//! No client is refused while any server is usable: if its slot's owner is not, other slots are tried, and in the end
//! each server draws a number by the client, the highest usable one takes it.

use super::{Origin, WALK, is_usable, ring::Key, unknown_zero};
use crate::{
    siphash::SipHash13,
    tables::{NONE, Server, Tables},
};

#[cfg(not(target_arch = "bpf"))]
use super::fill::{Member, Seat, populate};

/// Slots of the ring; a prime.
pub(super) const SLOTS: u32 = 65537;

/// Slots that are tried when the first one's owner is not usable. With every second server unusable one
/// client in four thousand million gets as far.
pub(super) const ATTEMPTS: u32 = 32;

/// Keys of the hashes, the same on every director. The digits of pi.
const KEY: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
#[cfg(not(target_arch = "bpf"))]
const OFFSET_KEY: [u64; 2] = [0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// The slot for a key.
#[inline(always)]
pub(super) fn slot(key: Key, attempt: u32) -> u32 {
    hash(key.origin, attempt as u64) % key.slots
}

#[inline(always)]
fn hash(origin: Origin, salt: u64) -> u32 {
    let hash = SipHash13::new(KEY[0], KEY[1]);
    hash.word(origin.0).word(salt).finish(0, 16) as u32
}

/// The usable server that draws the highest number for a client, or [`NONE`].
#[inline(never)]
pub(super) fn otherwise<T: Tables>(tables: &T, index: u32, origin: Origin) -> u32 {
    let Some(service) = tables.service(index) else {
        return NONE;
    };
    let mut draw = Draw {
        origin,
        at: service.head.get(),
        highest: unknown_zero(service) as u32,
        picked: NONE,
    };
    tables.repeat(WALK, || draw.step(tables));
    draw.picked
}

/// The walk that finds it.
struct Draw {
    origin: Origin,
    at: u32,
    highest: u32,
    picked: u32,
}

impl Draw {
    #[inline(always)]
    fn step<T: Tables>(&mut self, tables: &T) -> bool {
        let Some(server) = tables.server(self.at) else {
            return true;
        };
        if is_usable(tables, self.at, server) {
            let drawn = hash(self.origin, end_of(server)) | 1;
            if drawn > self.highest {
                self.highest = drawn;
                self.picked = self.at;
            }
        }
        self.at = server.next.get();
        false
    }
}

/// A server's address and port in one number; not an attempt's, which is below 2^32.
#[inline(always)]
fn end_of(server: &Server) -> u64 {
    let [a, b, c] = &server.address_rest;
    let folded = server.address.get() ^ a.get() ^ b.get() ^ c.get();
    1 << 63 | (server.port.get() as u64) << 32 | folded as u64
}

/// Most turns of all servers together: the ring is full after sixteen rounds at the least.
#[cfg(not(target_arch = "bpf"))]
const TURNS: u64 = 4096;

/// Who owns the slots.
#[cfg(not(target_arch = "bpf"))]
pub(super) fn owners(servers: &[Member]) -> Vec<u16> {
    let mut servers = servers.to_vec();
    let end = |server: &Member| {
        let (high, low) = server.address;
        (high.to_be(), low.to_be(), server.port)
    };
    servers.sort_by_key(end);
    let weights: Vec<u64> = servers.iter().map(|s| s.weight.max(1) as u64).collect();
    let total: u64 = weights.iter().sum();
    let quotas = quotas(&weights, total);
    let greatest_divisor = super::wrr::divisor_and_mark(weights.iter().map(|w| *w as u32)).0 as u64;
    let seat = |((server, weight), quota): ((&Member, &u64), u32)| {
        let (high, low) = server.address;
        let hash = SipHash13::new(OFFSET_KEY[0], OFFSET_KEY[1]);
        let hash = hash.word(high.to_le()).word(low.to_le());
        let hash = hash.finish(server.port as u64, 18);
        let turns = if total / greatest_divisor <= TURNS {
            weight / greatest_divisor
        } else {
            (weight * TURNS / total).max(1)
        };
        Seat {
            owner: server.index,
            offset: hash as u32 % SLOTS,
            skip: (hash >> 32) as u32 % (SLOTS - 1) + 1,
            turns: turns as u32,
            quota,
        }
    };
    let seats = servers.iter().zip(&weights).zip(quotas).map(seat);
    populate(SLOTS, seats.collect())
}

/// How many slots each server gets: in proportion to its weight, the remainder to those that came closest to one more,
/// and everyone at least one.
#[cfg(not(target_arch = "bpf"))]
fn quotas(weights: &[u64], total: u64) -> Vec<u32> {
    let slots = SLOTS as u64;
    let mut quotas: Vec<u32> = weights
        .iter()
        .map(|weight| (weight * slots / total.max(1)).max(1) as u32)
        .collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&at| core::cmp::Reverse(weights[at] * slots % total.max(1)));
    let given: u64 = quotas.iter().map(|quota| *quota as u64).sum();
    for &at in by_remainder
        .iter()
        .cycle()
        .take(slots.saturating_sub(given) as usize)
    {
        quotas[at] += 1;
    }
    quotas
}
