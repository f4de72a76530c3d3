//! Cables, addresses and switches of a lab's network.

use std::{collections::BTreeMap, fs, io, net::Ipv4Addr};

use crate::{
    error::{Error, Result, Step},
    ethtool::{self, Offload},
    hook::Hook,
    lab::SWITCH,
    netlink::Netlink,
    node::Node,
    topology::{Machine, Role, Route, Topology, vip_label},
};

/// Refuses a topology that could not be built, before anything is.
pub(crate) fn validate(topology: &Topology) -> Result<()> {
    let invalid = |problem: String| Err(Error::Invalid(problem));
    let mut names = vec![SWITCH];
    for machine in &topology.nodes {
        let name = machine.name.as_str();
        let plain = name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '-');
        if name.is_empty() || name.len() > 12 || !plain {
            return invalid(format!(
                "node name {name:?}: use 1 to 12 letters, digits and dashes"
            ));
        }
        if names.contains(&name) {
            return invalid(format!("two nodes are called {name:?}"));
        }
        names.push(name);
        for interface in &machine.interfaces {
            if topology.network(&interface.network).is_none() {
                return invalid(format!(
                    "{name}: {} is plugged into {:?}, which is no network",
                    interface.name, interface.network
                ));
            }
        }
    }
    match topology
        .networks
        .iter()
        .find(|network| network.name.is_empty() || network.name.len() > 9)
    {
        Some(network) => invalid(format!(
            "network name {:?}: use 1 to 9 letters",
            network.name
        )),
        None => Ok(()),
    }
}

/// Makes the bridges in the switch and a cable from there to every interface.
///
/// Pairs are made inside the switch with the far end in the node, so none ever exists on the host.
pub(crate) fn connect(topology: &Topology, nodes: &BTreeMap<String, Node>) -> Result<()> {
    let switch = find(nodes, SWITCH)?;
    switch.run(|| {
        for scope in ["all", "default"] {
            // A switch that speaks itself would only puzzle whoever watches the wires.
            set_if_present(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1")
                .step(|| "switch: keep IPv6 silent".into())?;
        }
        let mut netlink = Netlink::open().step(|| "switch: open netlink".into())?;
        for network in &topology.networks {
            let bridge = bridge(&network.name);
            netlink
                .add_bridge(&bridge)
                .step(|| format!("switch: make bridge {bridge}"))?;
            netlink
                .set_up(&bridge, true)
                .step(|| format!("switch: switch {bridge} on"))?;
        }
        for machine in &topology.nodes {
            let node = find(nodes, &machine.name)?;
            for (number, interface) in machine.interfaces.iter().enumerate() {
                let port = port(machine, number);
                netlink
                    .add_veth(&port, &interface.name, node.namespaces().network())
                    .step(|| {
                        format!(
                            "make the cable between {} of {} and the switch",
                            interface.name, machine.name
                        )
                    })?;
                netlink
                    .set_master(&port, &bridge(&interface.network))
                    .step(|| format!("switch: plug {port} in"))?;
                netlink
                    .set_up(&port, true)
                    .step(|| format!("switch: switch {port} on"))?;
            }
        }
        Ok(())
    })?
}

/// Gives every machine its addresses, routes and offload settings.
pub(crate) fn configure(
    topology: &Topology,
    nodes: &BTreeMap<String, Node>,
    hook: Hook,
    services: bool,
) -> Result<()> {
    for machine in &topology.nodes {
        let node = find(nodes, &machine.name)?;
        node.run(|| configure_machine(topology, machine, hook, services))??;
    }
    if !hook.is_xdp() {
        return Ok(());
    }
    find(nodes, SWITCH)?.run(|| {
        let directors = topology.machines(Role::Director);
        for (machine, number) in directors
            .flat_map(|machine| (0..machine.interfaces.len()).map(move |number| (machine, number)))
        {
            // A frame redirected into a veth is dropped unless NAPI runs at the other end; GRO switches it on.
            let port = port(machine, number);
            ethtool::set(&port, Offload::GenericReceive, true)
                .step(|| format!("switch: GRO on for {port}"))?;
        }
        Ok(())
    })?
}

fn configure_machine(
    topology: &Topology,
    machine: &Machine,
    hook: Hook,
    services: bool,
) -> Result<()> {
    let name = &machine.name;
    let forward = match machine.role {
        Role::Director | Role::Router => "1",
        Role::Client | Role::Server => "0",
    };
    set("net/ipv4/ip_forward", forward).step(|| format!("{name}: set ip_forward"))?;
    let mut netlink = Netlink::open().step(|| format!("{name}: open netlink"))?;
    netlink
        .set_up("lo", true)
        .step(|| format!("{name}: switch lo on"))?;
    for interface in &machine.interfaces {
        let prefix = topology
            .network(&interface.network)
            .map_or(32, |network| network.prefix);
        if hook.is_xdp() {
            // XDP sees packets before anyone has finished their checksums or cut them to size.
            for offload in [
                Offload::TxChecksum,
                Offload::TcpSegmentation,
                Offload::GenericSegmentation,
            ] {
                ethtool::set(&interface.name, offload, false)
                    .step(|| format!("{name}: {offload:?} off for {}", interface.name))?;
            }
        }
        netlink
            .add_address(&interface.name, interface.address, prefix, None)
            .step(|| format!("{name}: add {} to {}", interface.address, interface.name))?;
        netlink
            .set_up(&interface.name, true)
            .step(|| format!("{name}: switch {} on", interface.name))?;
    }
    if machine.role == Role::Director && services {
        for (address, interface) in topology.virtual_addresses() {
            netlink
                .add_address(interface, address, 32, Some(&vip_label(interface)))
                .step(|| format!("{name}: add {address} to {interface}"))?;
        }
    }
    // Before the addresses of lo, which nobody may hear of if the settings say so.
    for (setting, value) in &machine.sysctls {
        set(&setting.replace('.', "/"), value)
            .step(|| format!("{name}: set {setting} to {value}"))?;
    }
    for address in &machine.lo {
        netlink
            .add_address("lo", *address, 32, None)
            .step(|| format!("{name}: add {address} to lo"))?;
    }
    let default = machine.gateway.map(|gateway| Route {
        network: Ipv4Addr::UNSPECIFIED,
        prefix: 0,
        gateway,
    });
    for route in machine.routes.iter().chain(&default) {
        netlink.add_route(route).step(|| {
            let Route {
                network,
                prefix,
                gateway,
            } = route;
            format!("{name}: route to {network}/{prefix} by {gateway}")
        })?;
    }
    Ok(())
}

fn find<'a>(nodes: &'a BTreeMap<String, Node>, name: &str) -> Result<&'a Node> {
    nodes
        .get(name)
        .ok_or_else(|| crate::lab::unknown_node(name, nodes.keys()))
}

/// Name of a network's bridge.
fn bridge(network: &str) -> String {
    format!("br-{network}")
}

/// Name, in the switch, of the far end of a machine's interface.
pub(crate) fn port(machine: &Machine, number: usize) -> String {
    format!("{}.{number}", machine.name)
}

/// Sets a sysctl of the namespace of the calling thread; /proc/sys/net shows each thread its own.
fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/{name}"), value)
}

/// The same for one that kernels without IPv6 do not have.
fn set_if_present(name: &str, value: &str) -> io::Result<()> {
    match set(name, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Nat;

    #[test]
    fn the_classic_exercise_is_valid() {
        validate(&Nat::equal(2).topology().unwrap()).unwrap();
    }

    #[test]
    fn names_that_the_kernel_or_the_lab_cannot_use_are_refused() {
        for name in ["", "a-name-too-long", "../escape", "client", "switch"] {
            let mut topology = Nat::equal(1).topology().unwrap();
            topology.nodes[2].name = name.into();
            assert!(validate(&topology).is_err(), "{name:?}");
        }
    }
}
