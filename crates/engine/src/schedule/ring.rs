//! The ring that dh, sh, mh and maglev look into: slots that hold servers, made by the owner of the tables whenever
//! servers or weights change.

use core::num::NonZeroU32;

use super::{Origin, Scheduler, is_usable, maglev, mh, sh};
use crate::tables::{NO_SLOT, NONE, Service, Tables};

/// What decides about a slot.
#[derive(Clone, Copy)]
pub(super) struct Key {
    /// Number of the scheduler.
    pub(super) rule: u32,
    /// Number of slots.
    pub(super) slots: NonZeroU32,
    /// The client's address and, if the service goes by it, port; for dh the destination's address.
    pub(super) origin: Origin,
}

impl Key {
    /// The slot for this key; others with every further attempt.
    #[inline(always)]
    fn slot(self, attempt: u32) -> u32 {
        if self.rule == Scheduler::Mh as u32 {
            mh::slot(self, attempt)
        } else if self.rule == Scheduler::Maglev as u32 {
            maglev::slot(self, attempt)
        } else {
            sh::slot(self, attempt)
        }
    }
}

/// Pick a server, or [`NONE`] when the slot's owner is not usable and there is to be no other.
#[inline(never)]
pub(super) fn pick<T: Tables>(tables: &T, index: u32, origin: Origin, destination: u32) -> u32 {
    let Some(service) = tables.service(index) else {
        return NONE;
    };
    let ring = service.ring.get();
    let Some(slots) = NonZeroU32::new((ring >> 32) as u32) else {
        return NONE;
    };
    let rule = service.scheduler.get();
    let flags = service.flags.get();
    let origin = if rule == Scheduler::Dh as u32 {
        Origin::new(destination, 0)
    } else if flags & Service::FLAG_2 != 0 {
        origin
    } else {
        origin.without_port()
    };
    let key = Key {
        rule,
        slots,
        origin,
    };
    let first = key.slot(0);
    let owner = owner(tables, index, (ring as u32).wrapping_add(first));
    if can_take(tables, owner) {
        return owner;
    }
    let attempts = if rule == Scheduler::Maglev as u32 {
        maglev::ATTEMPTS
    } else if owner == NONE || rule == Scheduler::Dh as u32 || flags & Service::FLAG_1 == 0 {
        return NONE;
    } else {
        slots.get()
    };
    let mut search = Search {
        key,
        service: index,
        start: ring as u32,
        attempt: first,
        picked: NONE,
    };
    tables.repeat(attempts, || search.step(tables));
    if search.picked == NONE && rule == Scheduler::Maglev as u32 {
        return maglev::otherwise(tables, index, origin);
    }
    search.picked
}

/// The search for another slot.
struct Search {
    key: Key,
    /// Index of the service.
    service: u32,
    /// First slot of its ring.
    start: u32,
    /// What distinguishes the next attempt.
    attempt: u32,
    /// The outcome.
    picked: u32,
}

impl Search {
    /// Try one slot; true when done.
    #[inline(always)]
    fn step<T: Tables>(&mut self, tables: &T) -> bool {
        let slot = self.key.slot(self.attempt);
        let owner = owner(tables, self.service, self.start.wrapping_add(slot));
        let next = self.attempt.wrapping_add(1);
        self.attempt = if next < self.key.slots.get() { next } else { 0 };
        let takes = can_take(tables, owner);
        if takes {
            self.picked = owner;
        }
        takes
    }
}

/// The service's server that a slot holds, or [`NONE`].
#[inline(always)]
fn owner<T: Tables>(tables: &T, service: u32, slot: u32) -> u32 {
    let Some(word) = tables.ring(slot >> 2) else {
        return NONE;
    };
    let index = (word.get() >> (16 * (slot & 3))) as u16;
    if index == NO_SLOT {
        return NONE;
    }
    match tables.server(index as u32) {
        // The ring may have moved meanwhile, and its place may be another service's.
        Some(server) if server.service.get() == service => index as u32,
        _ => NONE,
    }
}

#[inline(always)]
fn can_take<T: Tables>(tables: &T, index: u32) -> bool {
    match tables.server(index) {
        Some(server) => is_usable(tables, index, server),
        None => false,
    }
}
