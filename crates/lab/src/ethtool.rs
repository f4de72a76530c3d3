//! Offload switches of an interface, by the old ethtool requests every kernel still takes.

use std::{io, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Something the (virtual) network card does so that the stack need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offload {
    /// Checksums of packets sent are left unfinished.
    TxChecksum,
    /// TCP super-packets are handed over whole.
    TcpSegmentation,
    /// So are those the stack would have cut itself.
    GenericSegmentation,
    /// Packets received are merged; on veth this is also what switches NAPI on.
    GenericReceive,
}

impl Offload {
    /// `ETHTOOL_STXCSUM`, `ETHTOOL_STSO`, `ETHTOOL_SGSO`, `ETHTOOL_SGRO`.
    fn request(self) -> u32 {
        match self {
            Self::TxChecksum => 0x17,
            Self::TcpSegmentation => 0x1f,
            Self::GenericSegmentation => 0x24,
            Self::GenericReceive => 0x2c,
        }
    }
}

/// Switches one offload of an interface in the namespace of the calling thread.
pub(crate) fn set(interface: &str, offload: Offload, on: bool) -> io::Result<()> {
    #[repr(C)]
    struct Value {
        request: u32,
        data: u32,
    }
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        data: *mut Value,
        // The kernel copies a whole `struct ifreq`, whose union is 24 bytes long.
        rest: [u8; 16],
    }
    let mut value = Value {
        request: offload.request(),
        data: u32::from(on),
    };
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        data: &raw mut value,
        rest: [0; 16],
    };
    if interface.len() >= request.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..interface.len()].copy_from_slice(interface.as_bytes());
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: `request` has the layout of `struct ifreq` and, like `value`, outlives the call.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
