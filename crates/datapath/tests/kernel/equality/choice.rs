//! A source of choices, and the small world that they are made from, so that packets and changes meet each other.

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_lvs::model::{Protocol, ServiceKey};

pub(crate) const CLIENTS: &[&str] = &[
    "10.0.0.100",
    "10.0.0.101",
    "10.0.0.102",
    "10.0.0.120",
    "172.16.0.5",
    "172.17.0.5",
    "172.18.0.5",
    "10.0.0.200",
    "10.9.0.100",
];
pub(crate) const CLIENT_PORTS: &[u16] = &[5000, 5001, 5002, 20];
/// Virtual addresses; the last one has no service.
pub(crate) const VIRTUALS: &[&str] = &["10.0.0.1", "10.0.0.2", "10.0.0.3"];
pub(crate) const PORTS: &[u16] = &[80, 81, 21, 0];
/// Servers: known neighbours, one that is not known, one without a route.
pub(crate) const SERVERS: &[&str] = &[
    "192.168.1.1",
    "192.168.1.2",
    "192.168.1.3",
    "192.168.1.4",
    "192.168.1.20",
    "192.168.1.40",
];
pub(crate) const SERVER_PORTS: &[u16] = &[80, 80, 8080, 21, 0];

/// A source of choices (splitmix64).
pub(crate) struct Choice(u64);

impl Choice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    pub(crate) fn end(&mut self, hosts: &[&str], ports: &[u16]) -> SocketAddrV4 {
        let (host, port) = (self.one_of(hosts), self.one_of(ports));
        SocketAddrV4::new(host.parse().unwrap(), port)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = (0..length.div_ceil(8)).flat_map(|_| self.number().to_ne_bytes());
        words.take(length).collect()
    }
}

/// Every service that a case can have.
pub(crate) fn every_service() -> impl Iterator<Item = ServiceKey> {
    let ends = VIRTUALS.iter().flat_map(|host| {
        let address: Ipv4Addr = host.parse().unwrap();
        PORTS.iter().map(move |port| (address, *port))
    });
    ends.flat_map(|(address, port)| {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| ServiceKey::Address {
            protocol,
            address: address.into(),
            port,
        })
    })
}
