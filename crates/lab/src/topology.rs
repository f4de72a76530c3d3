//! What a lab consists of, as plain data: nodes, their interfaces, the networks between them.

mod nat;

pub use nat::{Nat, Scheduler};

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A whole lab on paper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Name of the preset or of whoever drew it; the lab's own name unless another is given.
    pub name: String,
    /// The machines.
    pub nodes: Vec<Machine>,
    /// The cables' other ends: each is a bridge in a node of its own, called `switch`.
    pub networks: Vec<Network>,
    /// Virtual services of the director.
    pub services: Vec<Service>,
}

/// A network segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Up to nine letters; names the bridge.
    pub name: String,
    /// First address of the network, for people to read.
    pub address: Ipv4Addr,
    /// Length of the network part.
    pub prefix: u8,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// Where packets go for which there is no better route.
    pub gateway: Option<Ipv4Addr>,
}

/// What a machine is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Asks.
    Client,
    /// Forwards; runs `furiwake run`.
    Director,
    /// Answers; runs a web server.
    Server,
}

/// An interface, plugged into a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name inside the machine.
    pub name: String,
    /// The name of the network.
    pub network: String,
    /// Its first address.
    pub address: Ipv4Addr,
}

/// A virtual service with its real servers, in the order in which they are added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Virtual IP address.
    pub address: Ipv4Addr,
    /// TCP port.
    pub port: u16,
    /// How a server is chosen.
    pub scheduler: Scheduler,
    /// Name, address and weight of each real server.
    pub servers: Vec<RealServer>,
}

/// A real server of a virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealServer {
    /// The machine.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its share.
    pub weight: u32,
}

impl Topology {
    /// The machine of that name.
    #[must_use]
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.nodes.iter().find(|machine| machine.name == name)
    }

    /// All machines of that role, in the order written.
    pub fn machines(&self, role: Role) -> impl Iterator<Item = &Machine> {
        self.nodes
            .iter()
            .filter(move |machine| machine.role == role)
    }

    /// The network of that name.
    #[must_use]
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }

    /// The commands that make the services, as one types them on the director.
    ///
    /// First the address, then every service, then server by server.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let address = self.virtual_addresses().map(|(address, interface)| {
            format!(
                "ip addr add {address} label {} dev {interface}",
                vip_label(interface)
            )
        });
        let services = self.services.iter().map(|service| {
            format!(
                "ipvsadm -A -t {}:{} -s {}",
                service.address, service.port, service.scheduler
            )
        });
        let mut commands: Vec<String> = address.chain(services).collect();
        let most = self
            .services
            .iter()
            .map(|service| service.servers.len())
            .max()
            .unwrap_or(0);
        for position in 0..most {
            for service in &self.services {
                let Some(server) = service.servers.get(position) else {
                    continue;
                };
                let weight = if server.weight == 1 {
                    String::new()
                } else {
                    format!(" -w {}", server.weight)
                };
                commands.push(format!(
                    "ipvsadm -a -t {}:{} -r {} -m{weight}",
                    service.address, service.port, server.address
                ));
            }
        }
        commands
    }

    /// Every virtual address once, with the director's interface that carries it.
    pub(crate) fn virtual_addresses(&self) -> impl Iterator<Item = (Ipv4Addr, &str)> {
        let mut seen = Vec::new();
        self.services.iter().filter_map(move |service| {
            if seen.contains(&service.address) {
                return None;
            }
            seen.push(service.address);
            let interface = self
                .machines(Role::Director)
                .flat_map(|director| &director.interfaces)
                .find(|interface| {
                    self.network(&interface.network)
                        .is_some_and(|network| network.contains(service.address))
                })?;
            Some((service.address, interface.name.as_str()))
        })
    }
}

/// The label under which a virtual address is listed.
pub(crate) fn vip_label(interface: &str) -> String {
    format!("{interface}-lvsvip")
}

impl Network {
    /// Whether the address lies in this network.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let host_bits = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        (address.to_bits() ^ self.address.to_bits()) & !host_bits == 0
    }
}
