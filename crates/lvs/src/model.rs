//! The model: virtual services, their real servers and the settings of a director.
//!
//! A [`Table`] is what somebody wants. It says nothing about maps or packets; the daemon owns one, plans
//! the way from what the data plane holds to it, and has the changes carried out.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::sync::SyncDaemon;

mod settings;

pub use settings::{Effect, SETTINGS, Setting, SettingError, Settings, SyncThreshold};

/// Transport protocol of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

impl Protocol {
    /// The number in the IP header (IANA protocol numbers).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this number in the IP header.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// Address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What makes a virtual service one and not another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ServiceKey {
    /// Packets of a protocol to an address and port; port 0 means every port.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// The virtual address (VIP).
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        address: IpAddr,
        /// Port in host order; 0 is every port.
        port: u16,
    },
    /// Packets that carry a firewall mark.
    Mark {
        /// The mark, never 0.
        mark: u32,
        /// Family of the packets: marks of the two families are different services.
        family: Family,
    },
}

impl ServiceKey {
    /// The address family of the service's packets.
    pub const fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(*address),
            Self::Mark { family, .. } => *family,
        }
    }
}

/// Scheduling algorithm of a service, by the name that ipvsadm uses.
///
/// Kept as text because ipvsadm passes any name to the kernel; whether the data plane has it is checked
/// when a service is applied.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct SchedulerName(pub String);

/// Persistence of a service: clients of one network stay with one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Persistence {
    /// Seconds that a template lives after the last connection it made.
    pub timeout: u32,
    /// IPv4: the mask as a number in host order (`0xffffffff` is one address); IPv6: the prefix length.
    pub netmask: u32,
}

/// Everything about a virtual service but its servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Identity.
    pub key: ServiceKey,
    /// Scheduling algorithm.
    pub scheduler: SchedulerName,
    /// Scheduler flags as the kernel numbers them: 8 flag-1, 16 flag-2, 32 flag-3.
    #[serde(default)]
    pub scheduler_flags: u32,
    /// Persistence, if any.
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// Name of the persistence engine (`sip`), if any.
    #[serde(default)]
    pub persistence_engine: Option<String>,
    /// One-packet scheduling.
    #[serde(default)]
    pub one_packet: bool,
    /// Ours: seconds in which the share of a new or returning server grows to its weight; 0: at once.
    #[serde(default)]
    pub slow_start: u32,
}

/// What makes a real server one and not another inside its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ServerKey {
    /// The server's address (RIP).
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub address: IpAddr,
    /// Port in host order; 0 keeps the port of the packet.
    pub port: u16,
}

/// Forwarding method of a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Network address translation (`-m`).
    Masquerade,
    /// Direct routing (`-g`).
    Gateway,
    /// Encapsulation (`-i`).
    Tunnel,
}

/// Kind of tunnel of a real server whose method is [`Forward::Tunnel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// Generic routing encapsulation.
    Gre,
}

impl TunnelKind {
    /// The name that ipvsadm uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Ipip, Self::Gue, Self::Gre]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Checksums of the outer header of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// Checksum of the whole.
    Full,
    /// Remote checksum offload.
    Remote,
}

/// How a tunnel wraps packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// Kind.
    pub kind: TunnelKind,
    /// UDP port of GUE, host order; 0 otherwise.
    pub port: u16,
    /// Checksum of the outer header.
    pub checksum: TunnelChecksum,
}

/// A real server of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Identity.
    pub key: ServerKey,
    /// Forwarding method.
    pub forward: Forward,
    /// Share of new connections; 0 quiesces.
    pub weight: u32,
    /// Connections at which no new one is given, 0 for no limit.
    #[serde(default)]
    pub upper_threshold: u32,
    /// Connections below which an overloaded server is used again, 0 for three quarters of the upper one.
    #[serde(default)]
    pub lower_threshold: u32,
    /// Tunnel parameters; meaningful with [`Forward::Tunnel`].
    #[serde(default)]
    pub tunnel: Tunnel,
}

/// A virtual service with its servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Service {
    /// The service itself.
    pub config: ServiceConfig,
    /// Real servers, newest first: the order in which schedulers walk them (`ip_vs_ctl.c`,
    /// `__ip_vs_update_dest` inserts at the head).
    pub servers: Vec<Server>,
}

/// Timeouts that `ipvsadm --set` changes, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// TCP ESTABLISHED.
    pub tcp: u32,
    /// TCP FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        }
    }
}

/// What a director should do: every service in order of creation, and the settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Table {
    /// Services, oldest first.
    pub services: Vec<Service>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Settings.
    #[serde(default)]
    pub settings: Settings,
    /// Sync daemons that were started.
    #[serde(default)]
    pub sync_daemons: Vec<SyncDaemon>,
}
