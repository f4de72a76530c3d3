//! The director of the recordings: its wires and its ipvsadm, over the engine's host tables.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use furiwake_engine::{
    host::{Connection, HostTables, NextHop},
    packet::{TCP, UDP},
    schedule::Scheduler,
    state::State,
    tables::{NONE, Outcome, Route, Service, Tables, pack},
};

/// The wires, by interface index.
pub(crate) const FRONT: u32 = 2;
pub(crate) const BACK: u32 = 3;

/// The director's address on a wire.
pub(crate) fn mac_of_wire(ifindex: u32) -> [u8; 6] {
    [2, 0, 0, 0, 0, ifindex as u8 - 1]
}

/// The MAC address of every host of the recordings: from its address.
pub(crate) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [first, b, c, d] = address.octets();
    [2, 4, first, b, c, d]
}

pub(crate) struct Director {
    pub(crate) tables: HostTables,
    /// Forwarding method of each server as it was given: the choice of a server does not depend on it.
    methods: HashMap<(u32, SocketAddrV4), &'static str>,
    /// Services with a scheduler that the engine does not have, and its name.
    dictated: HashMap<u32, String>,
}

impl Director {
    pub(crate) fn new() -> Self {
        let mut tables = HostTables::default();
        for ifindex in [FRONT, BACK] {
            tables.set_port(ifindex, mac_of_wire(ifindex), true);
        }
        tables.set_route_function(|_, destination, _| {
            let ifindex = match destination.octets() {
                [10, 0, 0, _] => FRONT,
                [192, 168, 1, _] => BACK,
                _ => return Route::none(Outcome::Unreachable),
            };
            resolved(ifindex, destination)
        });
        for last in 1..=16 {
            let address = Ipv4Addr::new(192, 168, 1, last);
            let next = NextHop {
                ifindex: BACK,
                mtu: 1500,
                gateway: address,
                macs: Some((mac_of(address), mac_of_wire(BACK))),
                takes_xdp: true,
            };
            tables.set_next_hop(address, next).unwrap();
        }
        Self {
            tables,
            methods: HashMap::new(),
            dictated: HashMap::new(),
        }
    }

    /// Have the next connection of a service go to a server, where a scheduler chose it that the engine does
    /// not have: round robin, told that it chose the one before.
    pub(crate) fn dictate(&self, service: SocketAddrV4, protocol: u8, server: Ipv4Addr) {
        let index = self.tables.service_at(service, protocol).unwrap();
        let is_it = |&at: &u32| *self.end_of(at).ip() == server;
        let list = self.tables.servers_of(index);
        let at = list.iter().position(is_it).unwrap();
        let before = if at == 0 { NONE } else { list[at - 1] };
        let state = self.tables.scheduler_state(index).unwrap();
        state.0.set(pack(before, 0));
    }

    /// Whether a service has a scheduler that the engine does not have.
    pub(crate) fn is_dictated(&self, service: SocketAddrV4, protocol: u8) -> bool {
        let at = self.tables.service_at(service, protocol);
        at.is_some_and(|at| self.dictated.contains_key(&at))
    }

    /// Do a command; gives what it prints when that is to be compared.
    pub(crate) fn command(&mut self, line: &str) -> Option<Vec<String>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["ipvsadm", "-Ln"] => return Some(self.list()),
            ["ipvsadm", "-Ln", "--stats"] => return Some(self.statistics()),
            ["ipvsadm", "-Lnc"] => return Some(self.connections()),
            ["ipvsadm", "-C"] => (0..64).for_each(|at| {
                if self.is_service(at) {
                    self.tables.remove_service(at).unwrap();
                }
            }),
            ["ipvsadm", "--set", tcp, fin, udp] => {
                let states = [State::Established, State::FinWait, State::Udp];
                for (state, seconds) in states.into_iter().zip([tcp, fin, udp]) {
                    self.tables
                        .set_timeout(state as usize, seconds.parse().unwrap());
                }
            }
            ["ipvsadm", verb, kind, service, ref rest @ ..] if !service.starts_with('[') => {
                let protocol = if kind == "-t" { TCP } else { UDP };
                self.change(verb, protocol, service.parse().unwrap(), rest);
            }
            ["ipvsadm", ..] | ["echo", "0" | "1" | "2" | "3", ..] | ["ip", ..] => {
                // IPv6, and settings whose recordings hold with ours; the scenario was chosen so.
            }
            _ => panic!("a command that is not understood: {line}"),
        }
        None
    }

    fn change(&mut self, verb: &str, protocol: u8, service: SocketAddrV4, options: &[&str]) {
        let name = option(options, "-s").unwrap_or("wlc");
        let scheduler = Scheduler::ALL.iter().find(|s| s.name() == name).copied();
        let weight = option(options, "-w").map_or(1, |w| w.parse().unwrap());
        let tables = &mut self.tables;
        if verb == "-A" {
            let index = tables
                .add_service(service, protocol, scheduler.unwrap_or(Scheduler::Rr))
                .unwrap();
            if scheduler.is_none() {
                self.dictated.insert(index, name.to_owned());
            }
            return;
        }
        let index = tables.service_at(service, protocol).unwrap();
        let server = option(options, "-r").map(|server| match server.parse() {
            Ok(end) => end,
            Err(_) => SocketAddrV4::new(server.parse().unwrap(), service.port()),
        });
        match (verb, server) {
            ("-E", None) => {
                self.dictated.remove(&index);
                tables.set_scheduler(index, scheduler.unwrap()).unwrap();
            }
            ("-D", None) => tables.remove_service(index).unwrap(),
            ("-a", Some(server)) => {
                tables.add_server(index, server, weight).unwrap();
                let method = match options {
                    options if options.contains(&"-m") => "Masq",
                    options if options.contains(&"-i") => "Tunnel",
                    _ => "Route",
                };
                self.methods.insert((index, server), method);
            }
            ("-e", Some(server)) => {
                let at = tables.server_at(index, server).unwrap();
                tables.set_weight(at, weight).unwrap();
            }
            ("-d", Some(server)) => {
                let at = tables.server_at(index, server).unwrap();
                tables.remove_server(at).unwrap();
            }
            _ => panic!("a change that is not understood: {verb} {service} {options:?}"),
        }
    }

    fn is_service(&self, at: u32) -> bool {
        self.tables.service(at).unwrap().flags.get() == Service::USED
    }

    /// Rows of services and their servers, words apart by one space.
    fn rows(
        &self,
        service_row: impl Fn(u32, &Service) -> String,
        server_row: impl Fn(u32, u32) -> String,
    ) -> Vec<String> {
        let mut rows = Vec::new();
        for at in (0..64).filter(|&at| self.is_service(at)) {
            let service = self.tables.service(at).unwrap();
            let protocol = service.port_protocol.get() >> 16;
            let name = if protocol == TCP as u32 { "TCP" } else { "UDP" };
            let address = Ipv4Addr::from(service.address.get().to_ne_bytes());
            let port = u16::from_be(service.port_protocol.get() as u16);
            rows.push(format!(
                "{name} {address}:{port}{}",
                service_row(at, service)
            ));
            for server in self.tables.servers_of(at) {
                rows.push(format!(
                    "-> {}{}",
                    self.end_of(server),
                    server_row(at, server)
                ));
            }
        }
        rows
    }

    fn end_of(&self, server: u32) -> SocketAddrV4 {
        let server = self.tables.server(server).unwrap();
        SocketAddrV4::new(
            Ipv4Addr::from(server.address.get().to_ne_bytes()),
            u16::from_be(server.port.get()),
        )
    }

    fn list(&self) -> Vec<String> {
        let scheduler = |at, service: &Service| {
            let number = service.scheduler.get();
            let known = Scheduler::ALL.iter().find(|s| **s as u32 == number);
            let name = self.dictated.get(&at).map(String::as_str);
            format!(" {}", name.unwrap_or_else(|| known.unwrap().name()))
        };
        self.rows(scheduler, |service, at| {
            let counts = self.tables.counts(at).unwrap();
            let (active, total) = (counts.active.get(), counts.total.get());
            format!(
                " {} {} {active} {}",
                self.methods[&(service, self.end_of(at))],
                self.tables.server(at).unwrap().weight.get(),
                total - active
            )
        })
    }

    fn statistics(&self) -> Vec<String> {
        let all_of = |service, _: &Service| {
            // A service goes on counting what its removed servers counted.
            let is_its = |&at: &u32| {
                let server = self.tables.server(at).unwrap();
                server.flags.get() != 0 && server.service.get() == service
            };
            let sum =
                (0..256)
                    .filter(is_its)
                    .map(|at| self.counted(at))
                    .fold([0; 5], |mut sum, row| {
                        sum.iter_mut().zip(row).for_each(|(sum, n)| *sum += n);
                        sum
                    });
            words(sum)
        };
        self.rows(all_of, |_, at| words(self.counted(at)))
    }

    fn counted(&self, server: u32) -> [u64; 5] {
        let counters = self.tables.counters(server).unwrap();
        [
            counters.connections.get(),
            counters.in_packets.get(),
            counters.out_packets.get(),
            counters.in_bytes.get(),
            counters.out_bytes.get(),
        ]
    }

    fn connections(&self) -> Vec<String> {
        let row = |c: Connection| {
            format!(
                "{} {:02}:{:02} {} {} {} {}",
                c.protocol_name(),
                c.seconds / 60,
                c.seconds % 60,
                c.state,
                c.client,
                c.virtual_end,
                c.server
            )
        };
        self.tables.connections().into_iter().map(row).collect()
    }
}

fn resolved(ifindex: u32, neighbour: Ipv4Addr) -> Route {
    let mut bytes = [0; 12];
    bytes[..6].copy_from_slice(&mac_of(neighbour));
    bytes[6..].copy_from_slice(&mac_of_wire(ifindex));
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    Route {
        outcome: Outcome::Resolved,
        macs: [word(0), word(4), word(8)],
        ifindex,
        mtu: 1500,
        gateway: 0,
    }
}

fn option<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    let at = options.iter().position(|o| *o == name)?;
    options.get(at + 1).copied()
}

fn words(numbers: [u64; 5]) -> String {
    numbers.iter().map(|n| format!(" {n}")).collect()
}
