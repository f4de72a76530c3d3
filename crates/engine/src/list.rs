//! A service's list of servers, and what its scheduler makes of changes to it: for the owner of the tables.
//!
//! Programs pick servers meanwhile. Each step leaves a list that can be walked to its end; a server that was
//! taken out keeps its link, for those that stand on it. A hash ring is made when a service gets its scheduler and
//! changed where it is: any mixture of the old and the new one is a ring.

use core::{error::Error, fmt};

use crate::{
    schedule::{
        Scheduler,
        fill::{self, Member},
        fold, wrr,
    },
    shared::Shared64,
    tables::{NO_SLOT, NONE, SERVERS_PER_SERVICE, SchedulerState, Server, Service, Tables, pack},
};

/// What lists are made of. `None` means that the index is out of the map.
pub trait Lists {
    /// A service.
    fn service(&self, index: u32) -> Option<&Service>;
    /// What its scheduler remembers.
    fn scheduler_state(&self, service: u32) -> Option<&SchedulerState>;
    /// A server.
    fn server(&self, index: u32) -> Option<&Server>;
    /// Four slots of the hash rings.
    fn ring(&self, word: u32) -> Option<&Shared64>;
}

impl<T: Tables> Lists for T {
    fn service(&self, index: u32) -> Option<&Service> {
        Tables::service(self, index)
    }

    fn scheduler_state(&self, service: u32) -> Option<&SchedulerState> {
        Tables::scheduler_state(self, service)
    }

    fn server(&self, index: u32) -> Option<&Server> {
        Tables::server(self, index)
    }

    fn ring(&self, word: u32) -> Option<&Shared64> {
        Tables::ring(self, word)
    }
}

/// Why a service cannot get a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoScheduler {
    /// There is no such service.
    NoService,
    /// Other services' hash rings take up the room.
    NoRoom,
}

impl fmt::Display for NoScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoService => "the service's index is out of the map",
            Self::NoRoom => {
                "hash rings: no room; use sh, dh, mh or maglev for fewer services (maglev takes the most)"
            }
        })
    }
}

impl Error for NoScheduler {}

/// The servers of a service, newest first.
pub fn servers<T: Lists>(tables: &T, service: &Service) -> impl Iterator<Item = u32> {
    let next = |&at: &u32| tables.server(at).map(|server| server.next.get());
    let is_server = |&at: &u32| tables.server(at).is_some();
    core::iter::successors(Some(service.head.get()), next)
        .take_while(is_server)
        .take(SERVERS_PER_SERVICE as usize)
}

/// Put a server, filled in but for its link, at the head of a service's list and make it available.
pub fn link<T: Lists>(tables: &T, service_index: u32, server_index: u32) -> Option<()> {
    let service = tables.service(service_index)?;
    let server = tables.server(server_index)?;
    server.service.set(service_index);
    server.next.set(service.head.get());
    server
        .flags
        .set(server.flags.get() | Server::USED | Server::AVAILABLE);
    service.head.set(server_index);
    weights_changed(tables, service_index)
}

/// Take a server out of its service's list. Its slot stays in use: connections refer to it.
///
/// Before the slot becomes free call [`forget`].
pub fn unlink<T: Lists>(tables: &T, server_index: u32) -> Option<()> {
    let server = tables.server(server_index)?;
    let service_index = server.service.get();
    let service = tables.service(service_index)?;
    let before = servers(tables, service).take_while(|&at| at != server_index);
    let before = before.last().unwrap_or(NONE);
    server.flags.set(server.flags.get() & !Server::AVAILABLE);
    match tables.server(before) {
        Some(before) => before.next.set(server.next.get()),
        None if service.head.get() == server_index => service.head.set(server.next.get()),
        // It is in no list.
        None => return None,
    }
    let state = &tables.scheduler_state(service_index)?.0;
    loop {
        let seen = state.get();
        if seen as u32 != server_index || state.replace(seen, pack(before, (seen >> 32) as u32)) {
            break;
        }
    }
    weights_changed(tables, service_index)
}

/// Make sure that the scheduler of a server's former service does not stand on it: one that picked it while it
/// was taken out may. To be called before the slot is given to another server.
pub fn forget<T: Lists>(tables: &T, server_index: u32) -> Option<()> {
    let service = tables.server(server_index)?.service.get();
    let state = &tables.scheduler_state(service)?.0;
    let seen = state.get();
    if seen as u32 == server_index {
        state.replace(seen, pack(NONE, (seen >> 32) as u32));
    }
    Some(())
}

/// Give a server in a list another weight. `now` is the second since boot, by the clock of [`Tables::now`]: a server
/// that had no weight begins to take connections (slow start).
pub fn set_weight<T: Lists>(tables: &T, server_index: u32, weight: u32, now: u32) -> Option<()> {
    let server = tables.server(server_index)?;
    if weight != 0 {
        if server.weight.get() == 0 {
            server.since.set(now);
        }
        server.last_weight.set(weight);
    }
    server.weight.set(weight);
    weights_changed(tables, server.service.get())
}

/// Bring a service's scheduler up to date with its servers and their weights (`ip_vs_wrr_dest_changed` and the like).
/// Weights mean nothing to rr, which goes on where it was.
pub fn weights_changed<T: Lists>(tables: &T, service_index: u32) -> Option<()> {
    let service = tables.service(service_index)?;
    let scheduler = Scheduler::from_number(service.scheduler.get())?;
    if scheduler == Scheduler::Wrr {
        let (divisor, mark) = set_divisor_and_mark(tables, service);
        let state = &tables.scheduler_state(service_index)?.0;
        loop {
            let seen = state.get();
            let level = wrr::level_after_change((seen >> 32) as u32, divisor, mark);
            if state.replace(seen, pack(NONE, level)) {
                break;
            }
        }
    }
    if scheduler.ring_slots() != 0 {
        fill_ring(tables, service, scheduler, service.ring.get() as u32)?;
    }
    Some(())
}

/// Give a service a scheduler, which begins anew. When there is no room for its hash ring, nothing has changed.
pub fn set_scheduler<T: Lists>(
    tables: &T,
    service_index: u32,
    scheduler: Scheduler,
) -> Result<(), NoScheduler> {
    let service = tables
        .service(service_index)
        .ok_or(NoScheduler::NoService)?;
    let state = tables
        .scheduler_state(service_index)
        .ok_or(NoScheduler::NoService)?;
    let slots = scheduler.ring_slots();
    if slots != 0 {
        let start = find_room(tables, service_index, slots).ok_or(NoScheduler::NoRoom)?;
        fill_ring(tables, service, scheduler, start).ok_or(NoScheduler::NoRoom)?;
        // Before the scheduler that looks into it. One that looks into another is not misled: see `ring::pick`.
        service.ring.set(pack(start, slots));
    }
    let (_, mark) = set_divisor_and_mark(tables, service);
    state.0.set(match scheduler {
        Scheduler::Wrr => pack(NONE, mark),
        _ => SchedulerState::START,
    });
    service.scheduler.set(scheduler as u32);
    Ok(())
}

fn set_divisor_and_mark<T: Lists>(tables: &T, service: &Service) -> (u32, u32) {
    let weights =
        servers(tables, service).filter_map(|at| tables.server(at).map(|s| s.weight.get()));
    let (divisor, mark) = wrr::divisor_and_mark(weights);
    service.divisor.set(divisor);
    service.mark.set(mark);
    (divisor, mark)
}

/// Write the ring for a service's servers as they are now, from slot `start` on.
fn fill_ring<T: Lists>(
    tables: &T,
    service: &Service,
    scheduler: Scheduler,
    start: u32,
) -> Option<()> {
    let members: Vec<Member> = servers(tables, service)
        .filter_map(|at| Some(member(service, at, tables.server(at)?)))
        .collect();
    let owners = fill::owners(scheduler, &members);
    for (word, four) in (start / 4..).zip(owners.chunks(4)) {
        let slot = |at: usize| *four.get(at).unwrap_or(&NO_SLOT) as u64;
        let new = slot(0) | slot(1) << 16 | slot(2) << 32 | slot(3) << 48;
        let cell = tables.ring(word)?;
        if cell.get() != new {
            cell.set(new);
        }
    }
    Some(())
}

fn member(service: &Service, index: u32, server: &Server) -> Member {
    let [b, c, d] = &server.address_rest;
    // An IPv4 service goes by the first word of an IPv6 server (`ip_vs_mh_hashkey` by the service's family).
    let is_v6 = service.flags.get() & Service::V6 != 0;
    let [b, c, d] = if is_v6 || server.flags.get() & Server::V6 != 0 {
        [b.get(), c.get(), d.get()]
    } else {
        [0; 3]
    };
    let word = |first: u32, second: u32| first as u64 | (second as u64) << 32;
    let address = (word(server.address.get(), b), word(c, d));
    let folded = if is_v6 {
        fold(address.0, address.1)
    } else {
        fold(server.address.get() as u64, 0)
    };
    Member {
        index: index as u16,
        address,
        folded,
        port: u16::from_be(server.port.get()),
        weight: server.weight.get(),
        last_weight: server.last_weight.get(),
    }
}

/// The first place where a service's ring has room: where it is, if it has as many slots, else what no service's ring
/// takes up.
fn find_room<T: Lists>(tables: &T, service_index: u32, slots: u32) -> Option<u32> {
    let mut taken = Vec::new();
    let mut own = None;
    for (index, service) in (0..).map_while(|index| Some((index, tables.service(index)?))) {
        let (start, length) = ring_of(service);
        if length == 0 {
            continue;
        }
        if index == service_index {
            own = Some((start, length));
        } else {
            taken.push((start, length));
        }
    }
    taken.sort_unstable();
    let is_free = |start: u32| {
        let overlaps =
            |&&(other, length): &&(u32, u32)| start < other + length && other < start + slots;
        taken.iter().find(overlaps).is_none()
    };
    if let Some((start, length)) = own
        && length == slots
        && is_free(start)
    {
        return Some(start);
    }
    taken.extend(own);
    taken.sort_unstable();
    let mut start = 0;
    for (other, length) in taken {
        if start + slots <= other {
            break;
        }
        start = start.max((other + length).next_multiple_of(4));
    }
    tables.ring((start + slots - 1) / 4).map(|_| start)
}

/// First slot and number of slots of the ring that a service has; of one without, 0 slots.
fn ring_of(service: &Service) -> (u32, u32) {
    let in_use = service.flags.get() & (Service::USED | Service::REMOVED) == Service::USED;
    let has_ring = Scheduler::from_number(service.scheduler.get())
        .is_some_and(|scheduler| scheduler.ring_slots() != 0);
    let ring = service.ring.get();
    if in_use && has_ring {
        (ring as u32, (ring >> 32) as u32)
    } else {
        (0, 0)
    }
}
