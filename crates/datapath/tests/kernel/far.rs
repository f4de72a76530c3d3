//! The far end of a wire: what really leaves there. Frames are tried, not sent, but for those that a program sends
//! while it goes on (fragments).

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::net::if_::if_nametoindex;

/// Everything that arrives at an interface of the calling thread's network.
pub(crate) struct Far(OwnedFd);

impl Far {
    /// Listen at the far end of a wire.
    pub(crate) fn of(wire: &str) -> io::Result<Self> {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain numbers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol)) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just opened, and that nobody else has.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = if_nametoindex(format!("{wire}-far").as_str())? as i32;
        let length = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address lives through the call and is as long as said.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        match bound {
            0 => Ok(Self(socket)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The IPv4 frames that arrived since.
    pub(crate) fn arrived(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (socket, room) = (self.0.as_raw_fd(), buffer.len());
            // SAFETY: the buffer has that many bytes.
            let length = unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), room, 0) };
            let Ok(length) = usize::try_from(length) else {
                return frames;
            };
            if buffer[12..14] == [8, 0] {
                frames.push(buffer[..length].to_vec());
            }
        }
    }
}
