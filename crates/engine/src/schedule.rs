//! Schedulers: which server gets a new connection. One file each, by the names that ipvsadm uses.
//!
//! Servers form a list per service, newest first, as in the kernel (`ip_vs_ctl.c`). A scheduler walks it
//! through [`Tables::server`] and keeps what it remembers in one 64-bit number that it changes by
//! compare-and-swap, so that processors that schedule at once still give one exact sequence.

pub mod rr;
pub mod wrr;

use crate::tables::{NONE, SERVERS_PER_SERVICE, Server, Tables};

/// A scheduling algorithm, by its number in [`crate::tables::Service::scheduler`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Round robin.
    Rr = 1,
    /// Weighted round robin.
    Wrr = 2,
}

impl Scheduler {
    /// Every scheduler there is.
    pub const ALL: &'static [Self] = &[Self::Rr, Self::Wrr];

    /// The name that ipvsadm uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
        }
    }
}

/// How often a scheduler tries again when another processor was faster. With two dozen processors that
/// schedule for one service without pause the last of them may lose them all; it then uses its pick
/// without recording it.
const TRIES: u32 = 8;

/// Pick a server for a new connection of a service, or [`NONE`].
#[inline(never)]
pub fn pick<T: Tables>(tables: &T, index: u32) -> u32 {
    let Some(service) = tables.service(index) else {
        return NONE;
    };
    match service.scheduler.get() {
        s if s == Scheduler::Rr as u32 => rr::pick(tables, index, service),
        s if s == Scheduler::Wrr as u32 => wrr::pick(tables, index, service),
        _ => NONE,
    }
}

/// Whether a server may get new connections.
#[inline(always)]
fn is_eligible(server: &Server) -> bool {
    server.weight.get() > 0 && server.flags.get() & Server::AVAILABLE != 0
}

/// The bound of a walk: every server of a service once, and the head of the list in between.
const WALK: u32 = SERVERS_PER_SERVICE + 2;

#[cfg(test)]
mod tests;
