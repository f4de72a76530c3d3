//! Connection synchronisation between directors: what a sync daemon is asked to do.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Side of the synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
pub struct SyncDaemon {
    /// Master or backup.
    pub role: SyncRole,
    /// Interface of the messages.
    pub interface: String,
    /// Identity of the group of directors.
    pub sync_id: u8,
    /// Largest message in bytes; by default what the interface's MTU leaves.
    pub max_length: Option<u16>,
    /// Multicast group, 224.0.0.81 by default.
    pub group: Option<IpAddr>,
    /// UDP port, 8848 by default.
    pub port: Option<u16>,
    /// TTL of the messages, 1 by default.
    pub ttl: Option<u8>,
}
