//! Attaching: which hook an interface gets, and links that outlive the daemon.

use std::{
    ffi::CString,
    fs, io, mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
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

use crate::{
    Attached, Error, HookChoice,
    driver::{Driver, vlans_on},
    error::chain,
    netdev,
};

/// Priority and handle of the filter where tc has no links, so that a restart finds its own.
const FILTER: (u16, TcHandle) = (1, TcHandle::new(0, 1));

/// The program at tc.
const PROGRAM: &str = "furiwake_tc";

/// The hooks of one interface.
#[derive(Debug)]
pub(crate) struct Hooks {
    attached: Attached,
    is_native: bool,
    /// Whether somebody asked for XDP here by name.
    is_asked: bool,
    /// Whether it takes what XDP redirects.
    pub(crate) takes_xdp: bool,
}

impl Hooks {
    /// An attachment that an earlier daemon left.
    pub(crate) fn adopted(ifindex: u32) -> Self {
        Self::new(&name_of(ifindex), ifindex, "adopted".to_owned(), None)
    }

    fn new(name: &str, ifindex: u32, hook: String, reason: Option<String>) -> Self {
        Self {
            attached: Attached {
                ifindex,
                name: name.to_owned(),
                hook,
                reason,
            },
            is_native: false,
            is_asked: false,
            takes_xdp: false,
        }
    }

    pub(crate) fn ifindex(&self) -> u32 {
        self.attached.ifindex
    }

    pub(crate) fn name(&self) -> &str {
        &self.attached.name
    }

    /// See whether it takes what XDP redirects; says whether that is new.
    pub(crate) fn look(&mut self) -> bool {
        // Before Linux 6.3 nobody tells. A card whose driver has XDP sends, too; a veth may lose what it gets, so there
        // it takes somebody who knows better.
        let likely = || self.is_asked || Driver::of(self.name()).is_some_and(|d| d.is_of_a_wire());
        let takes =
            self.is_native && netdev::sends_redirected(self.ifindex()).unwrap_or_else(likely);
        takes != mem::replace(&mut self.takes_xdp, takes)
    }

    /// As people see it.
    pub(crate) fn shown(&self) -> Attached {
        let mut attached = self.attached.clone();
        if self.is_native && !self.takes_xdp {
            let remark = "packets that leave here go by tc: it takes none from XDP (a veth does once its other \
                          end has GRO on)";
            attached.reason = Some(match attached.reason {
                Some(reason) => format!("{reason}; {remark}"),
                None => remark.to_owned(),
            });
        }
        attached
    }
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
    let driver = Driver::of(name);
    let (mode, reason) = mode(choice, driver.as_ref(), &vlans_on(name));
    for other in Mode::ALL.into_iter().filter(|m| mode != Some(*m)) {
        remove_link(&xdp_pin(links, other, ifindex))?;
    }
    // As versions before named it.
    remove_link(&links.join(format!("xdp-{ifindex}")))?;
    let Some(mode) = mode else {
        return Ok(Hooks::new(name, ifindex, tc.to_owned(), reason));
    };
    let is_of_a_wire = driver.is_some_and(|d| d.is_of_a_wire());
    let program = mode.program(is_of_a_wire);
    let attached = if ifindex >= PORTS {
        Err(format!("its index {ifindex} is beyond {PORTS}"))
    } else {
        attach_xdp(
            object,
            program,
            &xdp_pin(links, mode, ifindex),
            ifindex,
            mode,
        )
    };
    match attached {
        Ok(()) => {
            let hook = format!("{}+{tc}", mode.hook());
            let mut hooks = Hooks::new(name, ifindex, hook, reason);
            hooks.is_native = mode == Mode::Driver;
            hooks.is_asked = choice == HookChoice::Xdp;
            hooks.look();
            Ok(hooks)
        }
        // Fine when nobody asked for it by name.
        Err(why) if choice == HookChoice::Auto => {
            let reason = Some(format!("no native XDP: {why}"));
            Ok(Hooks::new(name, ifindex, tc.to_owned(), reason))
        }
        Err(reason) => Err(Error::Hook {
            interface: name.to_owned(),
            hook: match mode {
                Mode::Driver => "native XDP",
                Mode::Generic => "generic XDP",
            },
            reason,
        }),
    }
}

/// How XDP is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Driver,
    Generic,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Driver, Self::Generic];

    fn hook(self) -> &'static str {
        match self {
            Self::Driver => "xdp",
            Self::Generic => "xdp-generic",
        }
    }

    /// The program. Packets that never were on a wire may have unfinished checksums, which XDP cannot see: there it
    /// must be the one that verifies them. Generic XDP gets such packets from any driver.
    fn program(self, is_of_a_wire: bool) -> &'static str {
        if self == Self::Driver && is_of_a_wire {
            "furiwake_xdp"
        } else {
            "furiwake_xdp_unfinished"
        }
    }
}

/// Whether XDP is used, and what is to be said about it.
fn mode(
    choice: HookChoice,
    driver: Option<&Driver>,
    vlans: &[String],
) -> (Option<Mode>, Option<String>) {
    let vlans = vlans.join(", ");
    let unseen =
        format!("VLANs are on it ({vlans}) and XDP does not see tags that the card takes out");
    let has_vlans = !vlans.is_empty();
    match choice {
        HookChoice::Tc => (None, None),
        HookChoice::Xdp | HookChoice::XdpGeneric if has_vlans => {
            let mode = if choice == HookChoice::Xdp {
                Mode::Driver
            } else {
                Mode::Generic
            };
            let advice = "packets of a VLAN may be taken for untagged ones: use tc here";
            (Some(mode), Some(format!("{unseen}; {advice}")))
        }
        HookChoice::Xdp => (Some(Mode::Driver), None),
        HookChoice::XdpGeneric => {
            let reason = "generic XDP copies every packet: asked for".to_owned();
            (Some(Mode::Generic), Some(reason))
        }
        HookChoice::Auto => match driver.map(Driver::objection) {
            None => (None, Some("not a driver with native XDP".to_owned())),
            Some(Some(objection)) => (None, Some(objection)),
            Some(None) if has_vlans => (None, Some(unseen)),
            Some(None) => (Some(Mode::Driver), None),
        },
    }
}

/// Let go of an interface, or of one that is gone.
pub(crate) fn detach(links: &Path, ifindex: u32) -> Result<(), Error> {
    for mode in Mode::ALL {
        remove_link(&xdp_pin(links, mode, ifindex))?;
    }
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

/// The mode is part of the name: a link keeps the one that it was made with.
fn xdp_pin(links: &Path, mode: Mode, ifindex: u32) -> PathBuf {
    match mode {
        Mode::Driver => links.join(format!("xdp-driver-{ifindex}")),
        Mode::Generic => links.join(format!("xdp-generic-{ifindex}")),
    }
}

fn tcx_pin(links: &Path, ifindex: u32) -> PathBuf {
    links.join(format!("tcx-{ifindex}"))
}

/// The program as it is attached by a filter, which has no link to be pinned: a mark that there is one.
fn clsact_pin(links: &Path, ifindex: u32) -> PathBuf {
    links.join(format!("clsact-{ifindex}"))
}

/// Remove a link's pin, and see to it that the interface is free at once: the kernel takes its time with links that
/// nobody holds any more.
fn remove_link(pin: &Path) -> Result<(), Error> {
    if pin.exists() {
        // Whoever cannot be detached has no interface any more, and goes with its pin.
        let _ = detach_link(pin);
    }
    remove_pin(pin)
}

fn detach_link(pin: &Path) -> io::Result<()> {
    /// `BPF_OBJ_GET` and `BPF_LINK_DETACH` of `enum bpf_cmd`.
    const GET: libc::c_long = 7;
    const DETACH: libc::c_long = 34;
    /// The part of `union bpf_attr` that the former reads.
    #[repr(C)]
    struct Get {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = Get {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: the attributes have the size that is told and live as long as the call, as does the path.
    let link = unsafe { libc::syscall(libc::SYS_bpf, GET, &raw const get, size_of::<Get>()) };
    let Some(link) = i32::try_from(link).ok().filter(|fd| *fd >= 0) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: the kernel just gave this descriptor to us.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    let number = link.as_raw_fd();
    // SAFETY: the attributes are the descriptor alone, which stays open.
    match unsafe { libc::syscall(libc::SYS_bpf, DETACH, &raw const number, size_of::<i32>()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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
pub(crate) fn is_before_tcx(error: &ProgramError) -> bool {
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
    name: &str,
    pin: &Path,
    ifindex: u32,
    mode: Mode,
) -> Result<(), String> {
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
        .attach_to_if_index(
            ifindex,
            match mode {
                Mode::Driver => XdpMode::Driver,
                Mode::Generic => XdpMode::Skb,
            },
        )
        .map_err(|e| chain(&e))?;
    let link = program.take_link(id).map_err(|e| chain(&e))?;
    let link = FdLink::try_from(link).map_err(|e| chain(&e))?;
    link.pin(pin).map_err(|e| chain(&e))?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_never_were_on_a_wire_get_the_program_that_verifies_checksums() {
        assert_eq!(Mode::Driver.program(true), "furiwake_xdp");
        for (mode, is_of_a_wire) in [
            (Mode::Driver, false),
            (Mode::Generic, true),
            (Mode::Generic, false),
        ] {
            assert_eq!(mode.program(is_of_a_wire), "furiwake_xdp_unfinished");
        }
    }

    #[test]
    fn xdp_is_warned_of_where_there_are_vlans() {
        let vlans = ["eth0.100".to_owned()];
        let (mode_then, reason) = mode(HookChoice::Xdp, None, &vlans);
        assert_eq!(mode_then, Some(Mode::Driver));
        assert!(reason.is_some_and(|r| r.contains("eth0.100") && r.contains("use tc")));
        assert_eq!(mode(HookChoice::Xdp, None, &[]), (Some(Mode::Driver), None));
        assert_eq!(mode(HookChoice::Tc, None, &vlans), (None, None));
    }
}
