//! The names that the recording machine knew.

use std::net::{IpAddr, Ipv4Addr};

use furiwake_lvs::{ipvsadm::Names, model::Protocol};

/// `/etc/hosts` with localhost, and the part of `/etc/services` that matters.
pub(crate) struct RecordedNames;

const SERVICES: &[(&str, u16, &[Protocol])] = &[
    ("tcpmux", 1, &[Protocol::Tcp]),
    ("ssh", 22, &[Protocol::Tcp]),
    ("domain", 53, &[Protocol::Tcp, Protocol::Udp]),
    ("tftp", 69, &[Protocol::Udp]),
    ("http", 80, &[Protocol::Tcp]),
    ("https", 443, &[Protocol::Tcp, Protocol::Udp]),
    ("http-alt", 8080, &[Protocol::Tcp, Protocol::Udp]),
];

impl Names for RecordedNames {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "localhost").then_some(Ipv4Addr::LOCALHOST)
    }

    fn host_name(&self, address: IpAddr) -> Option<String> {
        let local = ["127.0.0.1", "::1"]
            .iter()
            .any(|text| text.parse() == Ok(address));
        local.then(|| "localhost".to_owned())
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        SERVICES
            .iter()
            .find(|(known, _, protocols)| *known == name && protocols.contains(&protocol))
            .map(|(_, port, _)| *port)
    }

    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        SERVICES
            .iter()
            .find(|(_, known, protocols)| *known == port && protocols.contains(&protocol))
            .map(|(name, ..)| (*name).to_owned())
    }
}
