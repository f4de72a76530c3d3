//! Services and servers in the maps: the lists that schedulers walk, changed while they walk.
//!
//! A server's slot keeps its link to the next one after it was taken out of its list, and is not used again
//! before [`GRACE`]: who stands on it still finds the way.

use std::net::{IpAddr, Ipv4Addr};

use furiwake_engine::{
    schedule::{Scheduler, wrr},
    tables::{self, NONE, SERVERS_PER_SERVICE, SchedulerState, Server, Service},
};
use furiwake_lvs::{
    model::{
        self, Forward, Protocol, SchedulerName, ServerKey, ServiceConfig, ServiceKey, Timeouts,
        Tunnel,
    },
    plan::Change,
};

use crate::{
    Error, filter,
    load::{Maps, RawServiceKey},
    statistics,
};

/// Seconds that a slot rests after nothing refers to it any more.
const GRACE: u32 = 2;

/// IPVS's number of masquerading.
const MASQUERADE: u16 = 0;

/// Carry out one change.
pub(crate) fn apply(maps: &mut Maps, change: &Change) -> Result<(), Error> {
    match change {
        Change::AddService(config) => add_service(maps, config),
        Change::EditService(config) => edit_service(maps, config),
        Change::RemoveService(key) => remove_service(maps, key),
        Change::AddServer { service, server } => add_server(maps, service, server),
        Change::EditServer { service, server } => edit_server(maps, service, server),
        Change::RemoveServer { service, server } => remove_server(maps, service, server),
        Change::SetTimeouts(timeouts) => {
            set_timeouts(maps, timeouts);
            Ok(())
        }
    }
}

/// The key as the programs look it up.
pub(crate) fn map_key(key: &ServiceKey) -> Result<tables::ServiceKey, Error> {
    match key {
        ServiceKey::Address {
            protocol: protocol @ (Protocol::Tcp | Protocol::Udp),
            address: IpAddr::V4(address),
            port,
        } => Ok(tables::ServiceKey {
            address: wire(*address),
            port: port.to_be(),
            protocol: protocol.number(),
            zero: 0,
        }),
        _ => Err(Error::Unsupported(
            "a service that is not TCP or UDP on an IPv4 address".to_owned(),
        )),
    }
}

/// An address as it lies on the wire.
pub(crate) fn wire(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// An address from the wire.
pub(crate) fn address(wire: u32) -> Ipv4Addr {
    Ipv4Addr::from(wire.to_ne_bytes())
}

/// Index of a service.
pub(crate) fn find_service(maps: &Maps, key: &ServiceKey) -> Result<u32, Error> {
    maps.service_index
        .get(&RawServiceKey(map_key(key)?), 0)
        .map_err(|_| Error::Missing("service"))
}

/// Indices of a service's servers in the order of its list.
pub(crate) fn servers(maps: &Maps, service: &Service) -> Vec<u32> {
    let mut found = Vec::new();
    let mut at = service.head.get();
    while let Some(server) = maps
        .server
        .get(at as usize)
        .filter(|_| found.len() <= SERVERS_PER_SERVICE as usize)
    {
        found.push(at);
        at = server.next.get();
    }
    found
}

/// Indices of all services that are not removed, oldest first.
pub(crate) fn all_services(maps: &Maps) -> Vec<u32> {
    let mut found: Vec<u32> = (0..maps.service.len() as u32)
        .filter(|&i| {
            maps.service[i as usize].flags.get() & (Service::USED | Service::REMOVED)
                == Service::USED
        })
        .collect();
    found.sort_by_key(|&i| maps.service[i as usize].created.get());
    found
}

/// A service's configuration, from its slot.
pub(crate) fn config(service: &Service) -> ServiceConfig {
    let port_protocol = service.port_protocol.get();
    let number = service.scheduler.get();
    let scheduler = Scheduler::ALL
        .iter()
        .find(|s| **s as u32 == number)
        .map_or("none", |s| s.name());
    ServiceConfig {
        key: ServiceKey::Address {
            protocol: Protocol::from_number((port_protocol >> 16) as u8).unwrap_or(Protocol::Tcp),
            address: IpAddr::V4(address(service.address.get())),
            port: u16::from_be(port_protocol as u16),
        },
        scheduler: SchedulerName(scheduler.to_owned()),
        scheduler_flags: 0,
        persistence: None,
        persistence_engine: None,
        one_packet: false,
    }
}

/// A server's configuration, from its slot.
pub(crate) fn server(server: &Server) -> model::Server {
    model::Server {
        key: ServerKey {
            address: IpAddr::V4(address(server.address.get())),
            port: u16::from_be(server.port.get()),
        },
        forward: Forward::Masquerade,
        weight: server.weight.get(),
        upper_threshold: 0,
        lower_threshold: 0,
        tunnel: Tunnel::default(),
    }
}

fn scheduler(config: &ServiceConfig) -> Result<Scheduler, Error> {
    let name = &config.scheduler.0;
    Scheduler::ALL
        .iter()
        .copied()
        .find(|s| s.name() == name)
        .ok_or_else(|| Error::Unsupported(format!("the scheduler {name}")))
}

fn add_service(maps: &mut Maps, config: &ServiceConfig) -> Result<(), Error> {
    let key = map_key(&config.key)?;
    let scheduler = scheduler(config)?;
    let index = (0..maps.service.len())
        .find(|&i| maps.service[i].flags.get() == 0)
        .ok_or(Error::Full {
            what: "service",
            limit: tables::SERVICES,
        })?;
    let created = maps
        .service
        .iter()
        .map(|s| s.created.get())
        .max()
        .unwrap_or(0)
        + 1;
    let service = &maps.service[index];
    service.address.set(key.address);
    service
        .port_protocol
        .set(u32::from(key.port) | u32::from(key.protocol) << 16);
    service.scheduler.set(scheduler as u32);
    service.head.set(NONE);
    service.divisor.set(1);
    service.mark.set(0);
    service.created.set(created);
    maps.scheduler[index].0.set(SchedulerState::START);
    statistics::clear(&maps.service_base[index]);
    service.flags.set(Service::USED);
    filter::refresh(maps);
    maps.service_index
        .insert(RawServiceKey(key), index as u32, 0)
        .map_err(|e| Error::Aya {
            what: "enter a service",
            path: "SERVICE_INDEX".into(),
            source: Box::new(e),
        })
}

fn edit_service(maps: &mut Maps, config: &ServiceConfig) -> Result<(), Error> {
    let index = find_service(maps, &config.key)? as usize;
    let scheduler = scheduler(config)? as u32;
    let service = &maps.service[index];
    if service.scheduler.get() != scheduler {
        maps.scheduler[index].0.set(SchedulerState::START);
        service.scheduler.set(scheduler);
        weights_changed(maps, index);
    }
    Ok(())
}

fn remove_service(maps: &mut Maps, key: &ServiceKey) -> Result<(), Error> {
    let index = find_service(maps, key)? as usize;
    maps.service_index
        .remove(&RawServiceKey(map_key(key)?))
        .map_err(|e| Error::Aya {
            what: "take out a service",
            path: "SERVICE_INDEX".into(),
            source: Box::new(e),
        })?;
    let service = &maps.service[index];
    let list = servers(maps, service);
    service.head.set(NONE);
    for at in list {
        retire(&maps.server[at as usize]);
    }
    service.flags.set(Service::USED | Service::REMOVED);
    filter::refresh(maps);
    Ok(())
}

fn retire(server: &Server) {
    server.flags.set(Server::USED);
    server.idle_since.set(0);
}

fn add_server(maps: &mut Maps, key: &ServiceKey, server: &model::Server) -> Result<(), Error> {
    let index = find_service(maps, key)?;
    let (address, port) = usable(server)?;
    let service = &maps.service[index as usize];
    if servers(maps, service).len() >= SERVERS_PER_SERVICE as usize {
        return Err(Error::Full {
            what: "server in this service",
            limit: SERVERS_PER_SERVICE,
        });
    }
    let slot = match find_retired(maps, service, address, port) {
        Some(slot) => {
            statistics::move_server(maps, slot, index)?;
            slot
        }
        None => {
            let free = (0..maps.server.len()).find(|&i| maps.server[i].flags.get() == 0);
            let slot = free.ok_or(Error::Full {
                what: "server",
                limit: tables::SERVERS,
            })?;
            maps.server[slot].hop.set(known_hop(maps, address));
            statistics::clear_server(maps, slot)?;
            slot
        }
    };
    let (service, new) = (&maps.service[index as usize], &maps.server[slot]);
    new.address.set(address);
    new.port.set(port);
    new.method.set(MASQUERADE);
    new.weight.set(server.weight);
    new.service.set(index);
    new.next.set(service.head.get());
    new.flags.set(Server::USED | Server::AVAILABLE);
    filter::refresh(maps);
    service.head.set(slot as u32);
    weights_changed(maps, index as usize);
    Ok(())
}

/// Address and port as on the wire, of a server that this data plane can have.
fn usable(server: &model::Server) -> Result<(u32, u16), Error> {
    let IpAddr::V4(address) = server.key.address else {
        return Err(Error::Unsupported(
            "a server with an IPv6 address".to_owned(),
        ));
    };
    if server.forward != Forward::Masquerade {
        return Err(Error::Unsupported(
            "a forwarding method other than masquerading".to_owned(),
        ));
    }
    if server.upper_threshold != 0 || server.lower_threshold != 0 {
        return Err(Error::Unsupported("a threshold".to_owned()));
    }
    Ok((wire(address), server.key.port.to_be()))
}

/// A server of the same service that was removed and still has connections: it is revived, as the kernel
/// does (`ip_vs_ctl.c`, `ip_vs_trash_get_dest`).
fn find_retired(maps: &Maps, service: &Service, address: u32, port: u16) -> Option<usize> {
    maps.server.iter().position(|server| {
        let owner = maps.service.get(server.service.get() as usize);
        server.flags.get() == Server::USED
            && server.address.get() == address
            && server.port.get() == port
            && owner.is_some_and(|owner| {
                owner.address.get() == service.address.get()
                    && owner.port_protocol.get() == service.port_protocol.get()
            })
    })
}

/// The next hop that other servers with this address have.
fn known_hop(maps: &Maps, address: u32) -> u32 {
    maps.server
        .iter()
        .find(|server| server.flags.get() != 0 && server.address.get() == address)
        .map_or(0, |server| server.hop.get())
}

/// Slot of a server in the list of a service.
fn find_server(maps: &Maps, service: &Service, key: &ServerKey) -> Result<u32, Error> {
    let IpAddr::V4(address) = key.address else {
        return Err(Error::Missing("server"));
    };
    servers(maps, service)
        .into_iter()
        .find(|&at| {
            let server = &maps.server[at as usize];
            server.address.get() == wire(address) && server.port.get() == key.port.to_be()
        })
        .ok_or(Error::Missing("server"))
}

fn edit_server(maps: &mut Maps, key: &ServiceKey, server: &model::Server) -> Result<(), Error> {
    let index = find_service(maps, key)? as usize;
    usable(server)?;
    let at = find_server(maps, &maps.service[index], &server.key)?;
    maps.server[at as usize].weight.set(server.weight);
    weights_changed(maps, index);
    Ok(())
}

fn remove_server(maps: &mut Maps, key: &ServiceKey, server: &ServerKey) -> Result<(), Error> {
    let index = find_service(maps, key)? as usize;
    let service = &maps.service[index];
    let at = find_server(maps, service, server)?;
    let list = servers(maps, service);
    let place = list.iter().position(|&i| i == at).unwrap_or(0);
    let before = place.checked_sub(1).map(|i| list[i]);
    let next = maps.server[at as usize].next.get();
    match before {
        Some(before) => maps.server[before as usize].next.set(next),
        None => service.head.set(next),
    }
    // Who was picked last is gone: the one before it is where the walk goes on (`ip_vs_rr_del_dest`).
    let state = &maps.scheduler[index].0;
    let seen = state.get();
    if seen as u32 == at {
        state.replace(
            seen,
            tables::pack(before.unwrap_or(NONE), (seen >> 32) as u32),
        );
    }
    retire(&maps.server[at as usize]);
    weights_changed(maps, index);
    Ok(())
}

/// What wrr remembers follows the weights (`ip_vs_wrr_dest_changed`).
fn weights_changed(maps: &Maps, index: usize) {
    let service = &maps.service[index];
    let list = servers(maps, service);
    let weights = list.iter().map(|&at| maps.server[at as usize].weight.get());
    let (divisor, mark) = wrr::divisor_and_mark(weights);
    service.divisor.set(divisor);
    service.mark.set(mark);
    if service.scheduler.get() == Scheduler::Wrr as u32 {
        let state = &maps.scheduler[index].0;
        let level = (state.get() >> 32) as u32;
        state.set(tables::pack(
            NONE,
            wrr::level_after_change(level, divisor, mark),
        ));
    }
}

fn set_timeouts(maps: &Maps, timeouts: &Timeouts) {
    use furiwake_engine::state::State;
    let config = &maps.config[0];
    let per_second = config.ticks_per_second.get();
    for (state, seconds) in [
        (State::Established, timeouts.tcp),
        (State::FinWait, timeouts.tcp_fin),
        (State::Udp, timeouts.udp),
    ] {
        config.timeouts[state as usize].set(seconds.saturating_mul(per_second));
    }
}

/// The timeouts in force.
pub(crate) fn timeouts(maps: &Maps) -> Timeouts {
    use furiwake_engine::state::State;
    let config = &maps.config[0];
    let seconds =
        |state: State| config.timeouts[state as usize].get() / config.ticks_per_second.get().max(1);
    Timeouts {
        tcp: seconds(State::Established),
        tcp_fin: seconds(State::FinWait),
        udp: seconds(State::Udp),
    }
}

/// Free what removed servers and services held until their last connection ended. `now` in seconds.
pub(crate) fn maintain(maps: &mut Maps, now: u32) -> Result<(), Error> {
    let mut freed = false;
    for slot in 0..maps.server.len() {
        let server = &maps.server[slot];
        if server.flags.get() != Server::USED {
            continue;
        }
        if maps.counts[slot].total.get() != 0 {
            server.idle_since.set(0);
        } else if server.idle_since.get() == 0 {
            server.idle_since.set(now.max(1));
        } else if now.wrapping_sub(server.idle_since.get()) >= GRACE {
            statistics::settle_server(maps, slot)?;
            maps.server[slot].flags.set(0);
            freed = true;
        }
    }
    for (index, service) in maps.service.iter().enumerate() {
        let removed = service.flags.get() == Service::USED | Service::REMOVED;
        let held = || {
            maps.server
                .iter()
                .any(|s| s.flags.get() != 0 && s.service.get() as usize == index)
        };
        if removed && !held() {
            service.flags.set(0);
            freed = true;
        }
    }
    if freed {
        filter::refresh(maps);
    }
    Ok(())
}
