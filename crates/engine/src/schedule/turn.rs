//! Going around the list: what rr and wrr have in common.
//!
//! A level sinks from the service's mark to zero in steps of its divisor. In each round over the list every server
//! whose weight reaches the level gets one connection. For rr there is one level.

use core::num::NonZeroU32;

use super::{Ramp, Scheduler, WALK, is_usable, rr, unknown_zero};
use crate::tables::{NONE, Service, Tables, pack};

/// Where the level begins and how it sinks.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    /// What it sinks by.
    pub(super) divisor: NonZeroU32,
    /// Where it begins; 0 when no server has weight.
    pub(super) mark: u32,
}

/// How often a scheduler tries again when another processor was faster. With two dozen processors that
/// schedule for one service without pause the last of them may lose them all; it then uses its pick
/// without recording it.
const TRIES: u32 = 8;

/// Pick a server, or [`NONE`] when none is usable.
#[inline(never)]
pub(super) fn pick<T: Tables>(tables: &T, index: u32) -> u32 {
    let (Some(service), Some(state)) = (tables.service(index), tables.scheduler_state(index))
    else {
        return NONE;
    };
    let levels = if service.scheduler.get() == Scheduler::Rr as u32 {
        rr::LEVELS
    } else {
        Levels {
            divisor: NonZeroU32::new(service.divisor.get()).unwrap_or(NonZeroU32::MIN),
            mark: service.mark.get(),
        }
    };
    if levels.mark == 0 {
        return NONE;
    }
    let ramp = Ramp::of(tables, service);
    let mut picked = NONE;
    tables.repeat(TRIES, || {
        let seen = state.0.get();
        let mut around = Around {
            levels,
            ramp,
            at: seen as u32,
            level: (seen >> 32) as u32,
            greatest: unknown_zero(service).wrapping_sub(1) as u32,
            picked: NONE,
        };
        // A round that was begun, a whole one that tells how far the level has to sink, one at that level.
        tables.repeat(3 * WALK, || around.step(tables, service));
        picked = around.picked;
        state.0.replace(seen, around.after(seen))
    });
    picked
}

/// A walk around the list.
struct Around {
    levels: Levels,
    ramp: Ramp,
    /// The last server looked at.
    at: u32,
    /// The weight that it takes.
    level: u32,
    /// The greatest usable weight in this round. Of the first round, which may begin in the middle, it is not known
    /// and at its greatest.
    greatest: u32,
    /// The outcome.
    picked: u32,
}

impl Around {
    /// Go on by one server; true when done.
    #[inline(always)]
    fn step<T: Tables>(&mut self, tables: &T, service: &Service) -> bool {
        self.at = match tables.server(self.at) {
            Some(server) => server.next.get(),
            None => service.head.get(),
        };
        let Some(server) = tables.server(self.at) else {
            return self.end_round();
        };
        if !is_usable(tables, self.at, server) {
            return false;
        }
        let weight = server.weight.get();
        self.greatest = self.greatest.max(weight);
        if weight < self.level {
            return false;
        }
        // One that is new may let others go first; with nobody else it is its turn after all.
        self.picked = self.at;
        !self.ramp.lets_pass(tables, server)
    }

    /// Lower the level at the end of the list; true when the round has shown that nothing is usable.
    #[inline(always)]
    fn end_round(&mut self) -> bool {
        if self.greatest == 0 {
            return true;
        }
        let divisor = self.levels.divisor;
        self.level = if self.level > divisor.get() {
            self.level - divisor.get()
        } else {
            self.levels.mark
        };
        if self.level > self.greatest {
            // The kernel goes around once for each step.
            let steps = (self.level - self.greatest - 1) / divisor + 1;
            let sinks = steps.wrapping_mul(divisor.get());
            self.level = self.level.saturating_sub(sinks);
        }
        self.greatest = 0;
        false
    }

    /// The scheduler's state after the walk from `seen`.
    #[inline(always)]
    fn after(&self, seen: u64) -> u64 {
        let Levels { divisor, mark } = self.levels;
        if self.picked != NONE {
            pack(self.picked, self.level)
        } else if seen as u32 == NONE {
            pack(NONE, mark)
        } else {
            // As the kernel leaves it: at the lowest level.
            pack(seen as u32, mark.wrapping_sub(1) % divisor + 1)
        }
    }
}
