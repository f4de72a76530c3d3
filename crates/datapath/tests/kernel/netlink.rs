//! The few routing requests that the test network needs.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
        socket,
    },
};

const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// A routing socket of the calling thread's network namespace.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self(socket))
    }

    /// Make a veth pair, both ends here.
    pub(crate) fn add_veth(
        &self,
        name: &str,
        mac: [u8; 6],
        mtu: u32,
        peer: &str,
    ) -> io::Result<()> {
        const IFLA_INFO_KIND: u16 = 1;
        const IFLA_INFO_DATA: u16 = 2;
        const VETH_INFO_PEER: u16 = 1;
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE);
        message.bytes(&[0; 16]);
        message.text(libc::IFLA_IFNAME, name);
        message.attribute(libc::IFLA_ADDRESS, &mac);
        message.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
        message.nest(libc::IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |message| {
                    message.bytes(&[0; 16]);
                    message.text(libc::IFLA_IFNAME, peer);
                });
            });
        });
        self.request(message)
    }

    pub(crate) fn set_up(&self, name: &str) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.bytes(&[0; 4]);
        message.bytes(&if_nametoindex(name)?.to_ne_bytes());
        message.bytes(&up.to_ne_bytes());
        message.bytes(&up.to_ne_bytes());
        self.request(message)
    }

    pub(crate) fn add_address(&self, name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWADDR, CREATE);
        message.bytes(&[libc::AF_INET as u8, prefix, 0, 0]);
        message.bytes(&if_nametoindex(name)?.to_ne_bytes());
        message.attribute(libc::IFA_LOCAL, &address.octets());
        message.attribute(libc::IFA_ADDRESS, &address.octets());
        self.request(message)
    }

    /// Enter a neighbour for good.
    pub(crate) fn add_neighbour(
        &self,
        name: &str,
        address: Ipv4Addr,
        mac: [u8; 6],
    ) -> io::Result<()> {
        const NDA_DST: u16 = 1;
        const NDA_LLADDR: u16 = 2;
        const NUD_PERMANENT: u16 = 0x80;
        let mut message = Message::new(libc::RTM_NEWNEIGH, CREATE);
        message.bytes(&[libc::AF_INET as u8, 0, 0, 0]);
        message.bytes(&if_nametoindex(name)?.to_ne_bytes());
        message.bytes(&NUD_PERMANENT.to_ne_bytes());
        message.bytes(&[0, 0]);
        message.attribute(NDA_DST, &address.octets());
        message.attribute(NDA_LLADDR, &mac);
        self.request(message)
    }

    pub(crate) fn add_route(
        &self,
        network: Ipv4Addr,
        prefix: u8,
        gateway: Ipv4Addr,
    ) -> io::Result<()> {
        const MAIN: u8 = 254;
        const STATIC: u8 = 4;
        const UNICAST: u8 = 1;
        let mut message = Message::new(libc::RTM_NEWROUTE, CREATE);
        message.bytes(&[libc::AF_INET as u8, prefix, 0, 0, MAIN, STATIC, 0, UNICAST]);
        message.bytes(&[0; 4]);
        message.attribute(libc::RTA_DST, &network.octets());
        message.attribute(libc::RTA_GATEWAY, &gateway.octets());
        self.request(message)
    }

    /// Id of the XDP program on an interface, 0 for none.
    pub(crate) fn xdp_program(&self, ifindex: u32) -> io::Result<u32> {
        const IFLA_XDP_PROG_ID: u16 = 4;
        let id = self.xdp(ifindex, IFLA_XDP_PROG_ID)?;
        Ok(id.map_or(0, |id| u32::from_ne_bytes([id[0], id[1], id[2], id[3]])))
    }

    /// How XDP is attached to an interface: not at all, by its driver, generic.
    pub(crate) fn xdp_mode(&self, ifindex: u32) -> io::Result<u8> {
        const IFLA_XDP_ATTACHED: u16 = 2;
        Ok(self
            .xdp(ifindex, IFLA_XDP_ATTACHED)?
            .map_or(0, |mode| mode[0]))
    }

    fn xdp(&self, ifindex: u32, wanted: u16) -> io::Result<Option<Vec<u8>>> {
        const IFLA_XDP: u16 = 43;
        let mut message = Message::new(libc::RTM_GETLINK, 0);
        message.bytes(&[0; 4]);
        message.bytes(&ifindex.to_ne_bytes());
        message.bytes(&[0; 8]);
        let answer = Self::open()?.ask(message)?;
        // struct nlmsghdr and struct ifinfomsg.
        let xdp = attribute(&answer[32..], IFLA_XDP);
        Ok(xdp
            .and_then(|xdp| attribute(xdp, wanted))
            .map(<[u8]>::to_vec))
    }

    /// Whether a filter is at an interface's ingress, by clsact.
    pub(crate) fn has_filter(&self, ifindex: u32) -> io::Result<bool> {
        const RTM_GETTFILTER: u16 = 46;
        const RTM_NEWTFILTER: u16 = 44;
        const INGRESS: u32 = 0xffff_fff2;
        let mut message = Message::new(RTM_GETTFILTER, libc::NLM_F_DUMP as u16);
        // struct tcmsg: family, ifindex, handle, parent, info.
        for word in [0, ifindex, 0, INGRESS, 0] {
            message.bytes(&word.to_ne_bytes());
        }
        let answer = Self::open()?.ask(message)?;
        Ok(answer.get(4..6) == Some(&RTM_NEWTFILTER.to_ne_bytes()[..]))
    }

    fn request(&self, message: Message) -> io::Result<()> {
        let answer = self.ask(message)?;
        // struct nlmsghdr, then the error number, negative.
        match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
    fn ask(&self, message: Message) -> io::Result<Vec<u8>> {
        let bytes = message.finish();
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.0.as_raw_fd(), &bytes, &kernel, MsgFlags::empty())?;
        let mut answer = vec![0; 16384];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        answer.truncate(length);
        Ok(answer)
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

struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        Self(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |message| message.bytes(value));
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.bytes(&[0, 0]);
        self.bytes(&kind.to_ne_bytes());
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}
