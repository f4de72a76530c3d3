//! A look at the wire: every packet that a node receives or sends.

use std::os::fd::{AsRawFd as _, OwnedFd};

use furiwake_lab::Node;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};

/// Packets as they pass, kept by the kernel until they are asked for.
pub(crate) struct Wire(OwnedFd);

/// A packet that passed.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// Whether the node sent it.
    pub(crate) sent: bool,
    /// From the network header on, the first bytes of it.
    pub(crate) bytes: Vec<u8>,
    /// EtherType.
    pub(crate) kind: u16,
}

impl Wire {
    /// Starts to watch all interfaces of a node.
    pub(crate) fn tap(node: &Node) -> Self {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(
                AddressFamily::Packet,
                SockType::Datagram,
                flags,
                SockProtocol::EthAll,
            )?;
            setsockopt(&socket, sockopt::RcvBufForce, &(128 << 20))?;
            Ok::<_, nix::Error>(socket)
        };
        Self(node.run(open).unwrap().unwrap())
    }

    /// The packets that passed since the last time.
    pub(crate) fn packets(&self) -> Vec<Packet> {
        let mut packets = Vec::new();
        let mut bytes = vec![0; 1 << 16];
        loop {
            match recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut bytes) {
                Ok((length, Some(from))) => packets.push(Packet {
                    sent: from.pkttype() == libc::PACKET_OUTGOING,
                    bytes: bytes[..length.min(256)].to_vec(),
                    kind: u16::from_be(from.protocol()),
                }),
                Ok((_, None)) => {}
                Err(nix::Error::EAGAIN) => return packets,
                Err(nix::Error::EINTR) => {}
                Err(error) => panic!("the wire: {error}"),
            }
        }
    }

    /// Those IPv4 packets among them that satisfy a condition.
    pub(crate) fn ip(&self, wanted: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let mut packets = self.packets();
        packets
            .retain(|packet| packet.kind == 0x0800 && packet.bytes.len() >= 28 && wanted(packet));
        packets
    }
}

impl Packet {
    pub(crate) fn source(&self) -> String {
        dotted(&self.bytes[12..16])
    }

    pub(crate) fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    /// Length by the IP header.
    pub(crate) fn length(&self) -> u64 {
        u64::from(u16::from_be_bytes([self.bytes[2], self.bytes[3]]))
    }

    /// From the TCP, UDP or ICMP header on.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.bytes[0] & 15) * 4..]
    }

    /// Whether it asks for a TCP connection.
    pub(crate) fn is_syn(&self) -> bool {
        const SYN_AND_ACK: u8 = 0x12;
        self.protocol() == 6 && self.payload()[13] & SYN_AND_ACK == 2
    }

    /// Type and code of an ICMP message, with source and destination of the packet it is about.
    pub(crate) fn icmp(&self) -> Option<(u8, u8, String, String)> {
        let message = self.payload();
        if self.protocol() != 1 || message.len() < 28 {
            return None;
        }
        let about = &message[8..];
        Some((
            message[0],
            message[1],
            dotted(&about[12..16]),
            dotted(&about[16..20]),
        ))
    }
}

fn dotted(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
    bytes.join(".")
}
