//! Whether an interface sends what XDP redirects to it, as the kernel says (family `netdev` of generic netlink,
//! since Linux 6.3).
//!
//! It is not for good: a veth sends such frames as long as its other end looks out for them.

use std::{io, os::fd::AsRawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS: usize = 20;

/// Whether the interface sends frames that XDP redirects. `None` when the kernel does not tell.
pub(crate) fn sends_redirected(ifindex: u32) -> Option<bool> {
    const DEV_GET: u8 = 1;
    const IFINDEX: u16 = 1;
    const XDP_FEATURES: u16 = 3;
    const NDO_XMIT: u64 = 4;
    let family = family("netdev").ok()?;
    let device = ask(family, DEV_GET, IFINDEX, &ifindex.to_ne_bytes()).ok()?;
    let features = attribute(&device, XDP_FEATURES)?;
    let features = u64::from_ne_bytes(features.try_into().ok()?);
    Some(features & NDO_XMIT != 0)
}

/// Number of a family.
fn family(name: &str) -> io::Result<u16> {
    const CONTROLLER: u16 = 16;
    const GET_FAMILY: u8 = 3;
    const FAMILY_ID: u16 = 1;
    const FAMILY_NAME: u16 = 2;
    let name = [name.as_bytes(), &[0]].concat();
    let answer = ask(CONTROLLER, GET_FAMILY, FAMILY_NAME, &name)?;
    let id = attribute(&answer, FAMILY_ID).and_then(|id| Some([*id.first()?, *id.get(1)?]));
    id.map(u16::from_ne_bytes)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Ask with one attribute; gives the attributes of the answer.
fn ask(family: u16, command: u8, attribute: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkGeneric,
    )?;
    let padded = value.len().next_multiple_of(4);
    let mut message = Vec::with_capacity(HEADERS + 4 + padded);
    message.extend(((HEADERS + 4 + padded) as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(((4 + value.len()) as u16).to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(value);
    message.resize(HEADERS + 4 + padded, 0);
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    let mut answer = vec![0; 16384];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    match answer.get(4..6) {
        Some(kind) if kind == family.to_ne_bytes() && length >= HEADERS => {
            Ok(answer.split_off(HEADERS))
        }
        // The kernel's way to say no.
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// An attribute's value.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    // The upper bits are flags.
    const KIND: u16 = 0x3fff;
    while let [a, b, c, d, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let kind = u16::from_ne_bytes([c, d]) & KIND;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_broken_ones_are_not() {
        let two = [6, 0, 1, 0, 7, 8, 0, 0, 8, 0, 3, 0x40, 1, 2, 3, 4];
        assert_eq!(attribute(&two, 1), Some(&[7, 8][..]));
        assert_eq!(attribute(&two, 3), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(&two, 2), None);
        assert_eq!(attribute(&[200, 0, 3, 0, 1], 3), None);
        assert_eq!(attribute(&[0, 0, 1, 0, 1, 1, 1, 1], 3), None);
    }

    #[test]
    fn an_interface_that_is_not_there_tells_nothing() {
        assert_eq!(sends_redirected(0x7fff_fff0), None);
    }
}
