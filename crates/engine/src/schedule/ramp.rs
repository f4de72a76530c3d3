//! Slow start: the share of a server that began to take connections only lately.
//!
//! Not in IPVS. A service asks for it with a number of seconds, over which a new or returning server's weight grows
//! in a straight line from next to nothing to all of it. A service that does not ask pays nothing.

use crate::tables::{Server, Service, Tables, ticks};

/// The ramp of a service at one moment.
#[derive(Clone, Copy)]
pub(super) struct Ramp {
    /// Seconds that it lasts; 0: there is none.
    length: u32,
    /// Seconds since boot.
    now: u32,
}

/// Parts that a whole weight is divided into while servers may be on the ramp: with weight 1 there must be something
/// below it.
const PARTS: u64 = 256;

impl Ramp {
    /// The ramp of a service now.
    #[inline(always)]
    pub(super) fn of<T: Tables>(tables: &T, service: &Service) -> Self {
        let length = service.slow_start.get();
        let mut now = 0;
        if length != 0
            && let Some(config) = tables.config()
        {
            now = ticks(tables.now(), config) / config.ticks_per_second.get().max(1);
        }
        Self { length, now }
    }

    /// A server's share when `weight` is all of it. Shares compare with those of the same service only.
    #[inline(always)]
    pub(super) fn share(self, server: &Server, weight: u32) -> u64 {
        let weight = weight as u64;
        if self.length == 0 || weight == 0 {
            return weight;
        }
        let age = self.now.wrapping_sub(server.since.get());
        if age >= self.length {
            return weight * PARTS;
        }
        (weight * PARTS * age as u64 / self.length as u64).max(1)
    }

    /// Whether a server that is up for its turn lets this one pass, as one on the ramp does with a probability
    /// that falls from one to zero.
    #[inline(always)]
    pub(super) fn lets_pass<T: Tables>(self, tables: &T, server: &Server) -> bool {
        if self.length == 0 {
            return false;
        }
        let age = self.now.wrapping_sub(server.since.get());
        age < self.length && tables.random() as u64 * self.length as u64 >= (age as u64 + 1) << 32
    }
}
