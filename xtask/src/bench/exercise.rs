//! The lab's classic exercise with one director or another: client – director – real servers.

use std::{fs, io::ErrorKind, net::SocketAddrV4};

use anyhow::{Context, Result};
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
        set(&lab)?;
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

/// Settings that let a director show its own limits and not those of its surroundings.
fn set(lab: &Lab) -> Result<()> {
    let write = |node: &str, settings: &[(&str, &str)]| -> Result<()> {
        lab.node(node)?.run(|| {
            for (name, value) in settings {
                let file = format!("/proc/sys/net/{name}");
                match fs::write(&file, value) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    result => result.with_context(|| format!("cannot write {file}"))?,
                }
            }
            Ok(())
        })?
    };
    // Netfilter on the switch, where a machine has it on, would burden all alike and level them.
    write("switch", &[("bridge/bridge-nf-call-iptables", "0")])?;
    // Whoever connects and closes first runs out of ports after half a minute otherwise: wrk, and HAProxy.
    for node in ["client", "director"] {
        write(
            node,
            &[
                ("ipv4/ip_local_port_range", "1024 65535"),
                ("ipv4/tcp_tw_reuse", "1"),
            ],
        )?;
    }
    Ok(())
}
