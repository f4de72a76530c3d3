//! A picture of any network: segment by segment, what is plugged in.

use crate::topology::{Machine, Network, Role, Topology};

/// Servers drawn in a segment; of more, the first few and how many others there are.
const MOST: usize = 4;

/// Draws every segment; `beside` stands next to the director.
pub(super) fn segments(topology: &Topology, beside: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut told = beside.iter();
    for network in &topology.networks {
        lines.push(format!(
            "  {} {}/{}",
            network.name, network.address, network.prefix
        ));
        lines.extend(segment(topology, network, &mut told));
    }
    lines
}

/// One segment's machines, in the order of the file.
fn segment<'a>(
    topology: &Topology,
    network: &Network,
    told: &mut impl Iterator<Item = &'a String>,
) -> Vec<String> {
    let plugs: Vec<(&Machine, String)> = topology
        .nodes
        .iter()
        .flat_map(|machine| machine.interfaces.iter().map(move |plug| (machine, plug)))
        .filter(|(_, plug)| plug.network == network.name)
        .map(|(machine, plug)| (machine, format!("{} {}", machine.name, plug.address)))
        .collect();
    let is_server = |machine: &Machine| machine.role == Role::Server;
    let servers = plugs
        .iter()
        .filter(|(machine, _)| is_server(machine))
        .count();
    let shown = if servers > MOST { MOST - 1 } else { servers };
    let width = plugs.iter().map(|(_, text)| text.len()).max().unwrap_or(0);

    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut drawn = 0;
    for (machine, text) in plugs {
        drawn += usize::from(is_server(machine));
        if is_server(machine) && drawn > shown {
            continue;
        }
        let beside = match machine.role {
            Role::Director => told.by_ref().cloned().collect(),
            Role::Server => weight(topology, machine).into_iter().collect(),
            Role::Client | Role::Router => Vec::new(),
        };
        rows.push((text, beside));
    }
    if servers > shown {
        rows.push((format!("… {} more", servers - shown), Vec::new()));
    }
    let mut lines = Vec::new();
    let last = rows.len().saturating_sub(1);
    for (number, (text, beside)) in rows.iter().enumerate() {
        let (mark, below) = if number == last {
            ("└─", "  ")
        } else {
            ("├─", "│ ")
        };
        let first = beside.first().map(String::as_str).unwrap_or_default();
        lines.push(
            format!("   {mark} {text:<width$}  {first}")
                .trim_end()
                .to_owned(),
        );
        for more in beside.iter().skip(1) {
            lines.push(format!("   {below} {:<width$}  {more}", ""));
        }
    }
    lines
}

/// The weight of a server, if it is not what everyone has.
fn weight(topology: &Topology, machine: &Machine) -> Option<String> {
    let servers = &topology.services.first()?.servers;
    if servers.iter().all(|server| server.weight == 1) {
        return None;
    }
    let server = servers.iter().find(|server| server.name == machine.name)?;
    Some(format!("weight {}", server.weight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{file::Choices, preset::Preset};

    fn drawn(preset: &str, weights: &[u32]) -> Vec<String> {
        let weights = Some(weights.to_vec());
        let choices = Choices {
            weights,
            scheduler: None,
        };
        let topology = Preset::named(preset).unwrap().topology(&choices).unwrap();
        segments(
            &topology,
            &["VIP 192.168.56.50".into(), "data plane: tc".into()],
        )
    }

    #[test]
    fn one_segment_has_everybody_in_it() {
        assert_eq!(
            drawn("dr", &[1, 1]),
            [
                "  lan 192.168.56.0/24",
                "   ├─ client 192.168.56.1",
                "   ├─ director 192.168.56.10  VIP 192.168.56.50",
                "   │                          data plane: tc",
                "   ├─ rs1 192.168.56.110",
                "   └─ rs2 192.168.56.120",
            ]
        );
    }

    #[test]
    fn a_router_is_in_two_segments_and_many_servers_are_counted() {
        assert_eq!(
            drawn("tun-ipip", &[2, 1, 1, 1, 1]),
            [
                "  front 192.168.56.0/24",
                "   ├─ client 192.168.56.1",
                "   ├─ director 192.168.56.10  VIP 192.168.56.50",
                "   │                          data plane: tc",
                "   └─ router 192.168.56.254",
                "  far 10.9.0.0/24",
                "   ├─ router 10.9.0.1",
                "   ├─ rs1 10.9.0.10    weight 2",
                "   ├─ rs2 10.9.0.20    weight 1",
                "   ├─ rs3 10.9.0.30    weight 1",
                "   └─ … 2 more",
            ]
        );
    }
}
