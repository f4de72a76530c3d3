//! Services and servers in the maps: the lists that schedulers walk, changed while they walk.
//!
//! A server's slot keeps its link to the next one after it was taken out of its list, and is not used again
//! before [`GRACE`]: who stands on it still finds the way.

use furiwake_engine::{
    list::{self, Lists},
    shared::Shared64,
    tables::{self, Counts, NONE, SERVERS_PER_SERVICE, SchedulerState, Server, Service},
};
use furiwake_lvs::{
    model::{self, ServerKey, ServiceConfig, ServiceKey},
    plan::Change,
};

use crate::{
    Error, filter,
    index::{address_of, is_listed},
    load::{Maps, RawServiceKey},
    settings, statistics,
    translate::{MASQUERADE, ServerParts, ServiceParts, key_of, map_key, server_key, write_key},
};

/// Seconds that a slot rests after nothing refers to it any more.
const GRACE: u32 = 2;

impl Lists for Maps {
    fn service(&self, index: u32) -> Option<&Service> {
        self.service.get(index as usize)
    }

    fn scheduler_state(&self, service: u32) -> Option<&SchedulerState> {
        self.scheduler.get(service as usize)
    }

    fn server(&self, index: u32) -> Option<&Server> {
        self.server.get(index as usize)
    }

    fn ring(&self, word: u32) -> Option<&Shared64> {
        self.ring.get(word as usize)
    }
}

/// Carry out one change in this second.
pub(crate) fn apply(maps: &mut Maps, change: &Change, second: u32) -> Result<(), Error> {
    match change {
        Change::AddService(config) => add_service(maps, config),
        Change::EditService(config) => edit_service(maps, config),
        Change::RemoveService(key) => remove_service(maps, key),
        Change::AddServer { service, server } => add_server(maps, service, server, second),
        Change::EditServer { service, server } => edit_server(maps, service, server, second),
        Change::RemoveServer { service, server } => remove_server(maps, service, server),
        Change::SetTimeouts(timeouts) => {
            settings::set_timeouts(maps, timeouts);
            Ok(())
        }
        Change::SetSettings(wanted) => settings::set(maps, wanted),
    }
}

/// Index of a service.
pub(crate) fn find_service(maps: &Maps, key: &ServiceKey) -> Result<u32, Error> {
    maps.service_index
        .get(&RawServiceKey(map_key(key)?), 0)
        .map_err(|_| Error::Missing("service"))
}

/// Indices of a service's servers in the order of its list.
pub(crate) fn servers(maps: &Maps, service: &Service) -> Vec<u32> {
    list::servers(maps, service).collect()
}

/// Indices of all services that are not removed, oldest first.
pub(crate) fn all_services(maps: &Maps) -> Vec<u32> {
    let mut found: Vec<u32> = (0..maps.service.len() as u32)
        .filter(|&i| is_live(&maps.service[i as usize]))
        .collect();
    found.sort_by_key(|&i| maps.service[i as usize].created.get());
    found
}

/// Whether a slot holds a service that is not removed.
pub(crate) fn is_live(service: &Service) -> bool {
    service.flags.get() & (Service::USED | Service::REMOVED) == Service::USED
}

fn add_service(maps: &mut Maps, config: &ServiceConfig) -> Result<(), Error> {
    let key = map_key(&config.key)?;
    let parts = ServiceParts::of(config)?;
    let (at, created) = maps.index.next_service().ok_or(Error::Full {
        what: "service",
        limit: tables::SERVICES,
    })?;
    let service = &maps.service[at as usize];
    write_key(service, &key);
    service.head.set(NONE);
    service.created.set(created);
    statistics::clear(&maps.service_base[at as usize]);
    list::set_scheduler(maps, at, parts.scheduler)?;
    parts.write(service);
    maps.index.service_is_added(at, &maps.service[at as usize]);
    show_kinds(maps);
    filter::add_service(maps, &maps.service[at as usize]);
    if maps.index.live_services() == 1 {
        // Nothing was looked at before: removed services may have connections.
        filter::refresh(maps);
    }
    enter(maps, at).inspect_err(|_| {
        maps.service[at as usize]
            .flags
            .set(Service::USED | Service::REMOVED);
        maps.index
            .service_is_removed(at, &maps.service[at as usize]);
        show_kinds(maps);
        filter::refresh(maps);
    })
}

/// Tell the programs which kinds of services there are.
fn show_kinds(maps: &Maps) {
    maps.config[0].kinds.set(maps.index.kinds());
}

/// Let packets find a service.
pub(crate) fn enter(maps: &mut Maps, at: u32) -> Result<(), Error> {
    let key = RawServiceKey(key_of(&maps.service[at as usize]));
    maps.service_index
        .insert(key, at, 0)
        .map_err(|e| Error::Aya {
            what: "enter a service",
            path: "SERVICE_INDEX".into(),
            source: Box::new(e),
        })
}

/// Let packets find a service no more.
pub(crate) fn take_out(maps: &mut Maps, key: &RawServiceKey) -> Result<(), Error> {
    maps.service_index.remove(key).map_err(|e| Error::Aya {
        what: "take out a service",
        path: "SERVICE_INDEX".into(),
        source: Box::new(e),
    })
}

fn edit_service(maps: &mut Maps, config: &ServiceConfig) -> Result<(), Error> {
    let at = find_service(maps, &config.key)?;
    let parts = ServiceParts::of(config)?;
    let service = &maps.service[at as usize];
    if service.scheduler.get() != parts.scheduler as u32 {
        list::set_scheduler(maps, at, parts.scheduler)?;
    }
    parts.write(service);
    Ok(())
}

fn remove_service(maps: &mut Maps, key: &ServiceKey) -> Result<(), Error> {
    let at = find_service(maps, key)?;
    let flags = &maps.service[at as usize].flags;
    let before = flags.get();
    // First of all: should this end half way, the rest follows from it.
    flags.set(before | Service::REMOVED);
    take_out(maps, &RawServiceKey(map_key(key)?))
        .inspect_err(|_| maps.service[at as usize].flags.set(before))?;
    empty(maps, at);
    maps.index
        .service_is_removed(at, &maps.service[at as usize]);
    show_kinds(maps);
    if !maps.index.is_any_service_left() {
        filter::refresh(maps);
    }
    Ok(())
}

/// Remove all servers of a service.
fn empty(maps: &mut Maps, at: u32) {
    let listed = unlist(maps, at);
    for slot in listed {
        maps.index
            .server_is_retired(slot, &maps.server[slot as usize]);
    }
}

/// Take all servers of a service out of its list at once; gives which they were.
pub(crate) fn unlist(maps: &Maps, at: u32) -> Vec<u32> {
    let service = &maps.service[at as usize];
    let list = servers(maps, service);
    service.head.set(NONE);
    for slot in &list {
        retire(&maps.server[*slot as usize]);
    }
    list
}

/// Nothing new for this server: it is in no list.
pub(crate) fn retire(server: &Server) {
    server.flags.set(server.flags.get() & !Server::AVAILABLE);
    server.idle_since.set(0);
}

fn add_server(
    maps: &mut Maps,
    key: &ServiceKey,
    server: &model::Server,
    second: u32,
) -> Result<(), Error> {
    let at = find_service(maps, key)?;
    let parts = ServerParts::of(server)?;
    let service = &maps.service[at as usize];
    if servers(maps, service).len() >= SERVERS_PER_SERVICE as usize {
        return Err(Error::Full {
            what: "server in this service",
            limit: SERVERS_PER_SERVICE,
        });
    }
    let slot = match find_retired(maps, service, &parts) {
        Some(slot) => {
            statistics::move_server(maps, slot as usize, at)?;
            maps.index
                .server_is_revived(slot, &maps.server[slot as usize], at);
            slot
        }
        None => take_slot(maps, at, &parts)?,
    };
    let new = &maps.server[slot as usize];
    // Unlike an edit, this forgets the weight that one that comes back had.
    new.last_weight.set(0);
    lift_overload(new, &parts, &maps.counts[slot as usize]);
    parts.write(new);
    new.service.set(at);
    new.since.set(second);
    note_method(maps, slot);
    // Its replies are to be recognised from the first on.
    filter::add_server(maps, &maps.server[slot as usize]);
    list::link(maps, at, slot);
    Ok(())
}

/// Fill a free slot with who a server is.
fn take_slot(maps: &mut Maps, service: u32, parts: &ServerParts) -> Result<u32, Error> {
    let slot = maps.index.next_server().ok_or(Error::Full {
        what: "server",
        limit: tables::SERVERS,
    })?;
    statistics::clear_server(maps, slot as usize)?;
    let known = maps.index.at_address(&parts.address).next();
    let server = &maps.server[slot as usize];
    parts.write_key(server);
    server.service.set(service);
    server
        .hop
        .set(known.map_or(0, |at| maps.server[at as usize].hop.get()));
    server.flags.set(Server::USED);
    maps.counts[slot as usize].overloaded.set(0);
    maps.index.server_is_used(slot, &maps.server[slot as usize]);
    Ok(slot)
}

/// A server of the same service that was removed and still has connections: it is revived, as the kernel
/// does (`ip_vs_ctl.c`, `ip_vs_trash_get_dest`).
fn find_retired(maps: &Maps, service: &Service, parts: &ServerParts) -> Option<u32> {
    let key = key_of(service);
    let is_it = |at: &u32| {
        let server = &maps.server[*at as usize];
        let owner = maps.service.get(server.service.get() as usize);
        server.port.get() == parts.port && owner.is_some_and(|owner| key_of(owner) == key)
    };
    maps.index.retired_at(&parts.address).find(is_it)
}

/// Remember whether replies are to be looked for, by a server's method or by the one that its connections have.
fn note_method(maps: &mut Maps, slot: u32) {
    let server = &maps.server[slot as usize];
    let flags = server.flags.get();
    if server.method.get() == MASQUERADE {
        server.flags.set(flags | Server::REPLIES);
        maps.index.changed_method().remove(&slot);
    } else if flags & Server::REPLIES != 0 {
        server.idle_since.set(0);
        maps.index.changed_method().insert(slot);
    }
}

/// Let a server whose upper threshold is about to be raised or taken away have connections again, as Linux does up to
/// 6.1.176 at least (`__ip_vs_update_dest`). One that is lowered is felt with the next connection only; newer kernels
/// judge at once (`ip_vs_dest_update_overload`).
fn lift_overload(server: &Server, parts: &ServerParts, counts: &Counts) {
    if parts.upper == 0 || parts.upper > server.upper.get() {
        counts.overloaded.set(0);
    }
}

/// Slot of a server in the list of a service.
fn find_server(maps: &Maps, service: &Service, key: &ServerKey) -> Result<u32, Error> {
    let (address, port) = server_key(key)?;
    let is_it = |at: &u32| {
        let server = &maps.server[*at as usize];
        server.port.get() == port && address_of(server) == address
    };
    let found = servers(maps, service).into_iter().find(is_it);
    found.ok_or(Error::Missing("server"))
}

fn edit_server(
    maps: &mut Maps,
    key: &ServiceKey,
    server: &model::Server,
    second: u32,
) -> Result<(), Error> {
    let at = find_service(maps, key)?;
    let parts = ServerParts::of(server)?;
    let slot = find_server(maps, &maps.service[at as usize], &server.key)?;
    let edited = &maps.server[slot as usize];
    if edited.weight.get() == 0 && server.weight != 0 {
        edited.since.set(second);
    }
    if parts.method == MASQUERADE {
        // Before the first of its connections, see `add_server`.
        edited.flags.set(edited.flags.get() | Server::REPLIES);
        filter::add_server(maps, edited);
    }
    lift_overload(edited, &parts, &maps.counts[slot as usize]);
    parts.write(edited);
    note_method(maps, slot);
    list::weights_changed(maps, at);
    Ok(())
}

fn remove_server(maps: &mut Maps, key: &ServiceKey, server: &ServerKey) -> Result<(), Error> {
    let at = find_service(maps, key)?;
    let slot = find_server(maps, &maps.service[at as usize], server)?;
    maps.server[slot as usize].idle_since.set(0);
    list::unlink(maps, slot);
    maps.index
        .server_is_retired(slot, &maps.server[slot as usize]);
    Ok(())
}

/// Free what removed servers and services held until their last connection ended.
pub(crate) fn maintain(maps: &mut Maps, second: u32) -> Result<(), Error> {
    let mut freed = false;
    let retired: Vec<u32> = maps.index.retired().collect();
    for slot in retired {
        let counts = &maps.counts[slot as usize];
        let is_free = counts.total.get() == 0 && counts.persistent.get() == 0;
        if !has_rested(&maps.server[slot as usize], is_free, second) {
            continue;
        }
        statistics::settle_server(maps, slot as usize)?;
        list::forget(maps, slot);
        let server = &maps.server[slot as usize];
        server.flags.set(0);
        maps.index.server_is_freed(slot, server);
        freed = true;
    }
    for at in maps.index.abandoned_services() {
        maps.service[at as usize].flags.set(0);
        maps.index.service_is_freed(at);
        freed = true;
    }
    let changed: Vec<u32> = maps.index.changed_method().iter().copied().collect();
    for slot in changed {
        let server = &maps.server[slot as usize];
        let is_free = maps.counts[slot as usize].total.get() == 0;
        if is_listed(server) && has_rested(server, is_free, second) {
            server.flags.set(server.flags.get() & !Server::REPLIES);
            maps.index.changed_method().remove(&slot);
            freed = true;
        }
    }
    if freed {
        filter::refresh(maps);
    }
    Ok(())
}

/// Whether nothing has referred to a server for a while.
fn has_rested(server: &Server, is_free: bool, second: u32) -> bool {
    if !is_free {
        server.idle_since.set(0);
    } else if server.idle_since.get() == 0 {
        server.idle_since.set(second.max(1));
    } else {
        return second.wrapping_sub(server.idle_since.get()) >= GRACE;
    }
    false
}
