//! Packets, written out from what they say. Checksums are summed over the whole, unlike in the engine.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::{
    director::Incoming,
    network::{Wire, mac_of},
};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Don't fragment.
pub(crate) const DF: u16 = 0x4000;
/// More fragments.
pub(crate) const MF: u16 = 0x2000;

/// A TCP segment or UDP datagram in an IPv4 packet.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) source: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
    pub(crate) ttl: u8,
    pub(crate) options: Vec<u8>,
    /// Flags and offset, as in the header.
    pub(crate) fragment: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp(u8),
    Udp,
    /// UDP whose checksum field is zero.
    UdpWithoutChecksum,
}

/// Ends as text: `10.0.0.1:80`.
pub(crate) fn end(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

pub(crate) fn tcp(source: &str, destination: &str, flags: u8) -> Datagram {
    Datagram {
        source: end(source),
        destination: end(destination),
        transport: Transport::Tcp(flags),
        payload: b"furiwake".to_vec(),
        ttl: 64,
        options: Vec::new(),
        fragment: DF,
    }
}

pub(crate) fn udp(source: &str, destination: &str) -> Datagram {
    Datagram {
        transport: Transport::Udp,
        ..tcp(source, destination, 0)
    }
}

impl Datagram {
    pub(crate) fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub(crate) fn options(self, options: &[u8]) -> Self {
        Self {
            options: options.to_vec(),
            ..self
        }
    }

    pub(crate) fn payload(self, length: usize) -> Self {
        let payload = (0..length).map(|i| (i * 7) as u8).collect();
        Self { payload, ..self }
    }

    pub(crate) fn fragment(self, fragment: u16) -> Self {
        Self { fragment, ..self }
    }

    pub(crate) fn without_checksum(self) -> Self {
        Self {
            transport: Transport::UdpWithoutChecksum,
            ..self
        }
    }

    /// As a director forwards it to a server.
    pub(crate) fn to(self, server: &str) -> Self {
        Self {
            destination: end(server),
            ttl: self.ttl - 1,
            ..self
        }
    }

    /// As a director forwards it to the client, from the virtual address.
    pub(crate) fn from(self, virtual_end: &str) -> Self {
        Self {
            source: end(virtual_end),
            ttl: self.ttl - 1,
            ..self
        }
    }

    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp(_) => 6,
            _ => 17,
        }
    }

    /// TCP or UDP, with its checksum.
    pub(crate) fn segment(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.port().to_be_bytes());
        bytes.extend(self.destination.port().to_be_bytes());
        let at = match self.transport {
            Transport::Tcp(flags) => {
                bytes.extend([0, 0, 1, 0, 0, 0, 2, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
                16
            }
            _ => {
                let length = (8 + self.payload.len()) as u16;
                bytes.extend(length.to_be_bytes());
                bytes.extend([0, 0]);
                6
            }
        };
        bytes.extend(&self.payload);
        let mut pseudo = Vec::new();
        pseudo.extend(self.source.ip().octets());
        pseudo.extend(self.destination.ip().octets());
        pseudo.extend([0, self.protocol()]);
        pseudo.extend((bytes.len() as u16).to_be_bytes());
        pseudo.extend(&bytes);
        let checksum = match (self.transport, checksum(&pseudo)) {
            (Transport::UdpWithoutChecksum, _) => 0,
            (Transport::Udp, 0) => 0xffff,
            (_, checksum) => checksum,
        };
        bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// The IP packet.
    pub(crate) fn packet(&self) -> Vec<u8> {
        self.around(&self.segment())
    }

    /// The IP packet that carries bytes `from` to `to` of the segment.
    pub(crate) fn part(&self, from: usize, to: usize) -> Vec<u8> {
        let segment = self.segment();
        let more = if to < segment.len() { MF } else { 0 };
        let fragment = (from / 8) as u16 | more;
        self.clone().fragment(fragment).around(&segment[from..to])
    }

    fn around(&self, payload: &[u8]) -> Vec<u8> {
        ip(
            *self.source.ip(),
            *self.destination.ip(),
            self.protocol(),
            self.ttl,
            self.fragment,
            &self.options,
            payload,
        )
    }

    /// On its way to the director, on the wire of its sender.
    pub(crate) fn arrives(&self) -> Incoming {
        arrives(&self.packet())
    }

    /// As it leaves the director, straight to its destination.
    pub(crate) fn leaves(&self) -> Vec<u8> {
        leaves(&self.packet())
    }
}

/// An IPv4 packet with checksum.
pub(crate) fn ip(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    ttl: u8,
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header = 20 + options.len();
    let mut bytes = vec![0x40 | (header / 4) as u8, 0];
    bytes.extend(((header + payload.len()) as u16).to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([ttl, protocol, 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(options);
    let checksum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An ICMP message: type, code, the four bytes after the checksum, and what it quotes.
pub(crate) fn icmp(
    source: &str,
    destination: &str,
    ttl: u8,
    (kind, code, rest): (u8, u8, u32),
    quoted: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest.to_be_bytes());
    bytes.extend(quoted);
    let checksum = checksum(&bytes);
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    ip(source, destination, 1, ttl, 0, &[], &bytes)
}

/// An error that the director makes itself: type of service 0xc0, and the identification of what it quotes.
pub(crate) fn own_error(
    source: &str,
    destination: &str,
    said: (u8, u8, u32),
    quoted: &[u8],
) -> Vec<u8> {
    let mut bytes = icmp(source, destination, 64, said, quoted);
    bytes[1] = 0xc0;
    bytes[10..12].fill(0);
    let checksum = checksum(&bytes[..20]);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A frame.
pub(crate) fn frame(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let mut bytes = to.to_vec();
    bytes.extend(from);
    bytes.extend([8, 0]);
    bytes.extend(packet);
    bytes
}

fn source(packet: &[u8]) -> Ipv4Addr {
    [packet[12], packet[13], packet[14], packet[15]].into()
}

fn destination(packet: &[u8]) -> Ipv4Addr {
    [packet[16], packet[17], packet[18], packet[19]].into()
}

/// The wire of a host.
fn wire_of(host: Ipv4Addr) -> Wire {
    match host.octets() {
        [192, ..] => Wire::Back,
        [10, 9, ..] => Wire::Narrow,
        _ => Wire::Front,
    }
}

/// An IP packet on its way to the director, on the wire of its sender.
pub(crate) fn arrives(packet: &[u8]) -> Incoming {
    arrives_at(wire_of(source(packet)), packet)
}

/// An IP packet on its way to the director, on a wire.
pub(crate) fn arrives_at(wire: Wire, packet: &[u8]) -> Incoming {
    let mut from = [2, 4, 0, 0, 0, 0];
    if packet.len() >= 16 {
        from = mac_of(source(packet));
    }
    Incoming {
        wire,
        frame: frame(wire.mac(), from, packet),
        segment_size: None,
    }
}

/// An IP packet as it leaves the director, straight to its destination.
pub(crate) fn leaves(packet: &[u8]) -> Vec<u8> {
    leaves_to(destination(packet), packet)
}

/// An IP packet as it leaves the director to a neighbour.
pub(crate) fn leaves_to(neighbour: Ipv4Addr, packet: &[u8]) -> Vec<u8> {
    frame(mac_of(neighbour), wire_of(neighbour).mac(), packet)
}
