//! Connection synchronisation between directors: what a sync daemon is asked to do.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Side of the synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SyncRole {
    /// Sends.
    Master,
    /// Receives.
    Backup,
}

impl SyncRole {
    /// The name that ipvsadm uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }
}

/// A sync daemon, as asked for or as it runs; in the latter case every value is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SyncDaemon {
    /// Master or backup.
    pub role: SyncRole,
    /// Interface of the messages.
    pub interface: String,
    /// Identity of the group of directors.
    pub sync_id: u8,
    /// Largest message in bytes; by default what the interface's MTU leaves.
    #[serde(default)]
    pub max_length: Option<u16>,
    /// Multicast group, 224.0.0.81 by default.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub group: Option<IpAddr>,
    /// UDP port, 8848 by default.
    #[serde(default)]
    pub port: Option<u16>,
    /// TTL of the messages, 1 by default.
    #[serde(default)]
    pub ttl: Option<u8>,
}

impl SyncDaemon {
    /// This daemon on an interface of this MTU: its messages fit behind the IP and UDP headers.
    pub fn on_interface(&self, mtu: u16) -> Self {
        let headers = if self.group.is_some_and(|group| group.is_ipv6()) {
            48
        } else {
            28
        };
        let room = mtu.saturating_sub(headers);
        Self {
            max_length: Some(self.max_length.map_or(room, |length| length.min(room))),
            ..self.clone()
        }
    }
}
