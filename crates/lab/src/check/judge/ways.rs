//! Whether packets took the ways that direct routing and tunnels mean.

use std::net::Ipv4Addr;

use super::passed;
use crate::{
    check::{
        Check, Measured, Status,
        ways::{Ways, shares_segment},
    },
    report::format::thousands,
    topology::{Method, Role, Service, Topology, Tunnel, TunnelKind},
    wire::{Arp, Encapsulated, Payload},
};

/// Every check about the ways of packets; none when the director rewrites addresses both ways.
pub(super) fn judge(measured: &Measured) -> Vec<Check> {
    let Some(ways) = &measured.ways else {
        return Vec::new();
    };
    let topology = &measured.topology;
    let mut checks = Vec::new();
    for (position, service) in topology.services.iter().enumerate() {
        // Services of one address and method take the same ways.
        let alike =
            |other: &Service| (other.address, other.method) == (service.address, service.method);
        if service.method.returns() || topology.services[..position].iter().any(alike) {
            continue;
        }
        checks.push(straight_back(topology, ways, service));
        match service.method {
            Method::Masq => {}
            Method::Gateway => checks.push(unchanged(topology, ways, service)),
            Method::Tunnel(tunnel) => checks.push(wrapped(topology, ways, service, tunnel)),
        }
        if shares_segment(topology, service) {
            checks.push(neighbour(topology, ways, service.address));
        }
    }
    checks
}

/// Answers come from the servers, and not from the director.
fn straight_back(topology: &Topology, ways: &Ways, service: &Service) -> Check {
    let clients = addresses(topology, Role::Client);
    let senders = ways.senders(|packet| {
        packet.is_tcp() && packet.source == service.address && clients.contains(&packet.destination)
    });
    let (mut total, mut wrong) = (0, Vec::new());
    let mut by_server = Vec::new();
    for (machine, sender) in &senders {
        match topology.machine(machine).map(|machine| machine.role) {
            Some(Role::Server) => {
                total += sender.packets;
                by_server.push(format!("{machine} {}", thousands(sender.packets)));
                if sender.foreign {
                    wrong.push(format!(
                        "{machine} sent some with a hardware address that is not its own"
                    ));
                }
            }
            // On their behalf.
            Some(Role::Router) => {}
            _ => wrong.push(format!("{machine} sent {}", thousands(sender.packets))),
        }
    }
    if total == 0 {
        wrong.push("no server sent any".into());
    }
    let mut details = vec![format!(
        "on the wire, TCP from the VIP to the client: {}",
        if by_server.is_empty() {
            "none from servers".to_owned()
        } else {
            by_server.join(", ")
        }
    )];
    details.push(if wrong.is_empty() {
        "each frame with the hardware address of its server, none from the director".into()
    } else {
        wrong.join("; ")
    });
    Check {
        id: "replies-direct",
        status: passed(wrong.is_empty()),
        title: "answers go straight to the client, not through the director".into(),
        details,
    }
}

/// Requests come to the servers as the client sent them.
fn unchanged(topology: &Topology, ways: &Ways, service: &Service) -> Check {
    let clients = addresses(topology, Role::Client);
    let directors = names(topology, Role::Director);
    let (mut right, mut wrong) = (0, Vec::new());
    for (sighting, tally) in &ways.sightings {
        let receiver = ways.owner(&sighting.frame.destination.to_string());
        let to_server = receiver
            .and_then(|receiver| topology.machine(receiver))
            .is_some_and(|machine| machine.role == Role::Server);
        if !to_server || !directors.contains(&sighting.machine.as_str()) {
            continue;
        }
        match &sighting.frame.payload {
            Payload::Ip(packet) if packet.is_tcp() => {
                if clients.contains(&packet.source) && packet.destination == service.address {
                    right += tally.frames;
                } else {
                    wrong.push(format!(
                        "{} from {} to {}",
                        thousands(tally.frames),
                        packet.source,
                        packet.destination
                    ));
                }
            }
            Payload::Tunnel(packet) => {
                wrong.push(format!("{} in {}", thousands(tally.frames), packet.kind));
            }
            _ => {}
        }
    }
    let mut details = vec![format!(
        "on the wire from the director to servers: {} packets from the client to the VIP",
        thousands(right)
    )];
    details.extend(wrong.iter().map(|wrong| format!("and {wrong}")));
    Check {
        id: "requests-unchanged",
        status: passed(right > 0 && wrong.is_empty()),
        title: "requests reach the servers as they are, in frames to their hardware addresses"
            .into(),
        details,
    }
}

/// Requests come to the servers as the client sent them, inside the right packets.
fn wrapped(topology: &Topology, ways: &Ways, service: &Service, tunnel: Tunnel) -> Check {
    let own = addresses(topology, Role::Director);
    let clients = addresses(topology, Role::Client);
    let directors = names(topology, Role::Director);
    let is_right = |packet: &Encapsulated| {
        packet.kind == tunnel.kind
            && packet.overhead == tunnel.kind.overhead()
            && packet.lengths_agree
            && own.contains(&packet.outer.source)
            && clients.contains(&packet.inner.source)
            && packet.inner.destination == service.address
    };
    let (mut right, mut wrong) = (0, Vec::new());
    for (sighting, tally) in &ways.sightings {
        if !directors.contains(&sighting.machine.as_str()) {
            continue;
        }
        let count = thousands(tally.frames);
        match &sighting.frame.payload {
            Payload::Tunnel(packet) if is_right(packet) => right += tally.frames,
            Payload::Tunnel(packet) => wrong.push(format!(
                "{count} {} packets from {} to {}, {} bytes longer, with {} to {} inside{}",
                packet.kind,
                packet.outer.source,
                packet.outer.destination,
                packet.overhead,
                packet.inner.source,
                packet.inner.destination,
                if packet.lengths_agree {
                    ""
                } else {
                    ", of which some length field is wrong"
                }
            )),
            Payload::Ip(packet) if packet.is_tcp() && packet.destination == service.address => {
                wrong.push(format!("{count} packets for the VIP as they were"));
            }
            _ => {}
        }
    }
    let what = match tunnel.kind {
        TunnelKind::Ipip => "IP protocol 4".to_owned(),
        TunnelKind::Gue => format!("UDP to port {}", tunnel.port),
        TunnelKind::Gre => "IP protocol 47".to_owned(),
    };
    let mut details = vec![format!(
        "on the wire from the director: {} packets, {what}, each {} bytes longer than the one in it, which goes from the client to the VIP",
        thousands(right),
        tunnel.kind.overhead()
    )];
    details.extend(wrong.iter().map(|wrong| format!("and {wrong}")));
    Check {
        id: "encapsulated",
        status: passed(right > 0 && wrong.is_empty()),
        title: format!(
            "requests reach the servers as they are, inside {}",
            tunnel.kind
        ),
        details,
    }
}

/// Only the director says that it has the virtual address.
fn neighbour(topology: &Topology, ways: &Ways, address: Ipv4Addr) -> Check {
    let (mut answers, mut wrong) = (0, Vec::new());
    for (sighting, tally) in &ways.sightings {
        let Payload::Arp(Arp { reply, sender, .. }) = sighting.frame.payload else {
            continue;
        };
        if sender != address {
            continue;
        }
        let role = topology
            .machine(&sighting.machine)
            .map(|machine| machine.role);
        if role != Some(Role::Director) {
            let said = if reply {
                "answered ARP for"
            } else {
                "asked in the name of"
            };
            wrong.push(format!("{} {said} the VIP", sighting.machine));
        } else if reply {
            answers += tally.frames;
        }
    }
    let known = ways.neighbours.get(&address);
    let owner = known.and_then(|mac| ways.owner(mac));
    let role = owner
        .and_then(|owner| topology.machine(owner))
        .map(|machine| machine.role);
    let mut details = vec![match (known, owner) {
        (Some(mac), Some(owner)) => {
            format!("the client's neighbour {address} is {mac}, the {owner}'s")
        }
        (Some(mac), None) => format!("the client's neighbour {address} is {mac}, nobody's"),
        (None, _) => format!("the client knows no neighbour {address}"),
    }];
    if wrong.is_empty() {
        details.push(format!(
            "ARP for it: {} by the director, no server answered or asked in its name",
            match answers {
                1 => "1 answer".to_owned(),
                answers => format!("{answers} answers"),
            }
        ));
    } else {
        wrong.dedup();
        details.extend(wrong.iter().cloned());
        details.push(
            "servers keep it to themselves with arp_ignore=1 and arp_announce=2 (net.ipv4.conf.all)"
                .into(),
        );
    }
    Check {
        id: "arp",
        status: passed(wrong.is_empty() && role == Some(Role::Director)),
        title: "ARP for the VIP stays with the director".into(),
        details,
    }
}

/// Large requests and answers.
pub(super) fn transfers(measured: &Measured) -> Vec<Check> {
    use crate::load::{Transfer, Way};

    let told = measured.ways.as_ref().map(|ways| {
        let senders = ways.senders(|packet| packet.is_fragmentation_needed());
        senders.values().map(|sender| sender.packets).sum::<u64>()
    });
    let check = |(service, transfer): &(Service, Transfer)| {
        let Transfer {
            way,
            bytes,
            outcome,
        } = transfer;
        let (id, title) = match way {
            Way::Up => ("upload", "an upload arrives whole"),
            Way::Down => ("download", "a download arrives whole"),
        };
        let mut details = vec![match outcome {
            Ok(took) => {
                let rate = *bytes as f64 / took.as_secs_f64().max(1e-6) / 1e6;
                let url = super::url(service);
                format!(
                    "{} bytes by {url}, every one compared   {rate:.0} MB/s",
                    thousands(*bytes)
                )
            }
            Err(problem) => format!(
                "{} bytes by {}: {problem}",
                thousands(*bytes),
                super::url(service)
            ),
        }];
        if let (Way::Up, Method::Tunnel(_), Some(told)) = (way, service.method, told) {
            details.push(format!(
                "packets that the tunnel makes too long: senders were told so {told} times"
            ));
        }
        Check {
            id,
            status: passed(outcome.is_ok()),
            title: format!("{title}, port {}", service.port),
            details,
        }
    };
    let mut checks: Vec<Check> = measured.transfers.iter().map(check).collect();
    let asked = measured.topology.services.iter().any(|service| {
        service
            .traffic
            .upload
            .or(service.traffic.download)
            .is_some()
    });
    if asked && checks.is_empty() {
        checks.push(Check {
            id: "upload",
            status: Status::Skipped,
            title: "large requests and answers arrive whole".into(),
            details: vec!["only the built-in web server takes and gives them".into()],
        });
    }
    checks
}

/// Every address of machines of a role.
fn addresses(topology: &Topology, role: Role) -> Vec<Ipv4Addr> {
    topology
        .machines(role)
        .flat_map(|machine| &machine.interfaces)
        .map(|interface| interface.address)
        .collect()
}

fn names(topology: &Topology, role: Role) -> Vec<&str> {
    topology
        .machines(role)
        .map(|machine| machine.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests;
