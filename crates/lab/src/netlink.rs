//! The few rtnetlink requests a lab needs: veth pairs, bridges, addresses, routes.
//!
//! Synchronous on purpose: each request is made on a thread that has entered the node's namespace, and a
//! socket belongs to the namespace it was made in.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    socket,
};

use crate::topology::Route;

/// A routing socket of the namespace in which the calling thread made it.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Makes a veth pair: `name` here, `peer` in the namespace behind `peer_namespace`.
    pub(crate) fn add_veth(
        &mut self,
        name: &str,
        peer: &str,
        peer_namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE);
        message.interface_header(0, 0, 0);
        message.text(libc::IFLA_IFNAME, name);
        message.nest(libc::IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |message| {
                    message.interface_header(0, 0, 0);
                    message.text(libc::IFLA_IFNAME, peer);
                    message.attribute(
                        libc::IFLA_NET_NS_FD,
                        &peer_namespace.as_raw_fd().to_ne_bytes(),
                    );
                });
            });
        });
        self.request(message)
    }

    /// Makes a bridge that forwards at once and floods multicast, as a plain switch does.
    pub(crate) fn add_bridge(&mut self, name: &str) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE);
        message.interface_header(0, 0, 0);
        message.text(libc::IFLA_IFNAME, name);
        message.nest(libc::IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "bridge");
            // VRRP's multicast vanishes on a bridge that snoops and has no querier.
            info.nest(IFLA_INFO_DATA, |data| {
                data.attribute(IFLA_BR_MCAST_SNOOPING, &[0])
            });
        });
        self.request(message)
    }

    /// Plugs the interface `port` into the bridge `bridge`.
    pub(crate) fn set_master(&mut self, port: &str, bridge: &str) -> io::Result<()> {
        let (port, bridge) = (index(port)?, index(bridge)?);
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.interface_header(port, 0, 0);
        message.attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
        self.request(message)
    }

    /// Switches an interface on or off.
    pub(crate) fn set_up(&mut self, name: &str, up: bool) -> io::Result<()> {
        let flag = libc::IFF_UP as u32;
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.interface_header(index(name)?, if up { flag } else { 0 }, flag);
        self.request(message)
    }

    /// Gives an interface an address, with a label when `label` is given.
    pub(crate) fn add_address(
        &mut self,
        name: &str,
        address: Ipv4Addr,
        prefix: u8,
        label: Option<&str>,
    ) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWADDR, CREATE);
        message.bytes(&[libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE]);
        message.bytes(&index(name)?.to_ne_bytes());
        message.attribute(libc::IFA_LOCAL, &address.octets());
        message.attribute(libc::IFA_ADDRESS, &address.octets());
        if prefix < 31 {
            let broadcast = Ipv4Addr::from_bits(address.to_bits() | (u32::MAX >> prefix));
            message.attribute(libc::IFA_BROADCAST, &broadcast.octets());
        }
        if let Some(label) = label {
            message.text(libc::IFA_LABEL, label);
        }
        self.request(message)
    }

    /// Sends what is for a network, and has no better route, to a gateway.
    pub(crate) fn add_route(&mut self, route: &Route) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWROUTE, CREATE);
        message.bytes(&[libc::AF_INET as u8, route.prefix, 0, 0]);
        message.bytes(&[
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
        ]);
        message.bytes(&[0; 4]);
        if route.prefix > 0 {
            message.attribute(libc::RTA_DST, &route.network.octets());
        }
        message.attribute(libc::RTA_GATEWAY, &route.gateway.octets());
        self.request(message)
    }

    fn request(&mut self, message: Message) -> io::Result<()> {
        self.sequence += 1;
        let bytes = message.finish(self.sequence);
        sendto(
            self.socket.as_raw_fd(),
            &bytes,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        let mut reply = [0_u8; 8192];
        let length = recv(self.socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
        acknowledged(reply.get(..length).unwrap_or_default())
    }
}

/// Reads the kernel's answer: an error message that carries 0 when all went well.
fn acknowledged(reply: &[u8]) -> io::Result<()> {
    let kind = reply
        .get(4..6)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u16::from_ne_bytes);
    let code = reply
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(kind), Some(0)) if i32::from(kind) == libc::NLMSG_ERROR => Ok(()),
        (Some(kind), Some(code)) if i32::from(kind) == libc::NLMSG_ERROR => {
            Err(io::Error::from_raw_os_error(-code))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel's netlink answer was not an acknowledgement",
        )),
    }
}

/// The number of an interface in the namespace of the calling thread.
pub(crate) fn index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const VETH_INFO_PEER: u16 = 1;
const HEADER: usize = 16;

/// A request under construction: header, a fixed part, then attributes.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    /// `struct ifinfomsg`.
    fn interface_header(&mut self, index: u32, flags: u32, change: u32) {
        self.bytes(&[libc::AF_UNSPEC as u8, 0, 0, 0]);
        self.bytes(&index.to_ne_bytes());
        self.bytes(&flags.to_ne_bytes());
        self.bytes(&change.to_ne_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn text(&mut self, kind: u16, text: &str) {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.attribute(kind, &value);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |message| message.bytes(value));
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes(&[0; 4]);
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_say_their_own_length() {
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.text(libc::IFLA_IFNAME, "eth0");
        let bytes = message.finish(7);
        assert_eq!(bytes.len(), HEADER + 12);
        assert_eq!(bytes[HEADER..HEADER + 2], 9_u16.to_ne_bytes());
        assert_eq!(bytes[0..4], 28_u32.to_ne_bytes());
    }

    #[test]
    fn an_answer_too_short_is_an_error_and_no_panic() {
        for length in 0..20 {
            assert!(acknowledged(&vec![0; length]).is_err());
        }
    }
}
