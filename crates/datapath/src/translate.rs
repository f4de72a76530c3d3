//! Services and servers as the model has them, and as slots of the maps hold them.

use std::net::{IpAddr, Ipv4Addr};

use furiwake_engine::{
    schedule::Scheduler,
    tables::{self, Server, Service},
};
use furiwake_lvs::model::{
    self, Forward, Persistence, Protocol, SchedulerName, ServerKey, ServiceConfig, ServiceKey,
    Tunnel, TunnelChecksum, TunnelKind,
};

use crate::{Error, index::Address};

/// IPVS's numbers of the forwarding methods.
const METHODS: [(Forward, u16); 3] = [
    (Forward::Masquerade, MASQUERADE),
    (Forward::Tunnel, 2),
    (Forward::Gateway, 3),
];

/// IPVS's number of masquerading.
pub(crate) const MASQUERADE: u16 = 0;

/// Scheduler flags have the same bits in the model and in a slot.
const SCHEDULER_FLAGS: u32 = Service::FLAG_1 | Service::FLAG_2 | Service::FLAG_3;

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

/// The key by which packets find a service, from its slot.
pub(crate) fn key_of(service: &Service) -> tables::ServiceKey {
    let [b, c, d] = &service.address_rest;
    let port_protocol = service.port_protocol.get();
    let is_v6 = service.flags.get() & Service::V6 != 0;
    tables::ServiceKey {
        address: [service.address.get(), b.get(), c.get(), d.get()],
        port: port_protocol as u16,
        protocol: (port_protocol >> 16) as u8,
        family: if is_v6 { tables::V6 } else { tables::V4 },
    }
}

/// Write a service's key into its slot. The flags come with [`ServiceParts::flags`].
pub(crate) fn write_key(service: &Service, key: &tables::ServiceKey) {
    let [a, rest @ ..] = key.address;
    service.address.set(a);
    for (cell, word) in service.address_rest.iter().zip(rest) {
        cell.set(word);
    }
    service
        .port_protocol
        .set(u32::from(key.port) | u32::from(key.protocol) << 16);
}

/// What a service's slot holds of its configuration.
pub(crate) struct ServiceParts {
    /// Its scheduler.
    pub(crate) scheduler: Scheduler,
    /// Flags of a service that is there.
    pub(crate) flags: u32,
    persistence: u32,
    netmask: u32,
    slow_start: u32,
}

impl ServiceParts {
    /// Of a service that this data plane can have.
    pub(crate) fn of(config: &ServiceConfig) -> Result<Self, Error> {
        map_key(&config.key)?;
        if let Some(engine) = &config.persistence_engine {
            return Err(Error::Unsupported(format!(
                "the persistence engine {engine}"
            )));
        }
        if config.persistence.is_some_and(|p| p.timeout == 0) {
            return Err(Error::Unsupported(
                "persistence for no time at all".to_owned(),
            ));
        }
        let name = &config.scheduler.0;
        let scheduler = Scheduler::ALL.iter().find(|s| s.name() == name);
        let scheduler =
            scheduler.ok_or_else(|| Error::Unsupported(format!("the scheduler {name}")))?;
        let one_packet = if config.one_packet {
            Service::ONE_PACKET
        } else {
            0
        };
        Ok(Self {
            scheduler: *scheduler,
            flags: Service::USED | config.scheduler_flags & SCHEDULER_FLAGS | one_packet,
            persistence: config.persistence.map_or(0, |p| p.timeout),
            netmask: config.persistence.map_or(u32::MAX, |p| p.netmask).to_be(),
            slow_start: config.slow_start,
        })
    }

    /// Write all of it but the scheduler, whose number goes with what it remembers.
    pub(crate) fn write(&self, service: &Service) {
        service.netmask.set(self.netmask);
        service.persistence.set(self.persistence);
        service.slow_start.set(self.slow_start);
        service.flags.set(self.flags);
    }
}

/// A service's configuration, from its slot.
pub(crate) fn config(service: &Service) -> ServiceConfig {
    let key = key_of(service);
    let flags = service.flags.get();
    let scheduler = Scheduler::from_number(service.scheduler.get()).unwrap_or(Scheduler::None);
    let persistence = Persistence {
        timeout: service.persistence.get(),
        netmask: u32::from_be(service.netmask.get()),
    };
    ServiceConfig {
        key: ServiceKey::Address {
            protocol: Protocol::from_number(key.protocol).unwrap_or(Protocol::Tcp),
            address: IpAddr::V4(address(key.address[0])),
            port: u16::from_be(key.port),
        },
        scheduler: SchedulerName(scheduler.name().to_owned()),
        scheduler_flags: flags & SCHEDULER_FLAGS,
        persistence: Some(persistence).filter(|p| p.timeout != 0),
        persistence_engine: None,
        one_packet: flags & Service::ONE_PACKET != 0,
        slow_start: service.slow_start.get(),
    }
}

/// What a server's slot holds of its configuration.
pub(crate) struct ServerParts {
    /// Its address.
    pub(crate) address: Address,
    /// Its port, as on the wire.
    pub(crate) port: u16,
    /// Forwarding method, IPVS's number.
    pub(crate) method: u16,
    weight: u32,
    /// Connections at which it gets no new ones; 0: no limit.
    pub(crate) upper: u32,
    lower: u32,
    tunnel: u32,
}

impl ServerParts {
    /// Of a server that this data plane can have.
    pub(crate) fn of(server: &model::Server) -> Result<Self, Error> {
        let (address, port) = server_key(&server.key)?;
        let method = METHODS
            .iter()
            .find(|(forward, _)| *forward == server.forward);
        Ok(Self {
            address,
            port,
            method: method.map_or(MASQUERADE, |(_, number)| *number),
            weight: server.weight,
            upper: server.upper_threshold,
            lower: server.lower_threshold,
            tunnel: tunnel_word(&server.tunnel),
        })
    }

    /// Write who it is.
    pub(crate) fn write_key(&self, server: &Server) {
        let [a, rest @ ..] = self.address;
        server.address.set(a);
        for (cell, word) in server.address_rest.iter().zip(rest) {
            cell.set(word);
        }
        server.port.set(self.port);
    }

    /// Write the rest. Connections keep the method that they were made with, so how a tunnel wraps goes first.
    pub(crate) fn write(&self, server: &Server) {
        server.tunnel.set(self.tunnel);
        server.method.set(self.method);
        server.upper.set(self.upper);
        server.lower.set(self.lower);
        server.weight.set(self.weight);
        if self.weight != 0 {
            server.last_weight.set(self.weight);
        }
    }
}

/// Address and port of a server as its slot holds them.
pub(crate) fn server_key(key: &ServerKey) -> Result<(Address, u16), Error> {
    match key.address {
        IpAddr::V4(address) => Ok(([wire(address), 0, 0, 0], key.port.to_be())),
        IpAddr::V6(_) => Err(Error::Unsupported(
            "a server with an IPv6 address".to_owned(),
        )),
    }
}

/// A server's configuration, from its slot.
pub(crate) fn server(server: &Server) -> model::Server {
    let number = server.method.get();
    let method = METHODS.iter().find(|(_, method)| *method == number);
    model::Server {
        key: ServerKey {
            address: IpAddr::V4(address(server.address.get())),
            port: u16::from_be(server.port.get()),
        },
        forward: method.map_or(Forward::Masquerade, |(forward, _)| *forward),
        weight: server.weight.get(),
        upper_threshold: server.upper.get(),
        lower_threshold: server.lower.get(),
        tunnel: tunnel(server.tunnel.get()),
    }
}

/// Kinds of tunnels by their number in [`Server::tunnel`].
const KINDS: [TunnelKind; 3] = [TunnelKind::Ipip, TunnelKind::Gue, TunnelKind::Gre];

fn tunnel_word(tunnel: &Tunnel) -> u32 {
    let kind = KINDS.iter().position(|kind| *kind == tunnel.kind);
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Full => Server::CHECKSUM,
        TunnelChecksum::Remote => Server::REMOTE_CHECKSUM,
    };
    kind.unwrap_or(0) as u32 | checksum | u32::from(tunnel.port.to_be()) << 16
}

fn tunnel(word: u32) -> Tunnel {
    let checksum = match word & (Server::CHECKSUM | Server::REMOTE_CHECKSUM) {
        0 => TunnelChecksum::None,
        Server::CHECKSUM => TunnelChecksum::Full,
        _ => TunnelChecksum::Remote,
    };
    Tunnel {
        kind: KINDS
            .get((word & 0xff) as usize)
            .copied()
            .unwrap_or_default(),
        port: u16::from_be((word >> 16) as u16),
        checksum,
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
