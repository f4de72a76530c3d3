//! Power of two choices (`ip_vs_twos.c`): draw two servers by weight, take the one with fewer connections for its
//! weight.

use super::{Ramp, WALK, is_usable, overhead};
use crate::tables::{NONE, Tables};

/// Pick a server, or [`NONE`] when none is usable.
#[inline(never)]
pub(super) fn pick<T: Tables>(tables: &T, index: u32) -> u32 {
    let total = total(tables, index);
    let first = draw(tables, index, total);
    let second = draw(tables, index, total);
    let (Some(one), Some(other)) = (tables.server(first), tables.server(second)) else {
        return first;
    };
    let (Some(service), Some(of_one), Some(of_other)) = (
        tables.service(index),
        tables.counts(first),
        tables.counts(second),
    ) else {
        return first;
    };
    let ramp = Ramp::of(tables, service);
    let cost = overhead(of_one.active.get(), of_one.total.get());
    let other_cost = overhead(of_other.active.get(), of_other.total.get());
    let share = ramp.share(one, one.weight.get());
    let other_share = ramp.share(other, other.weight.get());
    if cost.wrapping_mul(other_share) > other_cost.wrapping_mul(share) {
        second
    } else {
        first
    }
}

/// The shares of all usable servers together.
#[inline(never)]
fn total<T: Tables>(tables: &T, index: u32) -> u64 {
    let Some(service) = tables.service(index) else {
        return 0;
    };
    // Any number that the verifier knows nothing about: a sum that begins with zero it follows turn by turn.
    let start = service.ring.get();
    let mut sum = Sum {
        ramp: Ramp::of(tables, service),
        at: service.head.get(),
        total: start,
    };
    tables.repeat(WALK, || sum.step(tables));
    sum.total.wrapping_sub(start)
}

/// Draw a usable server by its share. The first one's chance is larger by one in the total, as in the kernel.
#[inline(never)]
fn draw<T: Tables>(tables: &T, index: u32, total: u64) -> u32 {
    let Some(service) = tables.service(index) else {
        return NONE;
    };
    let total = total.min(u32::MAX as u64) + 1;
    let mut lot = Lot {
        ramp: Ramp::of(tables, service),
        at: service.head.get(),
        left: (tables.random() as u64).wrapping_mul(total) >> 32,
        picked: NONE,
    };
    tables.repeat(WALK, || lot.step(tables));
    lot.picked
}

/// The walk that adds up shares.
struct Sum {
    ramp: Ramp,
    at: u32,
    total: u64,
}

impl Sum {
    #[inline(always)]
    fn step<T: Tables>(&mut self, tables: &T) -> bool {
        let at = self.at;
        let Some(server) = tables.server(at) else {
            return true;
        };
        self.at = server.next.get();
        if is_usable(tables, at, server) {
            let share = self.ramp.share(server, server.weight.get());
            self.total = self.total.wrapping_add(share);
        }
        false
    }
}

/// The walk to the server that a lot falls on.
struct Lot {
    ramp: Ramp,
    at: u32,
    /// Shares that are left to go.
    left: u64,
    /// The server, or the last one on the way.
    picked: u32,
}

impl Lot {
    #[inline(always)]
    fn step<T: Tables>(&mut self, tables: &T) -> bool {
        let at = self.at;
        let Some(server) = tables.server(at) else {
            return true;
        };
        self.at = server.next.get();
        if !is_usable(tables, at, server) {
            return false;
        }
        self.picked = at;
        let share = self.ramp.share(server, server.weight.get());
        let is_here = self.left <= share;
        self.left = self.left.wrapping_sub(share);
        is_here
    }
}
