//! The virtual services of a file, with what is sent to them and what must come of it.

use super::{
    machines::read_list,
    reader::{Findings, Section, Value},
    words,
};
use crate::topology::{
    Expectation, Method, Persistence, RealServer, Role, Scheduler, Service, Share, Topology,
    Traffic, Tunnel, TunnelKind,
};

/// The port that everybody sends GUE to.
const GUE_PORT: u16 = 6080;
/// Longest persistence that ipvsadm takes.
const MOST_SECONDS: u64 = 31 * 24 * 3600;

/// Reads every `[[service]]`; one with several ports is several.
pub(super) fn read(
    value: &Value<'_>,
    topology: &Topology,
    servers: &[RealServer],
    findings: &mut Findings<'_>,
) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for part in value.list(findings).unwrap_or_default() {
        let Some(section) = part.section(findings, "[[service]]") else {
            continue;
        };
        for service in read_one(section, topology, servers, findings) {
            let same =
                |other: &Service| (other.address, other.port) == (service.address, service.port);
            if services.iter().any(same) {
                findings.add(
                    &part.at,
                    format!("{}:{} is there twice", service.address, service.port),
                    "give each service an address and port of its own",
                );
            }
            services.push(service);
        }
    }
    services
}

fn read_one(
    mut section: Section<'_>,
    topology: &Topology,
    servers: &[RealServer],
    findings: &mut Findings<'_>,
) -> Vec<Service> {
    let at = section.at.clone();
    let place = section.need(findings, "address", "\"192.168.56.50\"");
    let address = place
        .as_ref()
        .and_then(|place| place.parsed(findings, words::address));
    if let (Some(place), Some(address)) = (&place, address) {
        check_address(place, address, topology, findings);
    }
    let ports: Vec<u16> = section
        .need(findings, "ports", "[80, 443]")
        .and_then(|ports| ports.list(findings))
        .unwrap_or_default()
        .iter()
        .filter_map(|port| port.number(findings, 1, 65535))
        .map(|port| port as u16)
        .collect();
    let scheduler = section
        .need(findings, "scheduler", "\"rr\"")
        .and_then(|word| word.parsed(findings, scheduler));
    let flags = section
        .get("flags")
        .map(|flags| read_list(&flags, findings, words::flag))
        .unwrap_or_default();
    let persistence = read_persistence(&mut section, findings);
    let method = read_method(&mut section, findings);
    let chosen = read_servers(&mut section, servers, findings);
    let traffic = read_traffic(&mut section, findings);
    let expectation = read_expectation(&mut section, &chosen, &traffic, findings);
    section.close(findings);
    if method == Some(Method::Gateway) {
        for server in chosen.iter().filter(|server| !is_beside(server, topology)) {
            findings.add(
                &at,
                format!("{} is in none of the director's networks", server.name),
                "by method gateway the director reaches servers without a router between: use tunnel, or move it",
            );
        }
    }
    let (Some(address), Some(scheduler), Some(method)) = (address, scheduler, method) else {
        return Vec::new();
    };
    ports
        .iter()
        .map(|&port| Service {
            address,
            port,
            scheduler,
            flags: flags.clone(),
            persistence,
            method,
            servers: chosen.clone(),
            traffic,
            expectation: expectation.clone(),
        })
        .collect()
}

/// A virtual address is one of the director's, and nobody else's.
fn check_address(
    place: &Value<'_>,
    address: std::net::Ipv4Addr,
    topology: &Topology,
    findings: &mut Findings<'_>,
) {
    let mut near = topology
        .machines(Role::Director)
        .flat_map(|director| &director.interfaces)
        .filter_map(|interface| topology.network(&interface.network));
    if !near.any(|network| words::is_host(network, address)) {
        place.wrong(
            findings,
            format!("{address} is in none of the director's networks"),
            "take an address there, that others may ask for it",
        );
    }
    let owner = topology.nodes.iter().find(|machine| {
        machine
            .interfaces
            .iter()
            .any(|interface| interface.address == address)
    });
    if let Some(owner) = owner {
        let problem = format!("{address} is the own address of {}", owner.name);
        place.wrong(findings, problem, "take one that no machine has");
    }
}

fn scheduler(word: &str) -> words::Read<Scheduler> {
    word.parse().map_err(|_| {
        let known = Scheduler::names();
        (format!("is {word:?}"), format!("there are {known}"))
    })
}

fn read_persistence(section: &mut Section<'_>, findings: &mut Findings<'_>) -> Option<Persistence> {
    let seconds = section
        .get("persistent")
        .and_then(|value| value.number(findings, 1, MOST_SECONDS));
    let mask = section.get("netmask");
    let netmask = mask
        .as_ref()
        .and_then(|mask| mask.parsed(findings, words::netmask));
    if let (Some(mask), None) = (&mask, seconds) {
        mask.wrong(findings, "is without persistent", "add persistent = 300");
    }
    Some(Persistence {
        seconds: seconds? as u32,
        netmask: netmask.unwrap_or(std::net::Ipv4Addr::BROADCAST),
    })
}

fn read_method(section: &mut Section<'_>, findings: &mut Findings<'_>) -> Option<Method> {
    let value = section.need(findings, "method", "\"masq\"");
    let kind = section.get("tunnel");
    let port = section.get("tunnel-port");
    let word = value.as_ref()?.text(findings)?;
    let kind_read = match &kind {
        None => Some(TunnelKind::Ipip),
        Some(kind) => kind.parsed(findings, |word| {
            let known = TunnelKind::ALL.map(|kind| kind.to_string());
            TunnelKind::ALL
                .into_iter()
                .find(|kind| kind.to_string() == word)
                .ok_or_else(|| {
                    (
                        format!("is {word:?}"),
                        format!("there are {}", known.join(", ")),
                    )
                })
        }),
    };
    let port_read = port.as_ref().map_or(Some(u64::from(GUE_PORT)), |port| {
        port.number(findings, 1, 65535)
    });
    if word != "tunnel" {
        for value in [&kind, &port].into_iter().flatten() {
            value.wrong(findings, "is for method tunnel", "leave it out");
        }
    } else if let (Some(port), Some(TunnelKind::Ipip | TunnelKind::Gre)) = (&port, kind_read) {
        port.wrong(findings, "is for tunnel gue", "leave it out");
    }
    match word {
        "masq" => Some(Method::Masq),
        "gateway" => Some(Method::Gateway),
        "tunnel" => Some(Method::Tunnel(Tunnel {
            kind: kind_read?,
            port: port_read? as u16,
        })),
        _ => {
            let known = Method::WORDS.join(", ");
            let remedy = if word == "fullnat" {
                format!("the director has no full NAT yet: there are {known}")
            } else {
                format!("there are {known}")
            };
            value?.wrong(findings, format!("is {word:?}"), remedy);
            None
        }
    }
}

fn read_servers(
    section: &mut Section<'_>,
    servers: &[RealServer],
    findings: &mut Findings<'_>,
) -> Vec<RealServer> {
    let Some(value) = section.get("servers") else {
        return servers.to_vec();
    };
    let find = |name: &str| {
        servers
            .iter()
            .find(|server| server.name == name)
            .cloned()
            .ok_or_else(|| unknown_server(name, servers))
    };
    read_list(&value, findings, find)
}

fn read_traffic(section: &mut Section<'_>, findings: &mut Findings<'_>) -> Traffic {
    let mut number = |key, most| {
        let value = section.get(key)?;
        value.number(findings, 1, most)
    };
    Traffic {
        requests: number("requests", 1_000_000).map(|number| number as usize),
        concurrency: number("concurrency", 1000).map(|number| number as usize),
        upload: number("upload", 1 << 30),
        download: number("download", 1 << 30),
    }
}

fn read_expectation(
    section: &mut Section<'_>,
    servers: &[RealServer],
    traffic: &Traffic,
    findings: &mut Findings<'_>,
) -> Expectation {
    let Some(value) = section.get("expect") else {
        return Expectation::default();
    };
    let remedy = "write \"scheduler\", \"one server\", \"any\", or { servers = { rs1 = 75, rs2 = 25 }, tolerance = 5, failed = 0 }";
    if value.is_text() {
        let share = match value.text(findings).unwrap_or_default() {
            "scheduler" => Share::Scheduler,
            "one server" => Share::OneServer,
            "any" => Share::Any,
            word => {
                value.wrong(findings, format!("is {word:?}"), remedy);
                Share::Any
            }
        };
        return Expectation { share, failed: 0 };
    }
    if !value.is_table() {
        value.wrong(findings, "is neither a text nor a table", remedy);
        return Expectation::default();
    }
    let Some(mut table) = value.section(findings, "expect") else {
        return Expectation::default();
    };
    let mut number = |key| {
        let value = table.get(key)?;
        value
            .number(findings, 0, 1_000_000)
            .map(|number| number as usize)
    };
    let tolerance = number("tolerance");
    let failed = number("failed").unwrap_or(0);
    let counts = table.get("servers");
    table.close(findings);
    let Some(counts) = counts else {
        if tolerance.is_some() {
            value.wrong(findings, "has a tolerance and no servers", remedy);
        }
        return Expectation {
            share: Share::Scheduler,
            failed,
        };
    };
    let mut read = Vec::new();
    for entry in counts.entries(findings).unwrap_or_default() {
        if !servers.iter().any(|server| server.name == entry.key) {
            let (problem, remedy) = unknown_server(&entry.key, servers);
            findings.add(&entry.at, format!("expect {problem}"), remedy);
        }
        let count = entry.number(findings, 0, 1_000_000);
        read.push((entry.key.clone(), count.unwrap_or(0) as usize));
    }
    let total: usize = read.iter().map(|(_, count)| count).sum();
    let tolerance = tolerance.unwrap_or(0);
    match traffic.requests {
        Some(requests) if tolerance == 0 && total + failed != requests => value.wrong(
            findings,
            format!("adds up to {} of {requests} requests", total + failed),
            "make the servers' counts and failed add up, or give a tolerance",
        ),
        _ => {}
    }
    Expectation {
        share: Share::Counts {
            servers: read,
            tolerance,
        },
        failed,
    }
}

fn unknown_server(name: &str, servers: &[RealServer]) -> (String, String) {
    let known: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
    (
        format!("names {name:?}, which is no server"),
        format!("there are {}", known.join(", ")),
    )
}

/// Whether the director has the server in one of its own networks.
fn is_beside(server: &RealServer, topology: &Topology) -> bool {
    topology
        .machines(Role::Director)
        .flat_map(|director| &director.interfaces)
        .filter_map(|interface| topology.network(&interface.network))
        .any(|network| network.contains(server.address))
}
