//! The kernel's ticks, as the programs see them, without asking for each.

use std::time::Instant;

use crate::load::Maps;

/// A tick, and when it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    tick: u32,
    at: Instant,
}

impl Clock {
    /// It is this tick now.
    pub(crate) fn at(tick: u32) -> Self {
        Self {
            tick,
            at: Instant::now(),
        }
    }

    /// The second that it is now, counted as the programs count: ticks by how many there are in one.
    pub(crate) fn second(&self, maps: &Maps) -> u32 {
        let per_second = maps.config[0].ticks_per_second.get().max(1);
        let passed = u32::try_from(self.at.elapsed().as_secs()).unwrap_or(u32::MAX);
        (self.tick / per_second).wrapping_add(passed)
    }
}
