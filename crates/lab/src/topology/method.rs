//! How packets get from the director to a real server.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The forwarding method of a service's servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Addresses are rewritten, both ways by the director.
    #[default]
    Masq,
    /// Direct routing: the packet goes as it is to the server's MAC address; answers go their own way.
    Gateway,
    /// The packet goes as it is inside another one; answers go their own way.
    Tunnel(Tunnel),
}

/// What the packet around a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Its kind.
    pub kind: TunnelKind,
    /// The UDP port it goes to, for GUE.
    pub port: u16,
}

/// Kinds of tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    /// IP in IP, RFC 2003.
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// Generic routing encapsulation, RFC 2784.
    Gre,
}

impl Method {
    /// Every word that names one in a file.
    pub(crate) const WORDS: [&str; 3] = ["masq", "gateway", "tunnel"];

    /// Whether answers come back by the director.
    #[must_use]
    pub fn returns(self) -> bool {
        self == Self::Masq
    }

    /// The method in the listing's column Forward.
    pub(crate) fn listed(self) -> &'static str {
        match self {
            Self::Masq => "Masq",
            Self::Gateway => "Route",
            Self::Tunnel(_) => "Tunnel",
        }
    }

    /// The options of `ipvsadm -a` for it.
    pub(crate) fn options(self) -> String {
        match self {
            Self::Masq => "-m".into(),
            Self::Gateway => "-g".into(),
            Self::Tunnel(Tunnel { kind, port }) => match kind {
                TunnelKind::Ipip => "-i".into(),
                TunnelKind::Gue => format!("-i --tun-type gue --tun-port {port}"),
                TunnelKind::Gre => "-i --tun-type gre".into(),
            },
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masq => f.write_str("NAT"),
            Self::Gateway => f.write_str("direct routing"),
            Self::Tunnel(tunnel) => write!(f, "tunnel {}", tunnel.kind),
        }
    }
}

impl TunnelKind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Ipip, Self::Gue, Self::Gre];

    /// Bytes around a packet: the outer IPv4 header and what is between it and the packet.
    #[must_use]
    pub fn overhead(self) -> u16 {
        match self {
            Self::Ipip => 20,
            Self::Gue => 20 + 8 + 4,
            Self::Gre => 20 + 4,
        }
    }
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
        })
    }
}
