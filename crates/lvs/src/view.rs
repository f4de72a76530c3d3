//! The view: what a director does right now. Every listing, document and metric is a pure function of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    model::{Protocol, Server, ServiceConfig, Settings, Timeouts},
    sync::SyncDaemon,
};

/// Counters of a service or server since it was made or zeroed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Counters {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients, IP header included.
    pub in_bytes: u64,
    /// Bytes to clients, IP header included.
    pub out_bytes: u64,
}

impl Counters {
    /// In the order of ipvsadm's columns.
    pub const fn columns(&self) -> [u64; 5] {
        let Self {
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        } = *self;
        [connections, in_packets, out_packets, in_bytes, out_bytes]
    }
}

/// Rates as the IPVS estimator shows them (`ip_vs_est.c`), per second; bytes are bytes, not bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Rates {
    /// Connections per second.
    pub connections: u64,
    /// Packets per second from clients.
    pub in_packets: u64,
    /// Packets per second to clients.
    pub out_packets: u64,
    /// Bytes per second from clients.
    pub in_bytes: u64,
    /// Bytes per second to clients.
    pub out_bytes: u64,
}

impl Rates {
    /// In the order of ipvsadm's columns.
    pub const fn columns(&self) -> [u64; 5] {
        let Self {
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        } = *self;
        [connections, in_packets, out_packets, in_bytes, out_bytes]
    }
}

/// A real server as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ServerView {
    /// Its configuration.
    pub server: Server,
    /// Connections in an active state.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Counters.
    pub counters: Counters,
    /// Rates.
    pub rates: Rates,
}

/// A virtual service as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ServiceView {
    /// Its configuration.
    pub config: ServiceConfig,
    /// Counters of the service: its servers' and those of servers that are gone.
    pub counters: Counters,
    /// Rates.
    pub rates: Rates,
    /// Real servers, newest first.
    pub servers: Vec<ServerView>,
}

/// A director as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct View {
    /// Size of the connection table, in connections (shown as `size=` by ipvsadm).
    pub connection_table_size: u32,
    /// Services, oldest first.
    pub services: Vec<ServiceView>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Settings.
    #[serde(default)]
    pub settings: Settings,
    /// Sync daemons that were started.
    #[serde(default)]
    pub sync_daemons: Vec<SyncDaemon>,
}

/// Protocol of an entry of the connection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum EntryProtocol {
    /// 0: the templates of services by firewall mark, which are of every protocol.
    Ip,
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

impl EntryProtocol {
    /// The protocol with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Ip),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The protocol whose ports have names, if it has ports.
    pub const fn transport(self) -> Option<Protocol> {
        match self {
            Self::Ip => None,
            Self::Tcp => Some(Protocol::Tcp),
            Self::Udp => Some(Protocol::Udp),
            Self::Sctp => Some(Protocol::Sctp),
        }
    }
}

impl From<Protocol> for EntryProtocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

/// What a persistence engine keeps with an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EngineData {
    /// Name of the engine (`sip`).
    pub name: String,
    /// What it goes by (a Call-ID).
    pub data: String,
}

/// One entry of the connection table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConnectionView {
    /// Protocol.
    pub protocol: EntryProtocol,
    /// State by the name that ipvsadm shows (`ESTABLISHED`, `SYN_RECV`, `UDP`).
    pub state: String,
    /// Seconds until it expires, 0 when that is due.
    pub expires: u32,
    /// Client address.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub client: IpAddr,
    /// Client port, host order.
    pub client_port: u16,
    /// Virtual address.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub virtual_address: IpAddr,
    /// Virtual port, host order.
    pub virtual_port: u16,
    /// Address of the real server.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub server: IpAddr,
    /// Port of the real server, host order.
    pub server_port: u16,
    /// Whether it is a persistence template and no connection.
    #[serde(default)]
    pub template: bool,
    /// What a persistence engine keeps with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineData>,
}
