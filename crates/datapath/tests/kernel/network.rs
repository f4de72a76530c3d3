//! A network of its own for each test: a thread in namespaces that vanish with it.
//!
//! Three wires end at the director. Every host has the MAC address 02:04 and its IP address (as in the
//! recordings), every wire's end 02:00:00:00:00 and its number. Hosts need not be there: frames are tried,
//! not sent.

use std::{
    fs, io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd,
    panic,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use crate::netlink::Netlink;

/// Where a packet comes in or goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Towards clients, 10.0.0.0/24; the virtual addresses 10.0.0.1 to 10.0.0.10 are here.
    Front,
    /// Towards servers, 192.168.1.0/24.
    Back,
    /// Towards clients, 10.9.0.0/24, packets of 1300 bytes at most.
    Narrow,
}

impl Wire {
    pub(crate) const ALL: [Self; 3] = [Self::Front, Self::Back, Self::Narrow];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Back => "back",
            Self::Narrow => "narrow",
        }
    }

    pub(crate) fn mtu(self) -> u16 {
        match self {
            Self::Narrow => 1300,
            _ => 1500,
        }
    }

    pub(crate) fn mac(self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self as u8 + 1]
    }

    pub(crate) fn ifindex(self) -> u32 {
        if_nametoindex(self.name()).unwrap()
    }

    fn address(self) -> Ipv4Addr {
        match self {
            Self::Front => [10, 0, 0, 254].into(),
            Self::Back => [192, 168, 1, 254].into(),
            Self::Narrow => [10, 9, 0, 254].into(),
        }
    }
}

/// The MAC address of a host.
pub(crate) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [first, b, c, d] = address.octets();
    [2, 4, first, b, c, d]
}

/// A gateway on the front wire that is known: to 172.16.0.0/16.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 253);
/// A gateway on the front wire that is not known: to 172.17.0.0/16.
pub(crate) const LOST_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 252);

/// Whether a host is a neighbour that the director knows for good, and on which wire.
pub(crate) fn neighbour(address: Ipv4Addr) -> Option<Wire> {
    match address.octets() {
        [10, 0, 0, 100..=163 | 253] => Some(Wire::Front),
        [192, 168, 1, 1..=16] => Some(Wire::Back),
        [10, 9, 0, 100] => Some(Wire::Narrow),
        _ => None,
    }
}

/// The bpffs of the calling test.
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

/// Run a test in a network of its own.
pub(crate) fn in_network(test: impl FnOnce() + Send + 'static) {
    assert!(
        geteuid().is_root(),
        "these tests load programs into the kernel: run them as root"
    );
    let thread = thread::spawn(move || {
        make_namespaces().unwrap_or_else(|e| panic!("cannot make a network for the test: {e}"));
        make_network().unwrap_or_else(|e| panic!("cannot make the test's wires: {e}"));
        test();
    });
    if let Err(failure) = thread.join() {
        panic::resume_unwind(failure);
    }
}

fn make_namespaces() -> Result<(), String> {
    let failed = |what: &'static str| move |e: nix::Error| format!("{what}: {e}");
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(failed("namespaces (needs CAP_SYS_ADMIN)"))?;
    mount::<str, _, str, str>(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)
        .map_err(failed("private mounts"))?;
    if !Path::new(BPFFS).is_dir() {
        return Err(format!(
            "{BPFFS} is missing: is the kernel without BPF, or /sys not mounted?"
        ));
    }
    mount::<str, _, _, str>(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None)
        .map_err(failed("bpffs at /sys/fs/bpf"))
}

fn make_network() -> io::Result<()> {
    // No words of the host's own on the wires: they would be counted.
    set_sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    set_sysctl("ipv4/ip_forward", "1")?;
    let netlink = Netlink::open()?;
    netlink.set_up("lo")?;
    for wire in Wire::ALL {
        let (name, peer) = (wire.name(), format!("{}-far", wire.name()));
        netlink.add_veth(name, wire.mac(), wire.mtu().into(), &peer)?;
        netlink.set_up(name)?;
        netlink.set_up(&peer)?;
        // What makes a veth look out for frames that XDP sends.
        set_gro(&peer, true)?;
        netlink.add_address(name, wire.address(), 24)?;
    }
    for last in 1..=10 {
        netlink.add_address("front", [10, 0, 0, last].into(), 32)?;
    }
    let hosts = (0..=255).flat_map(|last| {
        [[10, 0, 0, last], [192, 168, 1, last], [10, 9, 0, last]].map(Ipv4Addr::from)
    });
    for host in hosts {
        if let Some(wire) = neighbour(host) {
            netlink.add_neighbour(wire.name(), host, mac_of(host))?;
        }
    }
    netlink.add_route([172, 16, 0, 0].into(), 16, GATEWAY)?;
    netlink.add_route([172, 17, 0, 0].into(), 16, LOST_GATEWAY)
}

/// Switch an interface's merging of received packets.
pub(crate) fn set_gro(name: &str, on: bool) -> io::Result<()> {
    const ETHTOOL_SGRO: u32 = 0x2c;
    let mut value = [ETHTOOL_SGRO, u32::from(on)];
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the request points at the two numbers that this command reads.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Set a network setting of the calling thread's namespace.
pub(crate) fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = PathBuf::from("/proc/sys/net").join(name);
    match fs::write(&path, value) {
        // A kernel without IPv6 has nothing to switch off.
        Err(e) if e.kind() == io::ErrorKind::NotFound && name.starts_with("ipv6") => Ok(()),
        other => other,
    }
}
