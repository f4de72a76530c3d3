//! What a lab consists of, as plain data: nodes, their interfaces, the networks between them.

mod commands;
mod method;
mod nat;
mod scheduler;

pub use method::{Method, Tunnel, TunnelKind};
pub use nat::Nat;
pub use scheduler::Scheduler;

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// Where packets go for which there is no better route.
    pub gateway: Option<Ipv4Addr>,
    /// Better routes.
    pub routes: Vec<Route>,
    /// Addresses of the loopback interface beside its own: where a real server that is sent packets for the
    /// virtual address has it.
    pub lo: Vec<Ipv4Addr>,
    /// Settings below `/proc/sys/net`, set in this order: `net.ipv4.conf.all.arp_ignore` and its value.
    pub sysctls: Vec<(String, String)>,
}

/// A network that is reached by way of another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// First address of the network.
    pub network: Ipv4Addr,
    /// Length of its network part.
    pub prefix: u8,
    /// The next machine on the way there.
    pub gateway: Ipv4Addr,
}

/// What a machine is there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Asks.
    #[default]
    Client,
    /// Forwards; runs `furiwake run`.
    Director,
    /// Answers; runs a web server.
    Server,
    /// Forwards, and knows nothing of virtual addresses.
    Router,
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
    /// Flags of the scheduler, as `ipvsadm -b` takes them.
    pub flags: Vec<String>,
    /// Whether a client stays with its server.
    pub persistence: Option<Persistence>,
    /// How packets get to the servers.
    pub method: Method,
    /// Name, address and weight of each real server.
    pub servers: Vec<RealServer>,
    /// What is sent to it in an exercise.
    pub traffic: Traffic,
    /// What must come of that.
    pub expectation: Expectation,
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

/// How long a client stays with its server, and who counts as the same client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// How long after its last connection.
    pub seconds: u32,
    /// Clients that do not differ under this mask are one.
    pub netmask: Ipv4Addr,
}

/// What is sent to a service in an exercise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Requests, each on a new connection; as many as suit the exercise when not said.
    pub requests: Option<usize>,
    /// Requests at a time; one when not said.
    pub concurrency: Option<usize>,
    /// Bytes to send in one request, afterwards.
    pub upload: Option<u64>,
    /// Bytes to fetch with one request, afterwards.
    pub download: Option<u64>,
}

/// What must come of the requests to a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// Who answers.
    pub share: Share,
    /// How many requests get no answer.
    pub failed: usize,
}

/// Who answers requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Each as the scheduler must choose it, where the lab can tell; any server otherwise.
    #[default]
    Scheduler,
    /// One server answers everything.
    OneServer,
    /// Any server.
    Any,
    /// Each server so often, give or take `tolerance`.
    Counts {
        /// Server by server.
        servers: Vec<(String, usize)>,
        /// How far each count may be off.
        tolerance: usize,
    },
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

    /// The port of the first service with a tunnel by GUE.
    pub(crate) fn gue_port(&self) -> Option<u16> {
        self.services
            .iter()
            .find_map(|service| match service.method {
                Method::Tunnel(tunnel) if tunnel.kind == TunnelKind::Gue => Some(tunnel.port),
                _ => None,
            })
    }

    /// The arguments of `furiwake` that make a machine the far end of the tunnels that lead to it.
    pub(crate) fn decap(&self, machine: &Machine) -> Option<Vec<String>> {
        let (mut addresses, mut tunnels) = (Vec::new(), Vec::new());
        for service in &self.services {
            let serves = service
                .servers
                .iter()
                .any(|server| server.name == machine.name);
            if let (true, Method::Tunnel(tunnel)) = (serves, service.method) {
                addresses.push(service.address.to_string());
                tunnels.push(tunnel);
            }
        }
        addresses.dedup();
        tunnels.dedup();
        let interface = machine.interfaces.first()?.name.clone();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut line: Vec<String> = words(&["decap", "--interface", &interface]);
        line.extend(addresses);
        for tunnel in &tunnels {
            line.extend(["--kind".to_owned(), tunnel.kind.to_string()]);
        }
        let port = tunnels.iter().find(|tunnel| tunnel.kind == TunnelKind::Gue);
        if let Some(tunnel) = port {
            line.extend(["--gue-port".to_owned(), tunnel.port.to_string()]);
        }
        (!tunnels.is_empty()).then_some(line)
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
