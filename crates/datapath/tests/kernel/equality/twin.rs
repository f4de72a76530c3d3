//! The engine on the host, set up as the kernel object is, and led through the same steps.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    sync::OnceLock,
};

use furiwake_datapath::NextHop as Told;
use furiwake_engine::{
    host::{self, Frame, Hook, HostTables, Method, NextHop, ServerOptions, ServiceOptions, Sizes},
    pipeline::Verdict,
    schedule::Scheduler,
    sweep,
    tables::{Outcome, Route, Server, Service, Tables as _},
};
use furiwake_lvs::{
    model::{self, Forward, ServerKey, ServiceConfig, ServiceKey, TunnelChecksum, TunnelKind},
    plan::Change,
};

use super::{case::Step, compare, kernel::Kernel};
use crate::{
    director::{Fate, Incoming, Received, next_hop},
    network::{GATEWAY, LOST_GATEWAY, Wire, mac_of, neighbour},
    packet::checksum,
};

pub(crate) struct Twin {
    pub(crate) tables: HostTables,
    hook: Hook,
}

impl Twin {
    /// One that is as a director that begins anew, with so many slots for hash rings.
    pub(crate) fn of(kernel: &Kernel, ring_slots: u32) -> Self {
        let memory = kernel.director.datapath.memory();
        let mut tables = HostTables::new(Sizes {
            buckets: memory.connections.len() as u32,
            services: compare::SERVICES as u32,
            servers: compare::SERVERS as u32,
            server_hops: 64,
            ring_slots,
        });
        let (theirs, ours) = (memory.config, tables.settings());
        ours.errors_per_second.set(u32::MAX);
        ours.seed.set(theirs.seed.get());
        ours.tick_shift.set(theirs.tick_shift.get());
        ours.ticks_per_second.set(theirs.ticks_per_second.get());
        ours.route_generation.set(theirs.route_generation.get());
        ours.sweep_step.set(theirs.sweep_step.get());
        let hook = kernel.director.hook;
        for wire in Wire::ALL {
            tables.set_port(ifindex(wire), wire.mac(), hook != Hook::Tc);
        }
        tables.set_route_function(|_, destination, _| route(destination));
        let twin = Self { tables, hook };
        twin.take_settings(kernel);
        twin
    }

    /// Take over what follows from settings and timeouts for the programs; how it follows is tested elsewhere.
    fn take_settings(&self, kernel: &Kernel) {
        let theirs = kernel.director.datapath.memory().config;
        let ours = self.tables.settings();
        for (ours, theirs) in ours.timeouts.iter().zip(&theirs.timeouts) {
            ours.set(theirs.get());
        }
        for (ours, theirs) in ours.transitions.iter().zip(&theirs.transitions) {
            ours.set(theirs.get());
        }
        ours.settings.set(theirs.settings.get());
        ours.conn_reuse_mode.set(theirs.conn_reuse_mode.get());
        ours.lblc_expiration.set(theirs.lblc_expiration.get());
        ours.lblcr_expiration.set(theirs.lblcr_expiration.get());
        ours.drop_rate.set(theirs.drop_rate.get());
        ours.drop_turn.set(theirs.drop_turn.get());
    }

    /// Take one step, here and in the kernel; says what differs.
    pub(crate) fn step(&mut self, kernel: &mut Kernel, step: &Step) -> Result<(), String> {
        let jiffies = kernel.director.datapath.jiffies().unwrap();
        self.tables.set_jiffies(jiffies);
        match step {
            Step::Change(change) => {
                let Some(change) = self.possible(change) else {
                    return Ok(());
                };
                let done = kernel.change(&change);
                match self.change(&change) {
                    Some(()) if done.is_ok() => {}
                    None if done.is_err() => {}
                    ours => return Err(format!("host: {ours:?}, kernel: {done:?}")),
                }
                if let Change::SetSettings(_) | Change::SetTimeouts(_) = change {
                    self.take_settings(kernel);
                }
                // The daemon's clock may be a second off.
                let theirs = kernel.director.datapath.memory().servers;
                for (at, theirs) in (0..).zip(&theirs[..compare::SERVERS]) {
                    if let Some(ours) = self.tables.server(at) {
                        ours.since.set(theirs.since.get());
                    }
                }
            }
            Step::Packet(incoming) => {
                let ours = without_lots(self.receive(incoming));
                let theirs = without_lots(kernel.director.receive(incoming));
                if ours != theirs {
                    return Err(format!("\n  host: {ours:02x?}\nkernel: {theirs:02x?}"));
                }
            }
            Step::Wait(seconds) => {
                let per_second = self.tables.settings().ticks_per_second.get();
                let ticks = seconds * per_second + per_second / 8;
                let memory = kernel.director.datapath.memory();
                for bucket in self.tables.buckets().iter().chain(memory.connections) {
                    for way in &bucket.ways {
                        way.expires.set(way.expires.get().wrapping_sub(ticks));
                    }
                }
                let ours = (0..compare::SERVERS).filter_map(|at| self.tables.server(at as u32));
                for server in ours.chain(&memory.servers[..compare::SERVERS]) {
                    server.since.set(server.since.get().wrapping_sub(*seconds));
                }
            }
            Step::Sweep => {
                let from = kernel.sweeper.go_round(&kernel.director);
                sweep::sweep(&self.tables, from);
            }
        }
        Ok(())
    }

    /// A change as it is when services and servers are as they are: additions of what is there are edits, edits of what
    /// is not there are none.
    fn possible(&self, change: &Change) -> Option<Change> {
        let is_service = |key: &ServiceKey| self.service_at(key).is_some();
        let is_server =
            |service: &ServiceKey, key: &ServerKey| self.server_at(service, key).is_some();
        Some(match change.clone() {
            Change::AddService(config) | Change::EditService(config) => {
                match is_service(&config.key) {
                    true => Change::EditService(config),
                    false => Change::AddService(config),
                }
            }
            Change::RemoveService(key) if !is_service(&key) => return None,
            Change::AddServer { service, server } | Change::EditServer { service, server } => {
                if !is_service(&service) {
                    return None;
                }
                match is_server(&service, &server.key) {
                    true => Change::EditServer { service, server },
                    false => Change::AddServer { service, server },
                }
            }
            Change::RemoveServer { service, server } if !is_server(&service, &server) => {
                return None;
            }
            other => other,
        })
    }

    fn change(&mut self, change: &Change) -> Option<()> {
        match change {
            Change::AddService(config) => {
                let (end, protocol) = parts(&config.key);
                let tables = &mut self.tables;
                let at = tables.add_service(end, protocol, scheduler(config))?;
                tables.set_options(at, &service_options(config))
            }
            Change::EditService(config) => {
                let at = self.service_at(&config.key)?;
                let tables = &self.tables;
                if tables.service(at)?.scheduler.get() != scheduler(config) as u32 {
                    tables.set_scheduler(at, scheduler(config))?;
                }
                tables.set_options(at, &service_options(config))
            }
            Change::RemoveService(key) => {
                let at = self.service_at(key)?;
                self.tables.remove_service(at)
            }
            Change::AddServer { service, server } => {
                let at = self.service_at(service)?;
                let end = server_end(&server.key);
                self.tables
                    .add_server_with(at, end, &server_options(server))?;
                tell_next_hop(&mut self.tables, *end.ip(), self.hook);
                Some(())
            }
            Change::EditServer { service, server } => {
                let at = self.server_at(service, &server.key)?;
                self.tables.edit_server(at, &server_options(server))
            }
            Change::RemoveServer { service, server } => {
                let at = self.server_at(service, server)?;
                self.tables.remove_server(at)
            }
            Change::SetTimeouts(_) | Change::SetSettings(_) => Some(()),
        }
    }

    fn service_at(&self, key: &ServiceKey) -> Option<u32> {
        let (end, protocol) = parts(key);
        self.tables.service_at(end, protocol)
    }

    fn server_at(&self, service: &ServiceKey, key: &ServerKey) -> Option<u32> {
        let service = self.service_at(service)?;
        self.tables.server_at(service, server_end(key))
    }

    fn receive(&self, incoming: &Incoming) -> Received {
        let frame = Frame::new(ifindex(incoming.wire), incoming.frame.clone());
        let outcome = host::run_frame(self.hook, &self.tables, frame);
        let bytes = outcome.bytes;
        let fate = match outcome.verdict {
            Verdict::Pass(_) => {
                assert_eq!(bytes, incoming.frame, "a packet that passes was changed");
                Fate::Passed
            }
            // In the kernel both are the same answer.
            Verdict::Stack(_) if bytes == incoming.frame => Fate::Passed,
            Verdict::Stack(_) => Fate::Stack(bytes),
            Verdict::Drop(_) => Fate::Dropped,
            Verdict::Redirect(_) => Fate::Sent(bytes),
            Verdict::Neighbour(..) => Fate::ToNeighbour(bytes),
            stage => unreachable!("{stage:?} has a next stage"),
        };
        Received {
            fate,
            at_xdp: outcome.at_xdp,
        }
    }
}

/// What does not depend on lots: a tunnel's packet that may be fragmented has a random identification. Its header's
/// checksum becomes whether it was right.
fn without_lots(mut received: Received) -> Received {
    let (Fate::Sent(frame) | Fate::ToNeighbour(frame) | Fate::Stack(frame)) = &mut received.fate
    else {
        return received;
    };
    let Some(header) = frame.get_mut(14..34) else {
        return received;
    };
    let is_tunnel = header[12..16] == [192, 168, 1, 254] && matches!(header[9], 4 | 17 | 47);
    if is_tunnel && header[6] & 0x40 == 0 {
        let is_right = checksum(header) == 0;
        header[4..6].fill(0);
        header[10..12].copy_from_slice(&[0, is_right.into()]);
    }
    received
}

/// The index of a wire's interface. Wires keep theirs, in every network that a test makes.
fn ifindex(wire: Wire) -> u32 {
    static INDICES: OnceLock<[u32; 3]> = OnceLock::new();
    INDICES.get_or_init(|| Wire::ALL.map(Wire::ifindex))[wire as usize]
}

fn parts(key: &ServiceKey) -> (SocketAddrV4, u8) {
    match key {
        ServiceKey::Address {
            protocol,
            address: IpAddr::V4(address),
            port,
        } => (SocketAddrV4::new(*address, *port), protocol.number()),
        other => panic!("{other:?} is not chosen"),
    }
}

fn server_end(key: &ServerKey) -> SocketAddrV4 {
    match key.address {
        IpAddr::V4(address) => SocketAddrV4::new(address, key.port),
        IpAddr::V6(_) => panic!("{key:?} is not chosen"),
    }
}

fn scheduler(config: &ServiceConfig) -> Scheduler {
    Scheduler::from_name(&config.scheduler.0).unwrap()
}

fn service_options(config: &ServiceConfig) -> ServiceOptions {
    let one_packet = if config.one_packet {
        Service::ONE_PACKET
    } else {
        0
    };
    let netmask = config.persistence.map_or(u32::MAX, |p| p.netmask);
    ServiceOptions {
        flags: config.scheduler_flags | one_packet,
        persistence: config.persistence.map_or(0, |p| p.timeout),
        netmask: netmask.into(),
        slow_start: config.slow_start,
    }
}

fn server_options(server: &model::Server) -> ServerOptions {
    let tunnel = &server.tunnel;
    let kind = match tunnel.kind {
        TunnelKind::Ipip => 0,
        TunnelKind::Gue => 1,
        TunnelKind::Gre => 2,
    };
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Full => Server::CHECKSUM,
        TunnelChecksum::Remote => Server::REMOTE_CHECKSUM,
    };
    let word = kind | checksum | u32::from(tunnel.port.to_be()) << 16;
    ServerOptions {
        method: match server.forward {
            Forward::Masquerade => Method::Masquerade,
            Forward::Gateway => Method::Gateway,
            Forward::Tunnel => Method::Tunnel(word),
        },
        weight: server.weight,
        upper: server.upper_threshold,
        lower: server.lower_threshold,
    }
}

fn tell_next_hop(tables: &mut HostTables, server: Ipv4Addr, hook: Hook) {
    let (ifindex, mtu, gateway, source, macs) = match next_hop(server) {
        Told::Resolved {
            ifindex,
            mtu,
            neighbour,
            source,
            gateway,
            own_address,
        } => (
            ifindex,
            mtu,
            gateway,
            own_address,
            Some((neighbour, source)),
        ),
        Told::Unresolved {
            ifindex,
            mtu,
            gateway,
            own_address,
        } => (ifindex, mtu, gateway, own_address, None),
        Told::Unreachable => return tables.set_unreachable(server).unwrap(),
        Told::Local => unreachable!("no server is the director"),
    };
    let next = NextHop {
        ifindex,
        mtu: mtu.into(),
        gateway,
        macs,
        takes_xdp: macs.is_some() && hook != Hook::Tc,
        source,
    };
    tables.set_next_hop(server, next).unwrap();
}

/// What the kernel's tables say about the way to an address, see `network.rs`.
fn route(destination: Ipv4Addr) -> Route {
    let (wire, gateway) = match destination.octets() {
        [172, 16, ..] => (Wire::Front, GATEWAY),
        [172, 17, ..] => (Wire::Front, LOST_GATEWAY),
        // Addresses of the director, and broadcasts, which it takes for itself.
        [10, 0, 0, 1..=10 | 254 | 255 | 0]
        | [192, 168, 1, 254 | 255 | 0]
        | [10, 9, 0, 254 | 255 | 0] => {
            return Route::none(Outcome::Local);
        }
        [10, 0, 0, _] => (Wire::Front, destination),
        [192, 168, 1, _] => (Wire::Back, destination),
        [10, 9, 0, _] => (Wire::Narrow, destination),
        _ => return Route::none(Outcome::Unreachable),
    };
    if neighbour(gateway).is_none() {
        return Route {
            ifindex: ifindex(wire),
            gateway: u32::from_ne_bytes(gateway.octets()),
            ..Route::none(Outcome::Unresolved)
        };
    }
    let macs = [mac_of(gateway), wire.mac()].concat();
    let word = |at: usize| u32::from_ne_bytes(macs[at..at + 4].try_into().unwrap());
    Route {
        outcome: Outcome::Resolved,
        macs: [word(0), word(4), word(8)],
        ifindex: ifindex(wire),
        mtu: wire.mtu().into(),
        gateway: 0,
    }
}
