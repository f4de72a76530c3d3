//! A service's list of servers, and what its scheduler makes of changes to it: for the owner of the tables.
//!
//! Programs pick servers meanwhile. Each step leaves a list that can be walked to its end; a server that was
//! taken out keeps its link, for those that stand on it.

use crate::{
    schedule::{Scheduler, wrr},
    tables::{NONE, SERVERS_PER_SERVICE, SchedulerState, Server, Service, Tables, pack},
};

/// What lists are made of. `None` means that the index is out of the map.
pub trait Lists {
    /// A service.
    fn service(&self, index: u32) -> Option<&Service>;
    /// What its scheduler remembers.
    fn scheduler_state(&self, service: u32) -> Option<&SchedulerState>;
    /// A server.
    fn server(&self, index: u32) -> Option<&Server>;
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
}

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

/// Bring a service's scheduler up to date with its servers' weights (`ip_vs_wrr_dest_changed`). Weights mean
/// nothing to rr, which goes on where it was.
pub fn weights_changed<T: Lists>(tables: &T, service_index: u32) -> Option<()> {
    let service = tables.service(service_index)?;
    if service.scheduler.get() != Scheduler::Wrr as u32 {
        return Some(());
    }
    let (divisor, mark) = set_divisor_and_mark(tables, service);
    let state = &tables.scheduler_state(service_index)?.0;
    loop {
        let seen = state.get();
        let level = wrr::level_after_change((seen >> 32) as u32, divisor, mark);
        if state.replace(seen, pack(NONE, level)) {
            return Some(());
        }
    }
}

/// Give a service a scheduler, which begins anew.
pub fn set_scheduler<T: Lists>(tables: &T, service_index: u32, scheduler: Scheduler) -> Option<()> {
    let service = tables.service(service_index)?;
    let state = &tables.scheduler_state(service_index)?.0;
    let (_, mark) = set_divisor_and_mark(tables, service);
    state.set(match scheduler {
        Scheduler::Rr => SchedulerState::START,
        Scheduler::Wrr => pack(NONE, mark),
    });
    service.scheduler.set(scheduler as u32);
    Some(())
}

fn set_divisor_and_mark<T: Lists>(tables: &T, service: &Service) -> (u32, u32) {
    let weights =
        servers(tables, service).filter_map(|at| tables.server(at).map(|s| s.weight.get()));
    let (divisor, mark) = wrr::divisor_and_mark(weights);
    service.divisor.set(divisor);
    service.mark.set(mark);
    (divisor, mark)
}
