//! Services and servers in the maps: the lists that schedulers walk, changed while they walk.
//!
//! A server's slot keeps its link to the next one after it was taken out of its list, and is not used again
//! before [`GRACE`]: who stands on it still finds the way.

use std::net::{IpAddr, Ipv4Addr};

use furiwake_engine::{
    list::{self, Lists},
    schedule::Scheduler,
    shared::Shared64,
    tables::{self, NONE, SERVERS_PER_SERVICE, SchedulerState, Server, Service},
};
use furiwake_lvs::{
    model::{
        self, Forward, Protocol, SchedulerName, ServerKey, ServiceConfig, ServiceKey, Settings,
        Timeouts, Tunnel,
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
        Change::SetSettings(settings) => {
            set_settings(maps, settings);
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
        } => Ok(tables::ServiceKey::v4(
            wire(*address),
            port.to_be(),
            protocol.number(),
        )),
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
    list::servers(maps, service).collect()
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
        slow_start: 0,
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
    service.address.set(key.address[0]);
    service
        .port_protocol
        .set(u32::from(key.port) | u32::from(key.protocol) << 16);
    service.head.set(NONE);
    service.created.set(created);
    list::set_scheduler(maps, index as u32, scheduler)?;
    statistics::clear(&maps.service_base[index]);
    service.flags.set(Service::USED);
    filter::refresh(maps);
    enter(maps, index as u32).inspect_err(|_| {
        maps.service[index].flags.set(0);
        filter::refresh(maps);
    })
}

/// Let packets find a service.
pub(crate) fn enter(maps: &mut Maps, index: u32) -> Result<(), Error> {
    let key = key_of(&maps.service[index as usize]);
    maps.service_index
        .insert(key, index, 0)
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

/// The key by which packets find a service.
pub(crate) fn key_of(service: &Service) -> RawServiceKey {
    let port_protocol = service.port_protocol.get();
    RawServiceKey(tables::ServiceKey::v4(
        service.address.get(),
        port_protocol as u16,
        (port_protocol >> 16) as u8,
    ))
}

fn edit_service(maps: &mut Maps, config: &ServiceConfig) -> Result<(), Error> {
    let index = find_service(maps, &config.key)?;
    let scheduler = scheduler(config)?;
    if maps.service[index as usize].scheduler.get() != scheduler as u32 {
        list::set_scheduler(maps, index, scheduler)?;
    }
    Ok(())
}

fn remove_service(maps: &mut Maps, key: &ServiceKey) -> Result<(), Error> {
    let index = find_service(maps, key)?;
    // First of all: should this end half way, the rest follows from it.
    let flags = &maps.service[index as usize].flags;
    flags.set(Service::USED | Service::REMOVED);
    take_out(maps, &RawServiceKey(map_key(key)?)).inspect_err(|_| {
        maps.service[index as usize].flags.set(Service::USED);
    })?;
    empty(maps, index);
    filter::refresh(maps);
    Ok(())
}

/// Remove all servers of a service.
pub(crate) fn empty(maps: &Maps, index: u32) {
    let service = &maps.service[index as usize];
    let list = servers(maps, service);
    service.head.set(NONE);
    for at in list {
        retire(&maps.server[at as usize]);
    }
}

/// Nothing new for this server: it is in no list.
pub(crate) fn retire(server: &Server) {
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
    let new = &maps.server[slot];
    new.address.set(address);
    new.port.set(port);
    new.method.set(MASQUERADE);
    new.weight.set(server.weight);
    new.last_weight.set(server.weight);
    new.service.set(index);
    // Its replies are to be recognised from the first on.
    new.flags.set(Server::USED);
    filter::refresh(maps);
    list::link(maps, index, slot as u32);
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
    let index = find_service(maps, key)?;
    usable(server)?;
    let at = find_server(maps, &maps.service[index as usize], &server.key)?;
    maps.server[at as usize].weight.set(server.weight);
    list::weights_changed(maps, index);
    Ok(())
}

fn remove_server(maps: &mut Maps, key: &ServiceKey, server: &ServerKey) -> Result<(), Error> {
    let index = find_service(maps, key)?;
    let at = find_server(maps, &maps.service[index as usize], server)?;
    maps.server[at as usize].idle_since.set(0);
    list::unlink(maps, at);
    Ok(())
}

/// Settings as the programs read them; those that the programs have nothing to do with are the daemon's.
fn set_settings(_maps: &Maps, _settings: &Settings) {}

/// What the maps hold of the settings.
pub(crate) fn settings(_maps: &Maps) -> Settings {
    Settings::default()
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
            list::forget(maps, slot as u32);
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
