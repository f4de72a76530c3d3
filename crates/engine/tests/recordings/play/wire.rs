//! The wires of the recordings, and who is on them.

use std::net::Ipv4Addr;

/// A wire of the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Towards clients.
    Front,
    /// Towards servers.
    Back,
}

impl Wire {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "front" => Self::Front,
            "back" => Self::Back,
            _ => panic!("{name}: there is no such wire"),
        }
    }

    /// The wire that an address is on.
    pub(crate) fn towards(address: Ipv4Addr) -> Option<Self> {
        match address.octets() {
            [10, 0, 0, _] => Some(Self::Front),
            [192, 168, 1, _] => Some(Self::Back),
            _ => None,
        }
    }

    /// The director's own address there.
    pub(crate) const fn address(self) -> Ipv4Addr {
        match self {
            Self::Front => Ipv4Addr::new(10, 0, 0, 254),
            Self::Back => Ipv4Addr::new(192, 168, 1, 254),
        }
    }

    /// The director's MAC address there.
    pub(crate) const fn mac(self) -> [u8; 6] {
        match self {
            Self::Front => [2, 0, 0, 0, 0, 1],
            Self::Back => [2, 0, 0, 0, 0, 2],
        }
    }
}

/// An IP packet that left by a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) wire: Wire,
    /// Destination MAC address.
    pub(crate) to: [u8; 6],
    pub(crate) packet: Vec<u8>,
}

/// The MAC address of a host.
pub(crate) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [first, b, c, d] = address.octets();
    [2, 4, first, b, c, d]
}

/// The host with a MAC address.
pub(super) fn owner(mac: [u8; 6]) -> Ipv4Addr {
    let [_, _, a, b, c, d] = mac;
    Ipv4Addr::new(a, b, c, d)
}

/// A MAC address from its text; all zero for what is none (hosts of IPv6).
pub(super) fn mac_from(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text
        .split(':')
        .map_while(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes.try_into().unwrap_or_default()
}
