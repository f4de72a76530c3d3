//! How hash rings are filled: for the owner of the tables.

use super::{Scheduler, dh, maglev, mh, sh};
use crate::tables::NO_SLOT;

/// A server as the rings see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Its index.
    pub(crate) index: u16,
    /// Its address as two words, as on the wire; IPv4 in the first four bytes, the rest 0.
    pub(crate) address: (u64, u64),
    /// Its address folded to a number.
    pub(crate) folded: u32,
    /// Its port, as a number.
    pub(crate) port: u16,
    /// Its weight.
    pub(crate) weight: u32,
    /// The latest weight that was not 0.
    pub(crate) last_weight: u32,
}

/// Who owns the slots of a scheduler's ring, for a service's servers in the order of its list. As many as
/// [`Scheduler::ring_slots`], or none.
pub(crate) fn owners(scheduler: Scheduler, servers: &[Member]) -> Vec<u16> {
    match scheduler {
        Scheduler::Dh => dh::owners(servers),
        Scheduler::Sh => sh::owners(servers),
        Scheduler::Mh => mh::owners(servers),
        Scheduler::Maglev => maglev::owners(servers),
        _ => Vec::new(),
    }
}

/// Fill a ring of dh or sh: each server in turn takes as many slots one after another as `share` makes of its weight,
/// around the list as often as it takes.
pub(super) fn deal(servers: &[Member], share: impl Fn(u32) -> u32) -> Vec<u16> {
    let slots = sh::SLOTS as usize;
    let of_one = |server: &Member| {
        let count = (share(server.weight) as usize).min(slots);
        core::iter::repeat_n(server.index, count)
    };
    let dealt = servers.iter().cycle().flat_map(of_one);
    let mut owners: Vec<u16> = dealt.take(slots).collect();
    owners.resize(slots, NO_SLOT);
    owners
}

/// A server while a ring is populated: where in the ring it looks for free slots, and how many it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    /// The server.
    pub(super) owner: u16,
    /// Where it looks next.
    pub(super) offset: u32,
    /// How far from there it looks after that.
    pub(super) skip: u32,
    /// How many slots it takes when it is its turn.
    pub(super) turns: u32,
    /// How many it may still take.
    pub(super) quota: u32,
}

/// Populate a ring as Maglev does (Eisenbud and others, NSDI 2016, §3.4): in turn every server takes the next free
/// slots of its own permutation, until none is free. `slots` must be a prime, so that each sees every slot.
pub(super) fn populate(slots: u32, mut seats: Vec<Seat>) -> Vec<u16> {
    let mut owners = vec![NO_SLOT; slots as usize];
    seats.retain(|seat| seat.turns > 0 && seat.quota > 0);
    let mut free = slots;
    while free > 0 && !seats.is_empty() {
        for seat in &mut seats {
            for _ in 0..seat.turns.min(seat.quota).min(free) {
                while owners[seat.offset as usize] != NO_SLOT {
                    seat.offset += seat.skip;
                    if seat.offset >= slots {
                        seat.offset -= slots;
                    }
                }
                owners[seat.offset as usize] = seat.owner;
                seat.quota -= 1;
                free -= 1;
            }
        }
        seats.retain(|seat| seat.quota > 0);
    }
    owners
}
