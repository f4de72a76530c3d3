//! The best server of a list: the walk that lc, wlc, sed, nq, fo and ovf have in common, and lblc and lblcr when
//! they do not know better.
//!
//! A rule makes two numbers of a server, `Merit`; the server with the least cost for its share is taken, compared by
//! cross multiplication as in the kernel, and the first in the list among equals.

use super::{Ramp, Scheduler, WALK, fo, is_usable, lc, nq, ovf, sed, unknown_zero, wlc};
use crate::tables::{NONE, Tables};

/// What a rule goes by.
#[derive(Clone, Copy)]
pub(super) struct Load {
    /// Active connections.
    pub(super) active: u32,
    /// All connections.
    pub(super) total: u32,
    /// The weight.
    pub(super) weight: u32,
}

/// What a rule makes of it.
#[derive(Clone, Copy)]
pub(super) struct Merit {
    /// What it costs to choose the server. 0 ends the walk: no other can be better.
    pub(super) cost: u64,
    /// What the cost is divided by; of a server that is new, the part that slow start leaves. 0: not this one.
    pub(super) share: u32,
    /// Whether slow start counts.
    pub(super) ramps: bool,
}

/// Whether a walk found a server with less than half as many active connections as its weight (as far as it
/// looked): a bit of what [`best`] gives.
pub(super) const HAS_IDLE: u64 = 1 << 32;

/// Walk over a service's servers. Gives the best, or [`NONE`], in the lower half.
#[inline(never)]
pub(super) fn best<T: Tables>(tables: &T, index: u32) -> u64 {
    let Some(service) = tables.service(index) else {
        return NONE as u64;
    };
    let zero = unknown_zero(service);
    let mut walk = Walk {
        rule: service.scheduler.get(),
        ramp: Ramp::of(tables, service),
        at: service.head.get(),
        best: NONE,
        // Worse than anything: at least one connection for no share at all.
        cost: 1 + zero,
        share: zero,
        idle: 0,
    };
    tables.repeat(WALK, || walk.step(tables));
    walk.best as u64 | walk.idle
}

/// A walk under way.
struct Walk {
    rule: u32,
    ramp: Ramp,
    /// The server to look at.
    at: u32,
    /// The best so far, its cost and share.
    best: u32,
    cost: u64,
    share: u64,
    /// [`HAS_IDLE`] or 0.
    idle: u64,
}

impl Walk {
    /// Look at one server; true when done.
    #[inline(always)]
    fn step<T: Tables>(&mut self, tables: &T) -> bool {
        let at = self.at;
        let (Some(server), Some(counts)) = (tables.server(at), tables.counts(at)) else {
            return true;
        };
        self.at = server.next.get();
        let load = Load {
            active: counts.active.get(),
            total: counts.total.get(),
            weight: server.weight.get(),
        };
        if (load.active as u64) * 2 < load.weight as u64 {
            self.idle = HAS_IDLE;
        }
        if !is_usable(tables, at, server) {
            return false;
        }
        let merit = judge(self.rule, load);
        let share = if merit.ramps {
            self.ramp.share(server, merit.share)
        } else {
            merit.share as u64
        };
        if self.cost.wrapping_mul(share) > merit.cost.wrapping_mul(self.share) {
            self.best = at;
            self.cost = merit.cost;
            self.share = share;
        }
        self.cost == 0
    }
}

#[inline(always)]
fn judge(rule: u32, load: Load) -> Merit {
    if rule == Scheduler::Lc as u32 {
        lc::judge(load)
    } else if rule == Scheduler::Sed as u32 {
        sed::judge(load)
    } else if rule == Scheduler::Nq as u32 {
        nq::judge(load)
    } else if rule == Scheduler::Fo as u32 {
        fo::judge(load)
    } else if rule == Scheduler::Ovf as u32 {
        ovf::judge(load)
    } else {
        wlc::judge(load)
    }
}
