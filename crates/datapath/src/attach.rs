//! Attaching: which hook an interface gets, and links that outlive the daemon.

use std::{
    ffi::CString,
    fs, io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{
        ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, LinkOrder, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
        xdp::XdpLink,
    },
};
use furiwake_engine::tables::PORTS;

use crate::{Attached, Error, HookChoice, error::chain};

/// Priority and handle of the filter where tc has no links, so that a restart finds its own.
const FILTER: (u16, TcHandle) = (1, TcHandle::new(0, 1));

/// The program at tc.
const PROGRAM: &str = "furiwake_tc";

/// The hooks of one interface.
pub(crate) struct Hooks {
    pub(crate) attached: Attached,
    /// Whether it takes what XDP redirects.
    pub(crate) takes_xdp: bool,
}

/// Attach to an interface, or take over what is attached.
pub(crate) fn attach(
    object: &mut Ebpf,
    links: &Path,
    name: &str,
    ifindex: u32,
    choice: HookChoice,
) -> Result<Hooks, Error> {
    let tc = attach_tc(object, links, name, ifindex)?;
    let driver = driver(name);
    let (mode, mut reason) = match choice {
        HookChoice::Xdp => (Some(XdpMode::Driver), None),
        HookChoice::XdpGeneric => (Some(XdpMode::Skb), None),
        HookChoice::Tc => (None, None),
        HookChoice::Auto => match driver.as_deref() {
            None => (None, Some("not a driver with native XDP".to_owned())),
            Some("veth") => (
                None,
                Some("veth hands over super-packets, which XDP would have cut up".to_owned()),
            ),
            Some("virtio_net") => (
                None,
                Some("virtio_net hands over super-packets, which XDP would have cut up".to_owned()),
            ),
            Some(
                "bridge"
                | "tun"
                | "bonding"
                | "macvlan"
                | "802.1Q VLAN Support"
                | "vxlan"
                | "dummy"
                | "team",
            ) => (
                None,
                Some("a virtual interface: its lower ones are where XDP pays".to_owned()),
            ),
            Some(_) => (Some(XdpMode::Driver), None),
        },
    };
    let pin = xdp_pin(links, ifindex);
    let Some(mode) = mode else {
        remove_pin(&pin)?;
        return Ok(hooks(name, ifindex, tc.to_owned(), reason, false));
    };
    if ifindex >= PORTS {
        let why = format!("its index {ifindex} is beyond {PORTS}");
        return no_xdp(name, ifindex, tc, choice, why);
    }
    match attach_xdp(
        object,
        &pin,
        ifindex,
        mode,
        driver.as_deref() == Some("veth"),
    ) {
        Ok(()) => {
            let hook = if choice == HookChoice::XdpGeneric {
                "xdp-generic"
            } else {
                "xdp"
            };
            if choice == HookChoice::XdpGeneric {
                reason = Some("generic XDP copies every packet: asked for".to_owned());
            }
            Ok(hooks(
                name,
                ifindex,
                format!("{hook}+{tc}"),
                reason,
                choice != HookChoice::XdpGeneric,
            ))
        }
        Err(why) => no_xdp(name, ifindex, tc, choice, why),
    }
}

/// XDP cannot be had: fine when nobody asked for it by name.
fn no_xdp(
    name: &str,
    ifindex: u32,
    tc: &str,
    choice: HookChoice,
    why: String,
) -> Result<Hooks, Error> {
    match choice {
        HookChoice::Auto => Ok(hooks(
            name,
            ifindex,
            tc.to_owned(),
            Some(format!("no native XDP: {why}")),
            false,
        )),
        HookChoice::XdpGeneric => Err(Error::Hook {
            interface: name.to_owned(),
            hook: "generic XDP",
            reason: why,
        }),
        _ => Err(Error::Hook {
            interface: name.to_owned(),
            hook: "native XDP",
            reason: why,
        }),
    }
}

fn hooks(name: &str, ifindex: u32, hook: String, reason: Option<String>, takes_xdp: bool) -> Hooks {
    Hooks {
        attached: Attached {
            ifindex,
            name: name.to_owned(),
            hook,
            reason,
        },
        takes_xdp,
    }
}

/// Let go of an interface, or of one that is gone.
pub(crate) fn detach(links: &Path, ifindex: u32) -> Result<(), Error> {
    remove_pin(&xdp_pin(links, ifindex))?;
    remove_pin(&tcx_pin(links, ifindex))?;
    let mark = clsact_pin(links, ifindex);
    if mark.exists() {
        // No such filter is as good as removed.
        let _ = tc::qdisc_detach_program(&name_of(ifindex), TcAttachType::Ingress, PROGRAM);
    }
    remove_pin(&mark)
}

/// Remove the filters of kernels before tcx from every interface of this namespace. Gives the interfaces' names.
pub(crate) fn remove_filters() -> Vec<String> {
    let Ok(interfaces) = nix::net::if_::if_nameindex() else {
        return Vec::new();
    };
    let names = interfaces
        .iter()
        .map(|i| i.name().to_string_lossy().into_owned());
    names
        .filter(|name| tc::qdisc_detach_program(name, TcAttachType::Ingress, PROGRAM).is_ok())
        .collect()
}

/// Name of an interface, or its number when it is gone.
pub(crate) fn name_of(ifindex: u32) -> String {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that the function asks for, which it fills with a string and its end.
    let found = unsafe { !libc::if_indextoname(ifindex, name.as_mut_ptr().cast()).is_null() };
    match std::ffi::CStr::from_bytes_until_nul(&name) {
        Ok(name) if found => name.to_string_lossy().into_owned(),
        _ => format!("#{ifindex}"),
    }
}

fn xdp_pin(links: &Path, ifindex: u32) -> PathBuf {
    links.join(format!("xdp-{ifindex}"))
}

fn tcx_pin(links: &Path, ifindex: u32) -> PathBuf {
    links.join(format!("tcx-{ifindex}"))
}

/// The program as it is attached by a filter, which has no link to be pinned: a mark that there is one.
fn clsact_pin(links: &Path, ifindex: u32) -> PathBuf {
    links.join(format!("clsact-{ifindex}"))
}

fn remove_pin(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Map {
            path: path.to_path_buf(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Attach to tc; gives the name of the mechanism.
fn attach_tc(
    object: &mut Ebpf,
    links: &Path,
    name: &str,
    ifindex: u32,
) -> Result<&'static str, Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Aya {
        what: "attach to tc ingress",
        path: name.into(),
        source,
    };
    let program: &mut SchedClassifier = object
        .program_mut(PROGRAM)
        .ok_or(Error::Missing("program furiwake_tc"))?
        .try_into()
        .map_err(|e: ProgramError| failed(Box::new(e)))?;
    let pin = tcx_pin(links, ifindex);
    if let Ok(old) = PinnedLink::from_pin(&pin) {
        let link =
            SchedClassifierLink::try_from(FdLink::from(old)).map_err(|e| failed(Box::new(e)))?;
        if let Ok(id) = program.attach_to_link(link) {
            // The pin holds the link; this handle on it may go.
            drop(program.take_link(id).map_err(|e| failed(Box::new(e)))?);
            return Ok("tcx");
        }
        // The interface that it was on is gone and another has its index.
        remove_pin(&pin)?;
    }
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    match program.attach_with_options(name, TcAttachType::Ingress, first) {
        Ok(id) => {
            let link: FdLink = program
                .take_link(id)
                .map_err(|e| failed(Box::new(e)))?
                .try_into()
                .map_err(|e: aya::programs::links::LinkError| failed(Box::new(e)))?;
            link.pin(&pin).map_err(|e| failed(Box::new(e)))?;
            Ok("tcx")
        }
        Err(error) if is_before_tcx(&error) => {
            attach_filter(program, links, name, ifindex).map_err(failed)?;
            Ok("clsact")
        }
        Err(error) => Err(failed(Box::new(error))),
    }
}

/// Whether a kernel says by this that it has no links at tc: those before 6.6 do not know the type.
fn is_before_tcx(error: &ProgramError) -> bool {
    let number = match error {
        ProgramError::SyscallError(e) => e.io_error.raw_os_error(),
        _ => None,
    };
    matches!(number, Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS))
}

/// Attach to tc as it was before Linux 6.6: a filter of a qdisc, which stays without anybody holding it.
pub(crate) fn attach_filter(
    program: &mut SchedClassifier,
    links: &Path,
    name: &str,
    ifindex: u32,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // The mark comes first: a filter without one would be forgotten.
    let mark = clsact_pin(links, ifindex);
    remove_pin(&mark)?;
    program.pin(&mark)?;
    // It may be there.
    let _ = tc::qdisc_add_clsact(name);
    let (priority, handle) = FILTER;
    let old = SchedClassifierLink::attached(name, TcAttachType::Ingress, priority, handle, None);
    let id = match old.map(|link| program.attach_to_link(link)) {
        Ok(Ok(id)) => id,
        _ => {
            let options = TcAttachOptions::Netlink(NlOptions {
                priority,
                handle,
                classid: None,
            });
            program.attach_with_options(name, TcAttachType::Ingress, options)?
        }
    };
    mem::forget(program.take_link(id)?);
    Ok(())
}

fn attach_xdp(
    object: &mut Ebpf,
    pin: &Path,
    ifindex: u32,
    mode: XdpMode,
    veth: bool,
) -> Result<(), String> {
    let name = if veth {
        "furiwake_xdp_unfinished"
    } else {
        "furiwake_xdp"
    };
    let program: &mut Xdp = object
        .program_mut(name)
        .ok_or("the program is missing")?
        .try_into()
        .map_err(|e: ProgramError| chain(&e))?;
    if let Ok(old) = PinnedLink::from_pin(pin) {
        let link = XdpLink::try_from(FdLink::from(old)).map_err(|e| chain(&e))?;
        if let Ok(id) = program.attach_to_link(link) {
            drop(program.take_link(id).map_err(|e| chain(&e))?);
            return Ok(());
        }
        fs::remove_file(pin).map_err(|e| e.to_string())?;
    }
    let id = program
        .attach_to_if_index(ifindex, mode)
        .map_err(|e| chain(&e))?;
    let link = program.take_link(id).map_err(|e| chain(&e))?;
    let link = FdLink::try_from(link).map_err(|e| chain(&e))?;
    link.pin(pin).map_err(|e| chain(&e))?;
    Ok(())
}

/// Name of an interface's driver (`ethtool -i`), in the namespace of the calling thread.
fn driver(name: &str) -> Option<String> {
    /// `struct ethtool_drvinfo`, its beginning.
    #[repr(C)]
    struct Info {
        command: u32,
        driver: [u8; 32],
        rest: [u8; 160],
    }
    const ETHTOOL_GDRVINFO: u32 = 3;
    let name = CString::new(name).ok()?;
    // SAFETY: socket takes numbers; the descriptor is owned at once.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return None;
        }
        OwnedFd::from_raw_fd(fd)
    };
    let mut info = Info {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    // SAFETY: all zero is a valid ifreq; the name is cut to its field.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .zip(name.as_bytes().iter().take(libc::IFNAMSIZ - 1))
    {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: the request points at a structure of the size that this command fills.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } != 0 {
        return None;
    }
    let end = info
        .driver
        .iter()
        .position(|&b| b == 0)
        .unwrap_or(info.driver.len());
    Some(String::from_utf8_lossy(&info.driver[..end]).into_owned())
}

/// MAC address of an interface.
pub(crate) fn mac(name: &str) -> Option<[u8; 6]> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?;
    addresses
        .filter(|a| a.interface_name == name)
        .find_map(|a| {
            a.address
                .and_then(|a| a.as_link_addr().and_then(|l| l.addr()))
        })
}
