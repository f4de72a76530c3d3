//! The documents of the API that are not the model's own.

use std::net::{IpAddr, Ipv4Addr};

use furiwake_datapath::{Attached, ReasonCount};
use furiwake_lvs::model::{Effect, Setting, Settings};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a director is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Status {
    /// Version of the daemon.
    pub(crate) version: String,
    /// Its process.
    pub(crate) pid: u32,
    /// When it started, in seconds since 1970.
    pub(crate) since: u64,
    /// Whether it took over a data plane that was forwarding already.
    pub(crate) adopted: bool,
    /// Interfaces it listens on.
    pub(crate) interfaces: Vec<Interface>,
    /// Interfaces it should listen on and cannot.
    pub(crate) unattached: Vec<Unattached>,
    /// The way to each server.
    pub(crate) next_hops: Vec<NextHopStatus>,
    /// How often packets were not forwarded, by reason.
    pub(crate) reasons: Vec<Reason>,
    /// Number of services.
    pub(crate) services: usize,
    /// Number of servers in all services.
    pub(crate) servers: usize,
    /// Use of the connection table.
    pub(crate) connections: Connections,
    /// What keeps the director from working as it should, a sentence each.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

/// A setting: what it is, may be and does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct SettingStatus {
    /// Name, as of the kernel's sysctl.
    pub(crate) name: String,
    /// Value now.
    pub(crate) value: String,
    /// Value at first.
    pub(crate) default: String,
    /// What it takes.
    pub(crate) range: String,
    /// What it means.
    pub(crate) meaning: String,
    /// Whether it does anything in this build.
    pub(crate) effect: String,
    /// Whether it is in force: kept settings are not.
    pub(crate) in_force: bool,
}

impl SettingStatus {
    /// A setting as it is in these.
    pub(crate) fn of(setting: &Setting, settings: &Settings) -> Self {
        Self {
            name: setting.name.into(),
            value: setting.value(settings),
            default: setting.default_value(),
            range: setting.range(),
            meaning: setting.meaning.into(),
            effect: setting.effect.to_string(),
            in_force: setting.effect == Effect::Works,
        }
    }
}

/// An interface that the director listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Interface {
    /// Index.
    pub(crate) ifindex: u32,
    /// Name.
    pub(crate) name: String,
    /// What takes the packets: `xdp+tcx`, `tcx`, `clsact`, `xdp-generic+tcx`.
    pub(crate) hook: String,
    /// Why, when it is not the first choice.
    pub(crate) reason: Option<String>,
}

impl From<Attached> for Interface {
    fn from(attached: Attached) -> Self {
        let Attached {
            ifindex,
            name,
            hook,
            reason,
        } = attached;
        Self {
            ifindex,
            name,
            hook,
            reason,
        }
    }
}

/// An interface that the director should listen on and cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Unattached {
    /// Name.
    pub(crate) name: String,
    /// Why not.
    pub(crate) reason: String,
}

/// The way to a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct NextHopStatus {
    /// The server's address.
    #[schema(value_type = String)]
    pub(crate) server: IpAddr,
    /// Interface that packets leave by.
    pub(crate) interface: Option<String>,
    /// Gateway, or the server itself when it is on the link.
    #[schema(value_type = Option<String>)]
    pub(crate) gateway: Option<Ipv4Addr>,
    /// MAC address of the gateway, once known.
    pub(crate) mac: Option<String>,
    /// Largest IP packet on the way.
    pub(crate) mtu: Option<u16>,
    /// The state, in words.
    pub(crate) state: String,
}

/// How often packets met a reason not to be forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reason {
    /// Stable name.
    pub(crate) name: String,
    /// What it means.
    pub(crate) meaning: String,
    /// Whether such packets are dropped; otherwise they go to the host's own stack.
    pub(crate) drops: bool,
    /// Packets so far.
    pub(crate) packets: u64,
}

impl From<&ReasonCount> for Reason {
    fn from(count: &ReasonCount) -> Self {
        Self {
            name: count.name.into(),
            meaning: count.meaning.into(),
            drops: count.drops,
            packets: count.packets,
        }
    }
}

/// Use of the connection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Connections {
    /// Connections of servers in an active state.
    pub(crate) active: u64,
    /// Connections of servers in any other state.
    pub(crate) inactive: u64,
    /// Room in the table.
    pub(crate) room: u32,
}
