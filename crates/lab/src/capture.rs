//! Watching the wire at a node: where the packets it receives come from.

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};

use crate::{
    error::{Result, Step},
    node::Node,
    watch::Watch,
};

/// A capture that runs until it is asked for its result.
#[derive(Debug)]
pub struct Capture(Watch<Sources>);

/// IPv4 packets received, by source address.
pub type Sources = BTreeMap<Ipv4Addr, u64>;

impl Capture {
    /// Starts to watch every interface of a node.
    pub fn start(node: &Node) -> Result<Self> {
        let step = || format!("watch the wire at {}", node.name());
        let socket = node
            .run(|| {
                let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
                let socket = socket(
                    AddressFamily::Packet,
                    SockType::Datagram,
                    flags,
                    SockProtocol::EthIp,
                )?;
                // So that a fast director does not outrun us; a smaller buffer would only count less.
                let _ = setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20));
                Ok::<OwnedFd, nix::Error>(socket)
            })?
            .step(step)?;
        Watch::start(socket, count_waiting).map(Self).step(step)
    }

    /// Ends the capture; everything that has arrived by now is counted.
    pub fn finish(self) -> Result<Sources> {
        self.0.finish().step(|| "watch the wire".into())
    }
}

fn count_waiting(socket: &OwnedFd, sources: &mut Sources) -> io::Result<()> {
    let mut packet = [0; 64];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut packet) {
            Ok((length, from)) => {
                let outgoing = from.is_some_and(|from| is_outgoing(&from));
                let source = packet[..length]
                    .get(12..16)
                    .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
                if let (false, Some(source)) = (outgoing, source) {
                    *sources.entry(source.into()).or_default() += 1;
                }
            }
            Err(nix::Error::EAGAIN) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the node itself sent the packet.
fn is_outgoing(from: &LinkAddr) -> bool {
    const PACKET_OUTGOING: u8 = 4;
    from.pkttype() == PACKET_OUTGOING
}
