//! The director of the recordings over the engine's host tables, commanded by ipvsadm.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
};

use furiwake_engine::{
    host::{self, Hook, HostTables, Method, NextHop, ServerOptions, ServiceOptions},
    packet::ETH,
    pipeline::Verdict,
    schedule::Scheduler,
    settings as bits,
    state::State,
    tables::{self, Outcome, Route, Tables as _},
};
use furiwake_lvs::{
    ipvsadm::{self, DirectorError, NoNames},
    model::{
        Forward, Server, ServerKey, ServiceConfig, ServiceKey, Settings, Table, Timeouts, Tunnel,
        TunnelChecksum, TunnelKind,
    },
    operation::Operation,
    view::{ConnectionView, Counters, EntryProtocol, ServerView, View},
};

use crate::play::{Director, Fate, Seen, Wire, mac_of};

/// Interface index of a wire.
const fn ifindex(wire: Wire) -> u32 {
    match wire {
        Wire::Front => 2,
        Wire::Back => 3,
    }
}

const WIRES: [Wire; 2] = [Wire::Front, Wire::Back];

fn wire_of(index: u32) -> Wire {
    WIRES
        .into_iter()
        .find(|wire| ifindex(*wire) == index)
        .unwrap()
}

pub(crate) struct HostDirector {
    tables: HostTables,
    hook: Hook,
    /// What was asked for. What happens is in the tables.
    table: Table,
}

impl HostDirector {
    pub(crate) fn new(hook: Hook) -> Self {
        let mut tables = HostTables::default();
        for wire in WIRES {
            tables.set_port(ifindex(wire), wire.mac(), true);
        }
        let mut director = Self {
            tables,
            hook,
            table: Table::default(),
        };
        for wire in WIRES {
            director.set_mtu(wire, 1500);
        }
        director
    }
}

impl Director for HostDirector {
    fn reset(&mut self) {
        *self = Self::new(self.hook);
    }

    fn ipvsadm(&mut self, line: &str) -> (String, u8) {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let output = ipvsadm::run(&args, &mut io::empty(), &NoNames, self);
        (output.stdout + &output.stderr, output.code)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let operation = Operation::Set {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let done = self.table.apply(&operation);
        done.map_err(|error| error.to_string())?;
        enforce(&self.tables, &self.table.settings);
        Ok(())
    }

    fn setting(&mut self, name: &str) -> String {
        let setting = furiwake_lvs::model::Setting::named(name).unwrap();
        setting.value(&self.table.settings)
    }

    fn set_mtu(&mut self, wire: Wire, mtu: u16) {
        if wire == Wire::Front {
            self.tables.set_route_function(move |_, destination, _| {
                match Wire::towards(destination) {
                    Some(Wire::Front) => resolved(Wire::Front, destination, mtu),
                    Some(Wire::Back) => resolved(Wire::Back, destination, 1500),
                    None => Route::none(Outcome::Unreachable),
                }
            });
            return;
        }
        for last in 1..=16 {
            let address = Ipv4Addr::new(192, 168, 1, last);
            let next = NextHop {
                ifindex: ifindex(wire),
                mtu: mtu.into(),
                gateway: address,
                macs: Some((mac_of(address), wire.mac())),
                takes_xdp: true,
                source: wire.address(),
            };
            self.tables.set_next_hop(address, next).unwrap();
        }
    }

    fn pass(&mut self, seconds: u32) {
        // As often as the kernel's sweeper has been round.
        for _ in 0..4 * seconds {
            self.tables.advance_ms(250);
            self.tables.sweep();
        }
    }

    fn receive(&mut self, wire: Wire, packet: &[u8]) -> Fate {
        let mut frame = Vec::from(wire.mac());
        frame.extend([2, 4, 0, 0, 0, 9]);
        frame.extend(match packet[0] >> 4 {
            6 => [0x86, 0xdd],
            _ => [8, 0],
        });
        frame.extend(packet);
        let outcome = host::run(self.hook, &self.tables, ifindex(wire), &frame);
        let seen = |index: u32, to: [u8; 6], bytes: &[u8]| Seen {
            wire: wire_of(index),
            to,
            packet: bytes[ETH..].to_vec(),
        };
        let framed = |index: u32, bytes: &[u8]| {
            assert_eq!(bytes[6..12], wire_of(index).mac());
            seen(index, bytes[..6].try_into().unwrap(), bytes)
        };
        let sent = outcome.sent.iter();
        let mut sent: Vec<Seen> = sent.map(|(index, bytes)| framed(*index, bytes)).collect();
        let bytes = &outcome.bytes;
        match outcome.verdict {
            Verdict::Redirect(index) => {
                sent.push(framed(index, bytes));
                Fate::Sent(sent)
            }
            Verdict::Neighbour(index, gateway) => {
                sent.push(seen(index, mac_of(gateway.to_ne_bytes().into()), bytes));
                Fate::Sent(sent)
            }
            Verdict::Drop(_) if sent.is_empty() => Fate::Dropped,
            Verdict::Drop(_) => Fate::Sent(sent),
            Verdict::Pass(_) => {
                assert_eq!(*bytes, frame, "passed, but changed");
                Fate::Host(packet.to_vec())
            }
            Verdict::Stack(_) => Fate::Host(bytes[ETH..].to_vec()),
            stage => panic!("{stage:?} has a next stage"),
        }
    }

    fn slack(&self) -> u32 {
        0
    }
}

impl ipvsadm::Director for HostDirector {
    fn view(&mut self) -> Result<View, DirectorError> {
        let mut view = View::of_table(&self.table);
        for service in &mut view.services {
            let (end, protocol) = end_of(&service.config.key)?;
            let at = self.tables.service_at(end, protocol).unwrap();
            service.counters = self.counted_by_service(at);
            for server in &mut service.servers {
                self.see(at, server)?;
            }
        }
        Ok(view)
    }

    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
        let view = |connection: host::Connection| ConnectionView {
            protocol: EntryProtocol::from_number(connection.protocol).unwrap(),
            state: connection.state.to_owned(),
            expires: connection.seconds,
            client: IpAddr::V4(*connection.client.ip()),
            client_port: connection.client.port(),
            virtual_address: IpAddr::V4(*connection.virtual_end.ip()),
            virtual_port: connection.virtual_end.port(),
            server: IpAddr::V4(*connection.server.ip()),
            server_port: connection.server.port(),
            template: connection.template,
            engine: None,
        };
        Ok(self.tables.connections().into_iter().map(view).collect())
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), DirectorError> {
        let before = self.table.clone();
        self.table.apply(operation)?;
        let done = self.carry_out(operation);
        // The kernel's sweeper would have been round before the next packet.
        self.tables.sweep();
        if done.is_err() {
            self.table = before;
        }
        done
    }
}

impl HostDirector {
    /// Do to the tables what a table has taken.
    fn carry_out(&mut self, operation: &Operation) -> Result<(), DirectorError> {
        match operation {
            Operation::AddService(config) => {
                let (end, protocol) = end_of(&config.key)?;
                let scheduler = scheduler(config)?;
                let added = self.tables.add_service(end, protocol, scheduler);
                let at = added.ok_or_else(|| cannot("find room for the service"))?;
                self.tables.set_options(at, &options(config)).unwrap();
            }
            Operation::EditService(config) => {
                let at = self.service(&config.key)?;
                let scheduler = scheduler(config)?;
                self.tables.set_options(at, &options(config)).unwrap();
                let is_same = self.tables.service(at).unwrap().scheduler.get() == scheduler as u32;
                if !is_same {
                    self.tables.set_scheduler(at, scheduler).unwrap();
                }
            }
            Operation::DeleteService(key) => {
                let at = self.service(key)?;
                self.tables.remove_service(at).unwrap();
            }
            Operation::Flush => {
                for at in 0.. {
                    let Some(service) = self.tables.service(at) else {
                        break;
                    };
                    if service.flags.get() & (tables::Service::USED | tables::Service::REMOVED)
                        == tables::Service::USED
                    {
                        self.tables.remove_service(at).unwrap();
                    }
                }
            }
            Operation::AddServer { service, server } => {
                let at = self.service(service)?;
                let (end, options) = (server_end(&server.key)?, server_options(server));
                self.tables.add_server_with(at, end, &options).unwrap();
            }
            Operation::EditServer { service, server } => {
                let at = self.server(service, &server.key)?;
                let options = server_options(server);
                self.tables.edit_server(at, &options).unwrap();
            }
            Operation::DeleteServer { service, server } => {
                let at = self.server(service, server)?;
                self.tables.remove_server(at).unwrap();
            }
            Operation::SetTimeouts(_) => {
                let Timeouts { tcp, tcp_fin, udp } = self.table.timeouts;
                for (state, seconds) in [
                    (State::Established, tcp),
                    (State::FinWait, tcp_fin),
                    (State::Udp, udp),
                ] {
                    self.tables.set_timeout(state as usize, seconds);
                }
            }
            other => return Err(cannot(&format!("{other:?}"))),
        }
        Ok(())
    }

    fn service(&self, key: &ServiceKey) -> Result<u32, DirectorError> {
        let (end, protocol) = end_of(key)?;
        Ok(self.tables.service_at(end, protocol).unwrap())
    }

    fn server(&self, service: &ServiceKey, key: &ServerKey) -> Result<u32, DirectorError> {
        let at = self.service(service)?;
        Ok(self.tables.server_at(at, server_end(key)?).unwrap())
    }

    /// What is known of a server.
    fn see(&self, service: u32, view: &mut ServerView) -> Result<(), DirectorError> {
        let end = server_end(&view.server.key)?;
        let at = self.tables.server_at(service, end).unwrap();
        let counts = self.tables.counts(at).unwrap();
        view.active = counts.active.get();
        view.inactive = counts.total.get() - counts.active.get();
        view.persistent = counts.persistent.get();
        view.counters = self.counted(at);
        Ok(())
    }

    /// A service goes on counting what its removed servers counted.
    fn counted_by_service(&self, service: u32) -> Counters {
        let mut sum = Counters::default();
        let servers = (0..).map_while(|at| Some((at, self.tables.server(at)?)));
        for (at, server) in servers {
            if server.flags.get() != 0 && server.service.get() == service {
                let counted = self.counted(at);
                sum.connections += counted.connections;
                sum.in_packets += counted.in_packets;
                sum.out_packets += counted.out_packets;
                sum.in_bytes += counted.in_bytes;
                sum.out_bytes += counted.out_bytes;
            }
        }
        sum
    }

    fn counted(&self, server: u32) -> Counters {
        let counters = self.tables.counters(server).unwrap();
        Counters {
            connections: counters.connections.get(),
            in_packets: counters.in_packets.get(),
            out_packets: counters.out_packets.get(),
            in_bytes: counters.in_bytes.get(),
            out_bytes: counters.out_bytes.get(),
        }
    }
}

fn cannot(what: &str) -> DirectorError {
    DirectorError::Unavailable(format!("the engine cannot {what}"))
}

/// Address, port and protocol of a service.
fn end_of(key: &ServiceKey) -> Result<(SocketAddrV4, u8), DirectorError> {
    match *key {
        ServiceKey::Address {
            protocol,
            address: IpAddr::V4(address),
            port,
        } => Ok((SocketAddrV4::new(address, port), protocol.number())),
        _ => Err(cannot("have services that are not IPv4")),
    }
}

fn server_end(key: &ServerKey) -> Result<SocketAddrV4, DirectorError> {
    match key.address {
        IpAddr::V4(address) => Ok(SocketAddrV4::new(address, key.port)),
        IpAddr::V6(_) => Err(cannot("have IPv6 servers")),
    }
}

fn scheduler(config: &ServiceConfig) -> Result<Scheduler, DirectorError> {
    let name = config.scheduler.0.as_str();
    let found = Scheduler::ALL.iter().find(|s| s.name() == name);
    found
        .copied()
        .ok_or_else(|| cannot(&format!("schedule by {name}")))
}

fn options(config: &ServiceConfig) -> ServiceOptions {
    let one_packet = if config.one_packet {
        tables::Service::ONE_PACKET
    } else {
        0
    };
    let persistence = config.persistence;
    ServiceOptions {
        flags: config.scheduler_flags | one_packet,
        persistence: persistence.map_or(0, |p| p.timeout),
        netmask: persistence.map_or(u32::MAX, |p| p.netmask).into(),
        slow_start: config.slow_start,
    }
}

fn server_options(server: &Server) -> ServerOptions {
    ServerOptions {
        method: match server.forward {
            Forward::Masquerade => Method::Masquerade,
            Forward::Gateway => Method::Gateway,
            Forward::Tunnel => Method::Tunnel(tunnel_word(&server.tunnel)),
        },
        weight: server.weight,
        upper: server.upper_threshold,
        lower: server.lower_threshold,
    }
}

fn tunnel_word(tunnel: &Tunnel) -> u32 {
    let kind = match tunnel.kind {
        TunnelKind::Ipip => furiwake_engine::tunnel::IPIP,
        TunnelKind::Gue => furiwake_engine::tunnel::GUE,
        TunnelKind::Gre => furiwake_engine::tunnel::GRE,
    };
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Full => tables::Server::CHECKSUM,
        TunnelChecksum::Remote => tables::Server::REMOTE_CHECKSUM,
    };
    kind | checksum | u32::from(tunnel.port.to_be()) << 16
}

/// Put settings in force.
fn enforce(tables: &HostTables, settings: &Settings) {
    let switches = [
        (settings.expire_nodest_conn, bits::EXPIRE_NODEST_CONN),
        (
            settings.expire_quiescent_template,
            bits::EXPIRE_QUIESCENT_TEMPLATE,
        ),
        (settings.sloppy_tcp, bits::SLOPPY_TCP),
        (settings.pmtu_disc, bits::PMTU_DISC),
        (settings.schedule_icmp, bits::SCHEDULE_ICMP),
        (settings.reset_without_server, bits::RESET_WITHOUT_SERVER),
    ];
    let on = switches.iter().filter(|(value, _)| *value != 0);
    let on = on.fold(0, |all, (_, bit)| all | bit);
    let config = tables.settings();
    // There is memory enough: the automatic modes are not in force.
    let secure = settings.secure_tcp == 3;
    let secure_bit = if secure { bits::SECURE_TCP } else { 0 };
    let drop_bit = match settings.drop_entry {
        3 => bits::DROP_ENTRY,
        _ => 0,
    };
    config.settings.set(on | secure_bit | drop_bit);
    config.set_transitions(secure);
    config
        .conn_reuse_mode
        .set(settings.conn_reuse_mode.cast_unsigned());
    let rate = match settings.drop_packet {
        3 => settings.am_droprate.cast_unsigned(),
        _ => 0,
    };
    config.drop_rate.set(rate);
}

fn resolved(wire: Wire, neighbour: Ipv4Addr, mtu: u16) -> Route {
    let mut bytes = [0; 12];
    bytes[..6].copy_from_slice(&mac_of(neighbour));
    bytes[6..].copy_from_slice(&wire.mac());
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    Route {
        outcome: Outcome::Resolved,
        macs: [word(0), word(4), word(8)],
        ifindex: ifindex(wire),
        mtu: mtu.into(),
        gateway: 0,
    }
}
