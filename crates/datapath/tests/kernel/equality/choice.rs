//! Random packets and changes, from a small world so that they meet each other.

use std::net::SocketAddrV4;

use furiwake_engine::schedule::Scheduler;
use furiwake_lvs::ipvsadm::{self, NoNames};

use crate::{
    director::{Director, Incoming},
    network::Wire,
    packet::{Datagram, Transport, arrives_at, checksum, end, icmp, tcp, udp},
};

const CLIENTS: &[&str] = &[
    "10.0.0.100",
    "10.0.0.101",
    "10.0.0.102",
    "172.16.0.5",
    "172.17.0.5",
    "172.18.0.5",
    "10.0.0.200",
    "10.9.0.100",
];
const CLIENT_PORTS: &[u16] = &[5000, 5001, 5002, 20];
const VIRTUALS: &[&str] = &["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const PORTS: &[u16] = &[80, 81];
const SERVERS: &[&str] = &["192.168.1.1", "192.168.1.2", "192.168.1.3", "192.168.1.20"];
const SERVER_PORTS: &[u16] = &[80, 8080];

/// Services that there are.
const SERVICES: usize = 4;
/// Changes that make these services and some servers.
pub(crate) const BEGINNINGS: u32 = 12;

/// A source of choices (splitmix64).
pub(crate) struct Choice(u64);

/// What makes a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) end: SocketAddrV4,
    pub(crate) is_tcp: bool,
}

impl Key {
    pub(crate) fn protocol(self) -> u8 {
        if self.is_tcp { 6 } else { 17 }
    }

    fn words(self) -> String {
        format!("{} {}", if self.is_tcp { "-t" } else { "-u" }, self.end)
    }
}

/// A change of services and servers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    AddService(Key, Scheduler),
    EditService(Key, Scheduler),
    AddServer(Key, SocketAddrV4, u32),
    EditServer(Key, SocketAddrV4, u32),
    RemoveServer(Key, SocketAddrV4),
}

impl Change {
    /// Type it at a director; false when it refuses.
    pub(crate) fn command(&self, director: &mut Director) -> bool {
        let line = match self {
            Self::AddService(key, scheduler) => {
                format!("ipvsadm -A {} -s {}", key.words(), scheduler.name())
            }
            Self::EditService(key, scheduler) => {
                format!("ipvsadm -E {} -s {}", key.words(), scheduler.name())
            }
            Self::AddServer(key, server, weight) => {
                format!("ipvsadm -a {} -r {server} -m -w {weight}", key.words())
            }
            Self::EditServer(key, server, weight) => {
                format!("ipvsadm -e {} -r {server} -m -w {weight}", key.words())
            }
            Self::RemoveServer(key, server) => format!("ipvsadm -d {} -r {server}", key.words()),
        };
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        let output = ipvsadm::run(&words, &mut std::io::empty(), &NoNames, director);
        director.tell_next_hops();
        output.code == 0
    }
}

impl Choice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn end(&mut self, hosts: &[&str], ports: &[u16]) -> SocketAddrV4 {
        let (host, port) = (self.one_of(hosts), self.one_of(ports));
        end(&format!("{host}:{port}"))
    }

    /// A change; in the beginning there are services, then servers.
    pub(crate) fn change(&mut self, step: u32) -> Change {
        let mut key = Key {
            end: self.end(&VIRTUALS[..2], &PORTS[..1]),
            is_tcp: self.one_in(2),
        };
        if step < BEGINNINGS {
            let number = step as usize % SERVICES;
            key.end.set_ip(VIRTUALS[number / 2].parse().unwrap());
            key.is_tcp = number.is_multiple_of(2);
        }
        let scheduler = self.one_of(Scheduler::ALL);
        let server = self.end(SERVERS, SERVER_PORTS);
        let weight = self.one_of(&[0, 1, 1, 2, 3, 10]);
        let kind = match step as usize {
            0..SERVICES => 0,
            step if step < BEGINNINGS as usize => 4,
            _ => self.below(10),
        };
        match kind {
            0..3 => Change::AddService(key, scheduler),
            3 => Change::EditService(key, scheduler),
            4..8 => Change::AddServer(key, server, weight),
            8 => Change::EditServer(key, server, weight),
            _ => Change::RemoveServer(key, server),
        }
    }

    pub(crate) fn packet(&mut self) -> Incoming {
        let (wire, mut packet) = match self.below(20) {
            0..3 => self.error(),
            3..5 => self.part(),
            5 => (self.one_of(&Wire::ALL), self.noise()),
            _ => {
                let (wire, datagram) = self.datagram();
                (wire, datagram.packet())
            }
        };
        if self.one_in(4) {
            self.spoil(&mut packet);
        }
        // The kernel tries tc with a whole IP header only.
        packet.resize(packet.len().max(20), 0);
        let mut incoming = arrives_at(wire, &packet);
        if self.one_in(30) {
            let at = self.below(6);
            incoming.frame[at] ^= 1 << self.below(8);
        }
        if self.one_in(60) {
            incoming.frame[12..14].copy_from_slice(&self.one_of(&[[8, 6], [0x81, 0]]));
        }
        if self.one_in(20) {
            incoming.frame.extend([0xee; 10]);
        }
        incoming
    }

    /// A packet from either side, mostly as it should be.
    fn datagram(&mut self) -> (Wire, Datagram) {
        let client = self.end(CLIENTS, CLIENT_PORTS);
        let is_request = !self.one_in(3);
        let (source, destination) = match is_request {
            true => (client, self.end(VIRTUALS, PORTS)),
            false => (self.end(SERVERS, SERVER_PORTS), client),
        };
        let (source_text, destination_text) = (source.to_string(), destination.to_string());
        let mut datagram = if self.one_in(2) {
            let flags = self.one_of(&[
                2, 2, 0x12, 0x10, 0x10, 0x18, 0x11, 4, 0x14, 0, 0x29, 6, 0x17,
            ]);
            tcp(&source_text, &destination_text, flags)
        } else {
            udp(&source_text, &destination_text)
        };
        if datagram.transport == Transport::Udp && self.one_in(5) {
            datagram = datagram.without_checksum();
        }
        let length = match self.below(12) {
            0 => 0,
            1 => self.below(1500),
            2 => 1260 + self.below(300),
            _ => self.below(40),
        };
        datagram.payload = (0..length).map(|_| self.number() as u8).collect();
        if self.one_in(8) {
            let words = self.below(11);
            datagram.options = (0..4 * words).map(|_| self.number() as u8).collect();
        }
        if self.one_in(10) {
            datagram.ttl = self.one_of(&[0, 1, 2, 255]);
        }
        if self.one_in(3) {
            datagram.fragment = 0;
        }
        let wire = match (is_request, client.ip().octets()) {
            (true, [10, 9, ..]) => Wire::Narrow,
            (true, _) => Wire::Front,
            (false, _) => Wire::Back,
        };
        (wire, datagram)
    }

    /// A fragment.
    fn part(&mut self) -> (Wire, Vec<u8>) {
        let (wire, mut datagram) = self.datagram();
        datagram.payload.resize(64, 7);
        let length = datagram.segment().len();
        let cut = 8 * (1 + self.below(7));
        match self.one_in(2) {
            true => (wire, datagram.part(0, cut)),
            false => (wire, datagram.part(cut, length)),
        }
    }

    /// An ICMP error.
    fn error(&mut self) -> (Wire, Vec<u8>) {
        let (_, mut datagram) = self.datagram();
        let kind = self.one_of(&[3, 3, 3, 4, 11, 11, 5, 12, 8]);
        let said = (kind, self.below(5) as u8, 1400);
        let keep = self.one_of(&[20, 27, 28, 40, 68, 200]);
        // What a server got came from a client, what a client got came from the virtual address.
        let (wire, from, to) = if self.one_in(2) {
            datagram.source = self.end(CLIENTS, CLIENT_PORTS);
            datagram.destination = self.end(SERVERS, SERVER_PORTS);
            let from = datagram.destination.ip().to_string();
            (Wire::Back, from, datagram.source.ip().to_string())
        } else {
            datagram.source = self.end(VIRTUALS, PORTS);
            datagram.destination = self.end(CLIENTS, CLIENT_PORTS);
            let from = datagram.destination.ip().to_string();
            (Wire::Front, from, datagram.source.ip().to_string())
        };
        let quoted = datagram.packet();
        let quoted = &quoted[..keep.min(quoted.len())];
        let ttl = self.one_of(&[64, 64, 64, 1]);
        (wire, icmp(&from, &to, ttl, said, quoted))
    }

    fn noise(&mut self) -> Vec<u8> {
        let length = 20 + self.below(100);
        let mut bytes: Vec<u8> = (0..length).map(|_| self.number() as u8).collect();
        if self.one_in(2) {
            bytes[0] = 0x45;
        }
        bytes
    }

    /// Change some of a packet's headers, with a valid IP checksum or without, or cut it.
    fn spoil(&mut self, packet: &mut Vec<u8>) {
        match self.below(6) {
            0 => packet.truncate(20 + self.below(60)),
            1 => {
                let length = self.one_of(&[0, 19, 20, 28, 40, 48, 100, 0xffff]);
                packet[2..4].copy_from_slice(&u16::to_be_bytes(length));
            }
            2 => self.make_unfinished(packet),
            3 => packet[9] = self.one_of(&[6, 17, 1, 132, 47]),
            _ => {
                let at = self.below(packet.len().min(60));
                packet[at] ^= 1 << self.below(8);
            }
        }
        if self.one_in(2) && packet.len() >= 20 {
            packet[10..12].fill(0);
            let header = usize::from(packet[0] & 15) * 4;
            let checksum = checksum(&packet[..header.clamp(20, packet.len())]);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
    }

    /// Put the sum of the pseudo header where the checksum belongs, as a sender does that leaves the rest to its
    /// interface.
    fn make_unfinished(&mut self, packet: &mut [u8]) {
        let at = match packet[9] {
            6 => 36,
            17 => 26,
            _ => return,
        };
        if packet.len() < 40 || packet[0] != 0x45 {
            return;
        }
        let length = (packet.len() - 20) as u16;
        let mut pseudo = packet[12..20].to_vec();
        pseudo.extend([0, packet[9]]);
        pseudo.extend(length.to_be_bytes());
        packet[at..at + 2].copy_from_slice(&(!checksum(&pseudo)).to_be_bytes());
    }
}
