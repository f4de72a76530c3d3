//! How addresses, ports and services are written.

use std::net::{IpAddr, Ipv6Addr};

use super::{
    Names,
    options::{Action, flag},
};
use crate::{
    model::{Family, Protocol, ServiceConfig, ServiceKey},
    view::EntryProtocol,
};

/// ipvsadm has room for this many bytes of `address:port`.
const ENDPOINT_LENGTH: usize = 59;

/// Whether to write numbers or names.
#[derive(Clone, Copy)]
pub(super) struct Style<'n> {
    pub(super) numeric: bool,
    pub(super) names: &'n dyn Names,
}

impl Style<'_> {
    /// `address:port`. A port of a service by mark has no protocol and so no name.
    pub(super) fn endpoint(
        &self,
        address: IpAddr,
        port: u16,
        protocol: Option<Protocol>,
    ) -> String {
        let host = self.host(address);
        let port = self.port(port, protocol);
        let text = match address {
            IpAddr::V4(_) => format!("{host}:{port}"),
            IpAddr::V6(_) => format!("[{host}]:{port}"),
        };
        cut(&text, ENDPOINT_LENGTH).to_owned()
    }

    fn host(&self, address: IpAddr) -> String {
        let name = if self.numeric {
            None
        } else {
            self.names.host_name(address)
        };
        name.unwrap_or_else(|| match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => ipv6(address),
        })
    }

    fn port(&self, port: u16, protocol: Option<Protocol>) -> String {
        let name = match protocol {
            Some(protocol) if !self.numeric => self.names.port_name(port, protocol),
            _ => None,
        };
        name.unwrap_or_else(|| port.to_string())
    }

    /// A service as lists write it: `TCP  10.0.0.1:80`, `FWM  1 IPv6`.
    pub(super) fn service(&self, key: &ServiceKey) -> String {
        match *key {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let endpoint = self.endpoint(address, port, Some(protocol));
                let name = format!("{:<4} {endpoint}", protocol_name(protocol));
                if key.family() == Family::V4 {
                    cut(&name, 33).to_owned()
                } else {
                    name
                }
            }
            // Marks are shown as signed numbers.
            ServiceKey::Mark {
                mark,
                family: Family::V4,
            } => format!("FWM  {}", mark.cast_signed()),
            ServiceKey::Mark {
                mark,
                family: Family::V6,
            } => format!("FWM  {} IPv6", mark.cast_signed()),
        }
    }

    /// A service as `-S` writes it: `-t 10.0.0.1:80`, `-f 1 -6`.
    ///
    /// Marks from 2147483648 on are written as `-R` reads them; ipvsadm writes a negative number.
    pub(super) fn selector(&self, key: &ServiceKey) -> String {
        match *key {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let endpoint = self.endpoint(address, port, Some(protocol));
                format!("{} {endpoint}", flag(Action::Service(protocol)))
            }
            ServiceKey::Mark {
                mark,
                family: Family::V4,
            } => format!("{} {mark}", flag(Action::Mark)),
            ServiceKey::Mark {
                mark,
                family: Family::V6,
            } => {
                format!("{} {mark} {}", flag(Action::Mark), flag(Action::Ipv6))
            }
        }
    }
}

/// Protocol of a service's ports, if it has one.
pub(super) const fn protocol_of(key: &ServiceKey) -> Option<Protocol> {
    match key {
        ServiceKey::Address { protocol, .. } => Some(*protocol),
        ServiceKey::Mark { .. } => None,
    }
}

/// Protocol in lists.
pub(super) const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// Protocol of a connection.
pub(super) const fn entry_protocol_name(protocol: EntryProtocol) -> &'static str {
    match protocol.transport() {
        Some(protocol) => protocol_name(protocol),
        None => "IP",
    }
}

/// The netmask of a persistent service, unless it is that of a single client.
pub(super) fn netmask(config: &ServiceConfig) -> Option<String> {
    let netmask = config.persistence?.netmask;
    match config.key.family() {
        Family::V4 if netmask == u32::MAX => None,
        Family::V4 => Some(std::net::Ipv4Addr::from(netmask).to_string()),
        Family::V6 if netmask == 128 => None,
        Family::V6 => Some(netmask.to_string()),
    }
}

/// `inet_ntop`, which also writes the last half of `::10.0.0.1` with dots.
fn ipv6(address: Ipv6Addr) -> String {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => {
            let [.., a, b, c, d] = address.octets();
            format!("::{a}.{b}.{c}.{d}")
        }
        _ => address.to_string(),
    }
}

/// At most so many bytes.
pub(super) fn cut(text: &str, length: usize) -> &str {
    let end = (0..=length.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
