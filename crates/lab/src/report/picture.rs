//! A picture of the network, as wide as its servers need and never wider than the page.

mod segments;

use std::net::Ipv4Addr;

use crate::topology::{Machine, Network, Role, Topology};

/// Servers drawn side by side; of more, all but the last place names one each and the last says how many.
const COLUMNS: usize = 4;
const COLUMN: usize = 18;

/// Draws the network; every line fits the page.
pub(super) fn picture(topology: &Topology, data_plane: &str) -> Vec<String> {
    let beside = [services(topology), format!("data plane: {data_plane}")];
    if is_chain(topology) {
        chain(topology, &beside)
    } else {
        segments::segments(topology, &beside)
    }
}

/// Whether the director stands between a network of clients and one of servers.
fn is_chain(topology: &Topology) -> bool {
    let of_role = |role| topology.machines(role);
    let plugged = |machine: &Machine, network: &str| {
        machine.interfaces.len() == 1
            && machine
                .interfaces
                .iter()
                .all(|interface| interface.network == network)
    };
    let [front, back] = topology.networks.as_slice() else {
        return false;
    };
    of_role(Role::Router).next().is_none()
        && of_role(Role::Director).count() == 1
        && of_role(Role::Director).all(|director| director.interfaces.len() == 2)
        && of_role(Role::Client).all(|client| plugged(client, &front.name))
        && of_role(Role::Server).all(|server| plugged(server, &back.name))
}

/// Clients above, the director between, servers below.
fn chain(topology: &Topology, beside: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let address = |machine: &Machine| {
        machine
            .interfaces
            .first()
            .map(|interface| interface.address.to_string())
            .unwrap_or_default()
    };
    let mut networks = topology.networks.iter();
    let cable = |network: Option<&Network>| match network {
        Some(network) => format!("      │  {}/{}", network.address, network.prefix),
        None => "      │".into(),
    };
    for client in topology.machines(Role::Client) {
        lines.push(format!("   {} {}", client.name, address(client)));
    }
    lines.push(cable(networks.next()));
    if let Some(director) = topology.machines(Role::Director).next() {
        let interfaces: Vec<String> = director
            .interfaces
            .iter()
            .map(|interface| format!("{} {}", interface.name, short(interface.address)))
            .collect();
        let inside = [director.name.clone(), interfaces.join("  ")];
        let width = inside.iter().map(String::len).max().unwrap_or(0);
        lines.push(format!("  ┌───┴{}┐", "─".repeat(width.saturating_sub(2))));
        for (inside, beside) in inside.iter().zip(beside) {
            lines.push(format!("  │ {inside:<width$} │  {beside}"));
        }
        lines.push(format!("  └───┬{}┘", "─".repeat(width.saturating_sub(2))));
    }
    lines.push(cable(networks.next()));
    lines.extend(servers(topology));
    lines
}

/// The fan of real servers under its cable.
fn servers(topology: &Topology) -> Vec<String> {
    let servers: Vec<&Machine> = topology.machines(Role::Server).collect();
    let shown = if servers.len() > COLUMNS {
        COLUMNS - 1
    } else {
        servers.len()
    };
    let weight = |machine: &Machine| {
        let real = topology
            .services
            .first()?
            .servers
            .iter()
            .find(|server| server.name == machine.name)?;
        Some(real.weight)
    };
    let mut names: Vec<String> = servers[..shown]
        .iter()
        .map(|machine| {
            format!(
                "{} {}",
                machine.name,
                machine
                    .interfaces
                    .first()
                    .map_or(String::new(), |interface| interface.address.to_string())
            )
        })
        .collect();
    let mut weights: Vec<String> = servers[..shown]
        .iter()
        .map(|machine| format!("weight {}", weight(machine).unwrap_or(1)))
        .collect();
    if servers.len() > shown {
        names.push(format!("… {} more", servers.len() - shown));
        weights.push(String::new());
    }
    let mut fan = String::from("   ");
    for column in 0..names.len() {
        let last = column + 1 == names.len();
        let (mark, line) = match (column, last) {
            (0, true) => ("   │", 0),
            (0, false) => ("┌──┴", COLUMN - 4),
            (_, true) => ("┐", 0),
            (_, false) => ("┬", COLUMN - 1),
        };
        fan.push_str(mark);
        fan.push_str(&"─".repeat(line));
    }
    let row = |cells: &[String]| {
        format!(
            "   {}",
            cells
                .iter()
                .map(|cell| format!("{cell:<COLUMN$}"))
                .collect::<String>()
        )
        .trim_end()
        .to_owned()
    };
    let mut lines = vec![fan, row(&names)];
    if servers.iter().any(|machine| weight(machine) != Some(1)) {
        lines.push(row(&weights));
    }
    lines
}

/// `VIP 192.168.56.50  tcp 80, 443  rr  NAT`.
fn services(topology: &Topology) -> String {
    let Some(first) = topology.services.first() else {
        return String::new();
    };
    let ports: Vec<String> = topology
        .services
        .iter()
        .filter(|service| service.address == first.address)
        .map(|service| service.port.to_string())
        .collect();
    format!(
        "VIP {}  tcp {}  {}  {}",
        first.address,
        ports.join(", "),
        first.scheduler,
        first.method
    )
}

/// The last two parts of an address, for a narrow place next to its network.
fn short(address: Ipv4Addr) -> String {
    let [_, _, third, fourth] = address.octets();
    format!(".{third}.{fourth}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::format::WIDTH, topology::Nat};

    #[test]
    fn the_picture_fits_the_page_with_any_number_of_servers() {
        for count in [1, 2, 3, 4, 5, 50, Nat::MOST_SERVERS] {
            let lines = picture(
                &Nat::equal(count).topology().unwrap(),
                "eth0 XDP native, eth1 XDP native",
            );
            assert!(
                lines.iter().all(|line| line.chars().count() <= WIDTH),
                "{count}: {lines:#?}"
            );
        }
    }

    #[test]
    fn many_servers_are_counted_and_weights_are_shown() {
        let lines = picture(&Nat::equal(50).topology().unwrap(), "tc");
        assert_eq!(
            lines.last().unwrap(),
            "   rs1 10.0.0.10     rs2 10.0.0.11     rs3 10.0.0.12     … 47 more"
        );
        let nat = Nat {
            weights: vec![3, 1],
            scheduler: crate::Scheduler::Wrr,
        };
        let lines = picture(&nat.topology().unwrap(), "tc");
        assert_eq!(lines.last().unwrap(), "   weight 3          weight 1");
    }
}
