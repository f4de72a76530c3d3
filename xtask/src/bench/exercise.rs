//! The lab's classic exercise with one director or another: client – director – real servers.

use std::net::SocketAddrV4;

use anyhow::Result;
use furiwake_lab::{Lab, Nat, Node, Process, Role, WebServer};

use super::{
    Setting,
    director::{self, Hook},
};

/// Who directs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Ours.
    Furiwake(Hook),
    /// Linux with a DNAT rule.
    Nftables,
    /// A proxy in user space.
    HaProxy,
}

/// All of them, in the order of the table.
pub(crate) const PEERS: [Peer; 4] = [
    Peer::Nftables,
    Peer::HaProxy,
    Peer::Furiwake(Hook::Xdp),
    Peer::Furiwake(Hook::Tc),
];

/// What the others are compared with.
pub(crate) const NFTABLES: &str = "nftables DNAT";

impl Peer {
    /// For the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Furiwake(hook) if hook.is_xdp() => "furiwake, XDP",
            Self::Furiwake(_) => "furiwake, tc",
            Self::Nftables => NFTABLES,
            Self::HaProxy => "HAProxy, tcp mode",
        }
    }
}

/// A network with its director; dropping it removes everything.
pub(crate) struct Exercise {
    /// Who directs.
    pub(crate) peer: Peer,
    /// Who asks.
    pub(crate) client: Node,
    _proxy: Option<Process>,
    // The nodes go last.
    _lab: Lab,
}

impl Exercise {
    /// Builds it. `server` is a shell command line that listens on port 80.
    pub(crate) fn up(peer: Peer, servers: usize, server: &str, setting: &Setting) -> Result<Self> {
        let mut options = furiwake_lab::Options::new(&setting.furiwake);
        options.name = Some(setting.lab_name());
        options.server = WebServer::Command(server.into());
        options.director = false;
        // Offloads are as each hook needs them; Linux's own directors have them on.
        options.hook = Hook::Tc;
        if let Peer::Furiwake(hook) = peer {
            options.director = true;
            options.hook = hook;
        }
        let topology = Nat::equal(servers).topology()?;
        let lab = Lab::up(&topology, &options)?;
        let addresses: Vec<_> = topology
            .machines(Role::Server)
            .map(|server| server.interfaces[0].address)
            .collect();
        let service = SocketAddrV4::new(Nat::VIP, 80);
        let node = lab.node("director")?;
        let mut proxy = None;
        match peer {
            Peer::Furiwake(_) => {}
            Peer::Nftables => director::add_dnat(&node, "tcp", service, &addresses)?,
            Peer::HaProxy => proxy = Some(director::start_haproxy(&node, service, &addresses)?),
        }
        Ok(Self {
            peer,
            client: lab.node("client")?,
            _proxy: proxy,
            _lab: lab,
        })
    }
}
