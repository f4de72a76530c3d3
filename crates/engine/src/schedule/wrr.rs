//! Weighted round robin as the kernel has it, not smooth (`ip_vs_wrr.c`; the rule is in the reference, §1.1).
//!
//! A level sinks from the greatest weight to zero in steps of the weights' divisor. In each round over the
//! list every server whose weight reaches the level gets one connection.

use super::{TRIES, WALK, is_eligible};
use crate::tables::{NONE, SchedulerState, Service, Tables, pack};

/// Pick a server, or [`NONE`] when none is usable.
#[inline(always)]
pub fn pick<T: Tables>(tables: &T, index: u32, service: &Service) -> u32 {
    let Some(state) = tables.scheduler_state(index) else {
        return NONE;
    };
    for turn in 0..TRIES {
        let seen = state.0.get();
        let picked = next(tables, service, seen);
        let last = turn == TRIES - 1;
        if picked as u32 == NONE || last || state.0.replace(seen, picked) {
            return picked as u32;
        }
    }
    NONE
}

/// Position and level after one pick; position [`NONE`] when nothing is usable.
#[inline(always)]
fn next<T: Tables>(tables: &T, service: &Service, seen: u64) -> u64 {
    let mark = service.mark.get();
    let divisor = service.divisor.get();
    let mut at = seen as u32;
    let mut level = (seen >> 32) as u32;
    if mark == 0 {
        return SchedulerState::START;
    }
    let mut picked = SchedulerState::START;
    // At any level some server has weight enough, so two rounds are the most that a pick can take.
    tables.repeat(2 * WALK, || {
        at = match tables.server(at) {
            Some(server) => server.next.get(),
            None => service.head.get(),
        };
        match tables.server(at) {
            Some(server) if server.weight.get() >= level && is_eligible(server) => {
                picked = pack(at, level);
                true
            }
            Some(_) => false,
            None => {
                level = if level > divisor {
                    level - divisor
                } else {
                    mark
                };
                false
            }
        }
    });
    picked
}

/// The level after servers or weights changed; the position goes back to before the list's head.
pub const fn level_after_change(level: u32, divisor: u32, mark: u32) -> u32 {
    if level > mark || level == 0 {
        mark
    } else if divisor > 1 {
        level / divisor * divisor + 1
    } else {
        level
    }
}

/// Divisor and mark for these weights: the greatest common divisor of those above zero (1 if none), and
/// the greatest weight less the divisor, plus one (0 if none).
pub fn divisor_and_mark(weights: impl Iterator<Item = u32>) -> (u32, u32) {
    let (mut divisor, mut greatest) = (0u32, 0u32);
    for weight in weights.filter(|&w| w > 0) {
        let (mut a, mut b) = (weight, divisor);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        divisor = a;
        greatest = greatest.max(weight);
    }
    if divisor == 0 {
        (1, 0)
    } else {
        (divisor, greatest - (divisor - 1))
    }
}
