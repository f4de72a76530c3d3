//! Every recorded choice of a server, made again by the schedulers alone: no packets, the connections only counted.
//!
//! So that no other part of the engine can hide a mistake, and for what the rest cannot do yet: to a scheduler IPv6
//! and firewall marks are nothing special. Persistent services are left out: there templates choose.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, SocketAddrV4},
};

use furiwake_engine::{
    host::HostTables,
    list,
    packet::{TCP, UDP},
    schedule::{Origin, Scheduler, fold, pick},
    tables::{NONE, Server, Service, Tables},
};
use serde_json::Value;

#[test]
fn servers_are_chosen_as_recorded() {
    let mut played = HashMap::new();
    for text in [
        include_str!("golden/schedulers.jsonl"),
        include_str!("golden/sockets.jsonl"),
    ] {
        // The first line says what made the recordings.
        for line in text.lines().skip(1) {
            let recording: Value = serde_json::from_str(line).unwrap();
            let scenario = recording["scenario"].as_str().unwrap();
            if scenario.contains("persistent") {
                continue;
            }
            let mut director = Director::default();
            for (number, step) in recording["steps"].as_array().unwrap().iter().enumerate() {
                director.step(step, &format!("{scenario}, step {number}"));
            }
            *played.entry(director.scheduler.unwrap()).or_insert(0) += 1;
        }
    }
    // All that the recorded kernel has.
    assert_eq!(played.len(), 13, "{played:?}");
}

/// A director with one service. What it serves is not what the tables say: addresses of both families and marks
/// get one key, for nothing but the choice matters.
#[derive(Default)]
struct Director {
    tables: HostTables,
    scheduler: Option<&'static str>,
    service: Option<u32>,
    /// The service's port, which is that of servers without one of their own.
    port: u16,
    servers: HashMap<SocketAddr, u32>,
    /// Server of each connection, and whether it is active.
    connections: HashMap<(String, String), (u32, bool)>,
}

const PLACEHOLDER: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 0, 0, 1), 80);

impl Director {
    fn step(&mut self, step: &Value, place: &str) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        if let Some(line) = step["cmd"].as_str() {
            match line {
                "ipvsadm -Ln" => assert_eq!(self.list(), rows_of(&text(&step["out"])), "{place}"),
                _ if line.starts_with("ipvsadm -Ln") || line.starts_with("iptables") => {}
                _ => self.command(line),
            }
        } else if let Some(ended) = step["close"].as_array() {
            // With direct routing and tunnels the director does not see what servers send.
            let is_seen = step["first"] != "server" || step["how"] != "rst";
            for client in ended.iter().filter(|_| is_seen) {
                self.end(client.as_str().unwrap());
            }
        } else if let Some(connections) = step["connections"].as_array() {
            // "close": open and closed at once. Anything else but a datagram stays open, or half open.
            let is_active = step["udp"].is_null() && step["tcp"] != "close";
            for connection in connections {
                let words: Vec<String> = connection.as_array().unwrap().iter().map(text).collect();
                let (service, wanted) = match &words[..] {
                    [_, wanted] => ("10.0.0.1:80", wanted),
                    [_, service, wanted] => (&service[..], wanted),
                    _ => panic!("{place}: a connection that is not understood"),
                };
                let wanted = match wanted.strip_prefix('r') {
                    Some(number) => format!("192.168.1.{number}"),
                    None => wanted.clone(),
                };
                let wanted = wanted.parse::<IpAddr>().ok();
                let got = self.connect(is_active, &words[0], service);
                assert_eq!(got, wanted, "{place}, {words:?}");
            }
        }
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let option = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).copied()
        };
        let number = |name: &str| option(name).map(|text| text.parse::<u32>().unwrap());
        match words[1] {
            "-A" | "-E" => {
                let scheduler = Scheduler::from_name(option("-s").unwrap()).unwrap();
                self.scheduler = Some(scheduler.name());
                let index = match self.service {
                    Some(index) => {
                        self.tables.set_scheduler(index, scheduler).unwrap();
                        index
                    }
                    None => {
                        let protocol = if words[2] == "-u" { UDP } else { TCP };
                        self.tables
                            .add_service(PLACEHOLDER, protocol, scheduler)
                            .unwrap()
                    }
                };
                self.service = Some(index);
                self.port = words[3].parse().map_or(0, |end: SocketAddr| end.port());
                let mut flags = Service::USED;
                for flag in option("-b").unwrap_or_default().split(',') {
                    flags |= match flag {
                        "" => 0,
                        "sh-fallback" | "mh-fallback" => Service::FLAG_1,
                        "sh-port" | "mh-port" => Service::FLAG_2,
                        _ => panic!("a flag that is not understood: {flag}"),
                    };
                }
                if words[3].starts_with('[') {
                    flags |= Service::V6;
                }
                self.tables.service(index).unwrap().flags.set(flags);
            }
            "-a" => {
                let end = end_of(option("-r").unwrap(), self.port);
                let weight = number("-w").unwrap_or(1);
                let placeholder =
                    SocketAddrV4::new([172, 16, 0, self.servers.len() as u8].into(), 80);
                let service = self.service.unwrap();
                let at = self.tables.add_server(service, placeholder, weight);
                let at = at.unwrap();
                let server = self.tables.server(at).unwrap();
                let words = words_of(end.ip());
                server.address.set(words[0]);
                for (cell, word) in server.address_rest.iter().zip(&words[1..]) {
                    cell.set(*word);
                }
                if end.is_ipv6() {
                    server.flags.set(server.flags.get() | Server::V6);
                }
                server.port.set(end.port().to_be());
                server.upper.set(number("-x").unwrap_or(0));
                list::weights_changed(&self.tables, service).unwrap();
                self.servers.insert(end, at);
            }
            "-e" => {
                let at = self.servers[&end_of(option("-r").unwrap(), self.port)];
                let weight = number("-w").unwrap_or(1);
                list::set_weight(&self.tables, at, weight, 0).unwrap();
                let upper = number("-x").unwrap_or(0);
                self.tables.server(at).unwrap().upper.set(upper);
            }
            "-d" => {
                let at = self
                    .servers
                    .remove(&end_of(option("-r").unwrap(), self.port));
                self.tables.remove_server(at.unwrap()).unwrap();
            }
            _ => panic!("a command that is not understood: {line}"),
        }
    }

    /// Make a connection; gives the server's address.
    fn connect(&mut self, is_active: bool, client: &str, service: &str) -> Option<IpAddr> {
        let names = (client.to_owned(), service.to_owned());
        let at = match self.connections.get(&names) {
            Some((at, _)) => *at,
            None => {
                let (client, service) = (end_of(client, 0), end_of(service, 0));
                let (high, low) = halves_of(client.ip());
                let origin = Origin::new(fold(high, low), client.port());
                let (high, low) = halves_of(service.ip());
                let at = pick(&self.tables, self.service.unwrap(), origin, high, low);
                if at == NONE {
                    return None;
                }
                self.count(at, is_active);
                self.connections.insert(names, (at, is_active));
                at
            }
        };
        let is_it = |(end, server): (&SocketAddr, &u32)| (*server == at).then(|| end.ip());
        self.servers.iter().find_map(is_it)
    }

    fn count(&self, at: u32, is_active: bool) {
        let counts = self.tables.counts(at).unwrap();
        let upper = self.tables.server(at).unwrap().upper.get();
        counts.total.add(1);
        counts.active.add(u32::from(is_active));
        if upper != 0 && counts.total.get() >= upper {
            counts.overloaded.set(1);
        }
    }

    /// A connection is over, but its entry stays.
    fn end(&mut self, client: &str) {
        let ended = self
            .connections
            .iter_mut()
            .filter(|(names, _)| names.0 == client);
        for (_, (at, is_active)) in ended {
            let counts = self.tables.counts(*at).unwrap();
            counts.active.add(0u32.wrapping_sub(u32::from(*is_active)));
            *is_active = false;
        }
    }

    /// The servers as ipvsadm lists them, sorted.
    fn list(&self) -> Vec<String> {
        let mut rows: Vec<_> = self.servers.iter().collect();
        rows.sort();
        let row = |(end, at): (&SocketAddr, &u32)| {
            let counts = self.tables.counts(*at).unwrap();
            let active = counts.active.get();
            let weight = self.tables.server(*at).unwrap().weight.get();
            let inactive = counts.total.get() - active;
            format!("{end} {weight} {active} {inactive}")
        };
        rows.into_iter().map(row).collect()
    }
}

/// Servers of a listing: address, weight, active and inactive connections.
fn rows_of(listing: &str) -> Vec<String> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["->", end, _, weight, active, inactive] if end != "RemoteAddress:Port" => {
                Some([end, weight, active, inactive].join(" "))
            }
            _ => None,
        }
    };
    listing.lines().filter_map(row).collect()
}

fn end_of(text: &str, port: u16) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|_| SocketAddr::new(text.parse().unwrap(), port))
}

fn words_of(address: IpAddr) -> [u32; 4] {
    let (high, low) = halves_of(address);
    let word = |half: u64, at: usize| {
        let bytes = half.to_ne_bytes();
        u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
    };
    [word(high, 0), word(high, 4), word(low, 0), word(low, 4)]
}

/// An address as two words, as it lies on the wire.
fn halves_of(address: IpAddr) -> (u64, u64) {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes = address.octets(),
    }
    let half = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    (half(0), half(8))
}
