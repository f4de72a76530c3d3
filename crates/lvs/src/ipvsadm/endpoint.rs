//! `host[:port]` as people type it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Names,
    number::{bounded, inet_aton},
};
use crate::model::Protocol;

/// An address and, if it was given, a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) port: Option<u16>,
}

/// ipvsadm's `parse_service`: `10.0.0.1`, `host:http`, `fd00::1`, `[fd00::1]:80`.
///
/// A port by name needs the protocol; a host by name is IPv4. Digits alone are refused, and so is an
/// address in brackets without a port.
pub(super) fn parse(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<Endpoint> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            (inside, Some(after.strip_prefix(':')?))
        }
        None => (text, None),
    };
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        let port = match port {
            Some(port) => Some(parse_port(port, protocol, names)?),
            None => None,
        };
        return Some(Endpoint {
            address: address.into(),
            port,
        });
    }
    // Brackets around anything else lose the port behind them, as they do in ipvsadm.
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (host, None),
    };
    let address = parse_host(host, names)?;
    let port = match port {
        Some(port) => Some(parse_port(port, protocol, names)?),
        None => None,
    };
    Some(Endpoint {
        address: address.into(),
        port,
    })
}

/// An IPv4 address by number or name.
pub(super) fn parse_host(text: &str, names: &dyn Names) -> Option<Ipv4Addr> {
    inet_aton(text).or_else(|| names.host(text))
}

fn parse_port(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match bounded(text, 0, 65535) {
        Some(port) => u16::try_from(port).ok(),
        None => names.port(text, protocol?),
    }
}
