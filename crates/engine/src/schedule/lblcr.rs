//! Locality-based fewest connections with a set of servers for each destination (`ip_vs_lblcr.c`): the set grows while
//! its servers have too much to do, and shrinks by the busiest when it did not change for long.
//!
//! lblc is here as well: its sets have one server, which is replaced where lblcr adds one. What differs from the
//! kernel: entries that were not used for `lblc_expiration` or `lblcr_expiration` are forgotten when they are looked
//! at, not by a timer; a set has room for [`CACHED_SERVERS`], and the oldest gives way.

use super::{Scheduler, is_overloaded, overhead, unknown_zero, walk};
use crate::tables::{
    CACHED_SERVERS, CacheKey, Cached, NO_SLOT, NONE, SERVICES, SchedulerState, Server, Tables,
    pack, ticks,
};

/// Bits of a service's index in [`CacheKey::service`].
const SERVICE_BITS: u32 = 14;
const _: () = assert!(SERVICES <= 1 << SERVICE_BITS);

/// Pick a server, or [`NONE`] when none is usable.
#[inline(always)]
pub(super) fn pick<T: Tables>(tables: &T, index: u32, high: u64, low: u64) -> u32 {
    // In three parts, one after the other, so that their stacks do not add up.
    let found = look(tables, index, high, low);
    let server = found as u32;
    if server != NONE && found & IS_BUSY == 0 {
        return server;
    }
    let best = walk::best(tables, index);
    if server != NONE && best & walk::HAS_IDLE == 0 {
        return server;
    }
    if best as u32 != NONE {
        keep(tables, index, best as u32, high, low);
    }
    best as u32
}

/// Servers of a set, 16 bits each.
type Servers = [u64; CACHED_SERVERS as usize / 4];

/// The server that was found has more active connections than its weight: a bit of what [`look`] gives.
const IS_BUSY: u64 = 1 << 32;

/// The usable server of a destination's set with the fewest connections for its weight, or [`NONE`], in the lower
/// half. A set that has not changed for long loses the one with the most.
#[inline(never)]
fn look<T: Tables>(tables: &T, index: u32, high: u64, low: u64) -> u64 {
    let Some(memory) = Memory::of(tables, index, high, low) else {
        return NONE as u64;
    };
    let Some(mut cached) = tables.cached(&memory.key) else {
        return NONE as u64;
    };
    if memory.is_over(&cached) {
        return NONE as u64;
    }
    let mut look = Look {
        rule: memory.rule,
        service: index,
        least: NONE,
        most: NONE,
        busy: 0,
        // Worse than anything, and better than anything.
        least_cost: 1 + memory.zero,
        least_share: memory.zero,
        most_cost: memory.zero.wrapping_sub(1) as i64,
        most_share: 1 + memory.zero as i64,
        others: memory.zero.wrapping_sub(1),
    };
    tables.repeat(CACHED_SERVERS, || look.step(tables, &mut cached.servers));
    let is_old = memory.now.wrapping_sub(cached.changed) > memory.expiration;
    if is_old && look.others as i64 > 0 && look.most != NONE {
        let most = look.most;
        tables.repeat(CACHED_SERVERS, || take_out(&mut cached.servers, most));
        cached.changed = memory.now;
    }
    cached.used = memory.now;
    tables.cache(&memory.key, &cached);
    look.least as u64 | look.busy
}

/// Remember that a server was picked for a destination.
#[inline(never)]
fn keep<T: Tables>(tables: &T, index: u32, server: u32, high: u64, low: u64) {
    let Some(memory) = Memory::of(tables, index, high, low) else {
        return;
    };
    let mut cached = Cached {
        used: memory.now,
        changed: memory.now,
        servers: EMPTY,
    };
    if memory.rule == Scheduler::Lblcr as u32
        && let Some(known) = tables.cached(&memory.key)
        && !memory.is_over(&known)
    {
        cached.servers = known.servers;
    }
    let mut insert = Insert {
        server,
        is_there: false,
    };
    tables.repeat(CACHED_SERVERS, || insert.look(&mut cached.servers));
    if insert.is_there {
        return;
    }
    tables.repeat(CACHED_SERVERS, || insert.step(&mut cached.servers));
    cached.changed = memory.now;
    tables.cache(&memory.key, &cached);
}

/// A set without servers.
const EMPTY: Servers = [u64::MAX; CACHED_SERVERS as usize / 4];

/// What a service remembers of a destination, and until when.
struct Memory {
    key: CacheKey,
    rule: u32,
    now: u32,
    expiration: u32,
    /// See [`unknown_zero`].
    zero: u64,
}

impl Memory {
    #[inline(always)]
    fn of<T: Tables>(tables: &T, index: u32, high: u64, low: u64) -> Option<Self> {
        let (service, config) = (tables.service(index)?, tables.config()?);
        let state = tables.scheduler_state(index)?;
        let rule = service.scheduler.get();
        let now = ticks(tables.now(), config);
        let seconds = if rule == Scheduler::Lblc as u32 {
            config.lblc_expiration.get()
        } else {
            config.lblcr_expiration.get()
        };
        Some(Self {
            key: CacheKey {
                destination: [
                    high as u32,
                    (high >> 32) as u32,
                    low as u32,
                    (low >> 32) as u32,
                ],
                service: index | epoch(state, now) << SERVICE_BITS,
            },
            rule,
            now,
            expiration: seconds.saturating_mul(config.ticks_per_second.get()),
            zero: unknown_zero(service),
        })
    }

    /// Whether it was not used for too long.
    #[inline(always)]
    fn is_over(&self, cached: &Cached) -> bool {
        self.now.wrapping_sub(cached.used) > self.expiration
    }
}

/// The tick of the first pick since the scheduler was set: what was remembered before is another epoch's.
#[inline(always)]
fn epoch(state: &SchedulerState, now: u32) -> u32 {
    let seen = state.0.get();
    if seen != SchedulerState::START {
        return (seen >> 32) as u32;
    }
    let first = now | 1;
    if state.0.replace(seen, pack(NONE, first)) {
        first
    } else {
        (state.0.get() >> 32) as u32
    }
}

/// A look through a set (`ip_vs_dest_set_min` and `ip_vs_dest_set_max`).
struct Look {
    rule: u32,
    /// Index of the service.
    service: u32,
    /// The usable server with the fewest connections for its weight.
    least: u32,
    /// The server with the most.
    most: u32,
    /// [`IS_BUSY`] or 0.
    busy: u64,
    least_cost: u64,
    least_share: u64,
    most_cost: i64,
    most_share: i64,
    /// Number of servers less one.
    others: u64,
}

impl Look {
    /// Look at the first server and move on. Takes out what is no longer this service's.
    #[inline(always)]
    fn step<T: Tables>(&mut self, tables: &T, servers: &mut Servers) -> bool {
        let at = first(servers);
        let (Some(server), Some(counts)) = (tables.server(at), tables.counts(at)) else {
            turn(servers, NO_SLOT as u32);
            return false;
        };
        if server.service.get() != self.service {
            turn(servers, NO_SLOT as u32);
            return false;
        }
        turn(servers, at);
        self.others = self.others.wrapping_add(1);
        let (active, weight) = (counts.active.get(), server.weight.get() as u64);
        let cost = overhead(active, counts.total.get());
        let is_available = server.flags.get() & Server::AVAILABLE != 0;
        // lblc stays with a server that has reached its threshold.
        let may_take = self.rule == Scheduler::Lblc as u32 || !is_overloaded(tables, at, server);
        let is_less = self.least_cost.wrapping_mul(weight) > cost.wrapping_mul(self.least_share);
        if is_available && may_take && is_less {
            self.least = at;
            self.busy = if active as u64 > weight { IS_BUSY } else { 0 };
            self.least_cost = cost;
            self.least_share = weight;
        }
        let (cost, weight) = (cost as i64, weight as i64);
        let is_more = self.most_cost.wrapping_mul(weight) < cost.wrapping_mul(self.most_share);
        if weight > 0 && is_more {
            self.most = at;
            self.most_cost = cost;
            self.most_share = weight;
        }
        false
    }
}

/// Take a server out of a set, its place stays empty; one step.
#[inline(always)]
fn take_out(servers: &mut Servers, server: u32) -> bool {
    let at = first(servers);
    turn(servers, if at == server { NO_SLOT as u32 } else { at });
    false
}

/// A server on its way into a set.
struct Insert {
    /// The server to put into the next place: at first the new one, then what was there. [`NO_SLOT`] when done.
    server: u32,
    is_there: bool,
}

impl Insert {
    /// See whether it is there already; one step.
    #[inline(always)]
    fn look(&mut self, servers: &mut Servers) -> bool {
        let at = first(servers);
        turn(servers, at);
        if at == self.server {
            self.is_there = true;
        }
        false
    }

    /// Put it in front: every other moves back by one, up to the first empty place; one step.
    #[inline(always)]
    fn step(&mut self, servers: &mut Servers) -> bool {
        let at = first(servers);
        if self.server == NO_SLOT as u32 {
            turn(servers, at);
        } else {
            turn(servers, self.server);
            self.server = at;
        }
        false
    }
}

/// The server in the first place.
#[inline(always)]
fn first(servers: &Servers) -> u32 {
    servers[0] as u16 as u32
}

/// Move every place forward by one and put a server, or [`NO_SLOT`], in the last: after as many turns as there are
/// places each is where it was.
#[inline(always)]
fn turn(servers: &mut Servers, server: u32) {
    let [a, b, c, d, e, f] = *servers;
    *servers = [
        a >> 16 | b << 48,
        b >> 16 | c << 48,
        c >> 16 | d << 48,
        d >> 16 | e << 48,
        e >> 16 | f << 48,
        f >> 16 | (server as u64) << 48,
    ];
}
