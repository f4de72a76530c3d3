//! Frames for tests: built with valid checksums, and checked by summing everything anew, independently of the
//! engine's own arithmetic.

use std::net::SocketAddrV4;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A TCP or UDP packet to be built.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) protocol: u8,
    pub(crate) source: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
    pub(crate) flags: u8,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    /// Words of IP options (no-operation).
    pub(crate) options: usize,
    pub(crate) payload: usize,
    /// UDP without checksum.
    pub(crate) without_checksum: bool,
    /// Bytes behind the IP packet, as Ethernet pads short frames.
    pub(crate) padding: usize,
}

impl Spec {
    pub(crate) fn tcp(source: SocketAddrV4, destination: SocketAddrV4, flags: u8) -> Self {
        Self {
            protocol: TCP,
            source,
            destination,
            flags,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            dont_fragment: true,
            options: 0,
            payload: 0,
            without_checksum: false,
            padding: 0,
        }
    }

    pub(crate) fn udp(source: SocketAddrV4, destination: SocketAddrV4, payload: usize) -> Self {
        Self {
            protocol: UDP,
            payload,
            ..Self::tcp(source, destination, 0)
        }
    }

    /// The IP packet.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut l4 = self.source.port().to_be_bytes().to_vec();
        l4.extend(self.destination.port().to_be_bytes());
        let data: Vec<u8> = (0..self.payload).map(|at| (at * 7 + 3) as u8).collect();
        if self.protocol == TCP {
            l4.extend([
                0, 0, 3, 0xe8, 0, 0, 7, 0xd0, 0x50, self.flags, 0x20, 0, 0, 0, 0, 0,
            ]);
        } else {
            l4.extend((8 + self.payload as u16).to_be_bytes());
            l4.extend([0, 0]);
        }
        l4.extend(data);
        let ip = self.header(l4.len());
        let checksum = l4_sum(&ip, &l4);
        if self.protocol == TCP {
            l4[16..18].copy_from_slice(&checksum.to_be_bytes());
        } else if !self.without_checksum {
            let checksum = if checksum == 0 { 0xffff } else { checksum };
            l4[6..8].copy_from_slice(&checksum.to_be_bytes());
        }
        [ip, l4].concat()
    }

    fn header(&self, payload: usize) -> Vec<u8> {
        let length = 20 + 4 * self.options;
        let mut ip = vec![0x40 | (length / 4) as u8, self.tos];
        ip.extend(((length + payload) as u16).to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend([if self.dont_fragment { 0x40 } else { 0 }, 0]);
        ip.extend([self.ttl, self.protocol, 0, 0]);
        ip.extend(self.source.ip().octets());
        ip.extend(self.destination.ip().octets());
        ip.extend(vec![1; 4 * self.options]);
        set_header_checksum(&mut ip);
        ip
    }
}

/// An ICMP message from `source` to `destination`.
pub(crate) fn icmp(
    source: [u8; 4],
    destination: [u8; 4],
    kind: u8,
    code: u8,
    rest: u32,
    quoted: &[u8],
) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest.to_be_bytes());
    message.extend(quoted);
    let checksum = !sum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut ip = vec![0x45, 0];
    ip.extend((20 + message.len() as u16).to_be_bytes());
    ip.extend([0, 9, 0, 0, 64, ICMP, 0, 0]);
    ip.extend(source);
    ip.extend(destination);
    set_header_checksum(&mut ip);
    [ip, message].concat()
}

/// Cut a whole packet without options into fragments whose payloads are `size` bytes (a multiple of eight) or less.
pub(crate) fn fragments(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = (packet.len() - 20).div_ceil(size);
    packet[20..]
        .chunks(size)
        .enumerate()
        .map(|(number, data)| {
            let more = if number + 1 < count { 0x2000 } else { 0 };
            let mut ip = packet[..20].to_vec();
            ip[2..4].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
            ip[6..8].copy_from_slice(&((number * size / 8) as u16 | more).to_be_bytes());
            set_header_checksum(&mut ip);
            [&ip, data].concat()
        })
        .collect()
}

/// Put fragments, in order, together again.
pub(crate) fn together(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut packet = fragments[0][..20].to_vec();
    fragments.iter().for_each(|f| packet.extend(&f[20..]));
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[6..8].fill(0);
    set_header_checksum(&mut packet[..20]);
    packet
}

pub(crate) fn set_header_checksum(ip: &mut [u8]) {
    ip[10..12].fill(0);
    let checksum = !sum(ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// What is wrong with the checksums of an IP packet, if anything.
pub(crate) fn fault(packet: &[u8]) -> Option<&'static str> {
    let header = (packet[0] & 15) as usize * 4;
    if sum(&packet[..header]) != 0xffff {
        return Some("the header's checksum is wrong");
    }
    let length = u16::from_be_bytes([packet[2], packet[3]]) as usize;
    let (ip, rest) = packet[..length].split_at(header);
    if ip[6] & 0x3f != 0 || ip[7] != 0 {
        return None;
    }
    match ip[9] {
        ICMP if sum(rest) != 0xffff => Some("the ICMP checksum is wrong"),
        UDP if rest[6..8] == [0, 0] => Some("UDP has no checksum"),
        TCP | UDP if l4_sum(ip, rest) != 0 => Some("the TCP or UDP checksum is wrong"),
        _ => None,
    }
}

/// Complement of the sum over pseudo header and the rest: what belongs into the field while that is zero, and
/// zero when the field is right.
pub(crate) fn l4_sum(ip: &[u8], l4: &[u8]) -> u16 {
    !sum(&[&pseudo_header(ip, l4.len()), l4].concat())
}

pub(crate) fn pseudo_header(ip: &[u8], length: usize) -> Vec<u8> {
    let mut pseudo = ip[12..20].to_vec();
    pseudo.extend([0, ip[9]]);
    pseudo.extend((length as u16).to_be_bytes());
    pseudo
}

/// The one's complement sum of big-endian words, as RFC 1071 says it.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
