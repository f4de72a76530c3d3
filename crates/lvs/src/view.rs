//! The view: what a director does right now. Every listing, document and metric is a pure function of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::{Protocol, Server, ServiceConfig, Settings, Timeouts};

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
}

/// One entry of the connection table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConnectionView {
    /// Transport protocol.
    pub protocol: Protocol,
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
}
