//! Schedulers: which server gets a new connection. One file each, by the names that ipvsadm uses.
//!
//! Servers form a list per service, newest first, as in the kernel (`ip_vs_ctl.c`). There are four kinds of
//! schedulers:
//!
//! - rr and wrr go around the list ([`turn`]) and keep where they are in one 64-bit number that they change by
//!   compare-and-swap, so that processors that schedule at once still give one exact sequence;
//! - lc, wlc, sed, nq, fo and ovf look at every server and keep the best ([`walk`]);
//! - dh, sh, mh and maglev look into a ring that the owner of the tables made of the list ([`ring`]);
//! - lblc and lblcr remember what they chose for a destination, twos draws lots.
//!
//! Loops are closures of [`Tables::repeat`]. The verifier of kernels before 6.7 follows only their first turn and
//! takes a branch that it then does not see for dead, so what a closure branches on begins with a number that
//! the verifier does not know: see `unknown_zero`.

pub mod dh;
#[cfg(not(target_arch = "bpf"))]
pub(crate) mod fill;
pub mod fo;
pub mod lblc;
pub mod lblcr;
pub mod lc;
pub mod maglev;
pub mod mh;
pub mod nq;
pub mod ovf;
mod ramp;
pub mod ring;
pub mod rr;
pub mod sed;
pub mod sh;
pub mod turn;
pub mod twos;
pub mod walk;
pub mod wlc;
pub mod wrr;

use crate::tables::{NONE, SERVERS_PER_SERVICE, Server, Service, Tables};
use ramp::Ramp;

/// A scheduling algorithm, by its number in [`crate::tables::Service::scheduler`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Round robin.
    Rr = 1,
    /// Weighted round robin.
    Wrr = 2,
    /// Fewest connections.
    Lc = 3,
    /// Fewest connections for its weight.
    Wlc = 4,
    /// Shortest expected delay.
    Sed = 5,
    /// Never queue.
    Nq = 6,
    /// Weighted failover.
    Fo = 7,
    /// Weighted overflow.
    Ovf = 8,
    /// Power of two choices.
    Twos = 9,
    /// Destination hashing.
    Dh = 10,
    /// Source hashing.
    Sh = 11,
    /// Maglev hashing as IPVS has it.
    Mh = 12,
    /// Maglev hashing of our own.
    Maglev = 13,
    /// Locality-based fewest connections.
    Lblc = 14,
    /// The same with a set of servers for each destination.
    Lblcr = 15,
    /// Nothing is scheduled.
    None = 16,
}

impl Scheduler {
    /// Every scheduler there is.
    pub const ALL: &'static [Self] = &[
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Lblc,
        Self::Lblcr,
        Self::Dh,
        Self::Sh,
        Self::Mh,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Twos,
        Self::None,
        Self::Maglev,
    ];

    /// The name that ipvsadm uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Dh => "dh",
            Self::Sh => "sh",
            Self::Mh => "mh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Twos => "twos",
            Self::None => "none",
            Self::Maglev => "maglev",
        }
    }

    /// The scheduler with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        let is_it = |scheduler: &Self| scheduler.name() == name;
        Self::ALL.iter().copied().find(is_it)
    }

    /// The scheduler with a number.
    pub fn from_number(number: u32) -> Option<Self> {
        let is_it = |scheduler: &Self| *scheduler as u32 == number;
        Self::ALL.iter().copied().find(is_it)
    }

    /// Slots of the hash ring that a service with this scheduler has; 0: none.
    pub const fn ring_slots(self) -> u32 {
        match self {
            Self::Dh | Self::Sh => sh::SLOTS,
            Self::Mh => mh::SLOTS,
            Self::Maglev => maglev::SLOTS,
            _ => 0,
        }
    }
}

/// Where a packet comes from, as schedulers see it: the client's address folded to 32 bits (see [`fold`]), its port
/// above, both as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u64);

impl Origin {
    /// A client by its folded address and its port, both as numbers.
    #[inline(always)]
    pub const fn new(folded: u32, port: u16) -> Self {
        Self(folded as u64 | (port as u64) << 32)
    }

    /// An IPv4 client; both as on the wire.
    #[inline(always)]
    pub const fn v4(address: u32, port: u16) -> Self {
        Self::new(u32::from_be(address), u16::from_be(port))
    }

    /// As a number.
    #[inline(always)]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// From its number.
    #[inline(always)]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The same without a port.
    #[inline(always)]
    const fn without_port(self) -> Self {
        Self(self.0 & 0xffff_ffff)
    }

    /// Address and port added up.
    #[inline(always)]
    const fn sum(self) -> u32 {
        (self.0 as u32).wrapping_add((self.0 >> 32) as u32)
    }
}

/// Fold an address of 16 bytes, given as two words as on the wire (IPv4: in the first four bytes, the rest 0), to a
/// number of 32 bits: its four words XORed (`ip_vs_addr_fold` in `ip_vs.h`).
#[inline(always)]
pub const fn fold(high: u64, low: u64) -> u32 {
    let both = high ^ low;
    u32::from_be(both as u32 ^ (both >> 32) as u32)
}

/// Pick a server for a new connection of a service, or [`NONE`].
///
/// `high` and `low` are the destination address as two words, as [`fold`] takes them.
#[inline(always)]
pub fn pick<T: Tables>(tables: &T, index: u32, origin: Origin, high: u64, low: u64) -> u32 {
    tables.choose(index, origin, high, low)
}

/// What [`Tables::choose`] does.
#[inline(always)]
pub fn choose<T: Tables>(tables: &T, index: u32, origin: Origin, high: u64, low: u64) -> u32 {
    let Some(service) = tables.service(index) else {
        return NONE;
    };
    let rule = service.scheduler.get();
    if rule <= Scheduler::Wrr as u32 {
        turn::pick(tables, index)
    } else if rule <= Scheduler::Ovf as u32 {
        walk::best(tables, index) as u32
    } else if rule == Scheduler::Twos as u32 {
        twos::pick(tables, index)
    } else if rule <= Scheduler::Maglev as u32 {
        ring::pick(tables, index, origin, fold(high, low))
    } else if rule <= Scheduler::Lblcr as u32 {
        lblcr::pick(tables, index, high, low)
    } else {
        NONE
    }
}

/// Whether a server may get new connections.
#[inline(always)]
fn is_usable<T: Tables>(tables: &T, index: u32, server: &Server) -> bool {
    server.weight.get() > 0
        && server.flags.get() & Server::AVAILABLE != 0
        && !is_overloaded(tables, index, server)
}

/// Whether a server has reached its upper threshold and not yet fallen below the lower one.
#[inline(always)]
fn is_overloaded<T: Tables>(tables: &T, index: u32, server: &Server) -> bool {
    server.upper.get() != 0
        && match tables.counts(index) {
            Some(counts) => counts.overloaded.get() != 0,
            None => false,
        }
}

/// What connections weigh (`ip_vs_dest_conn_overhead`): an active one as much as 257 inactive ones. So it is in the
/// kernels of 2026, 6.1 among them; before, it was 256.
#[inline(always)]
fn overhead(active: u32, total: u32) -> u64 {
    ((active as u64) << 8) + total as u64
}

/// Zero, but the verifier cannot know: bit 31 of a service's flags is never set.
#[inline(always)]
fn unknown_zero(service: &Service) -> u64 {
    (service.flags.get() >> 31) as u64
}

/// The bound of a walk: every server of a service once, and the head of the list in between.
const WALK: u32 = SERVERS_PER_SERVICE + 2;

#[cfg(test)]
mod tests;
