//! What a director needs of its machine, checked before anything is touched, with words for each lack.

use std::{
    collections::HashSet,
    fs, io,
    net::IpAddr,
    os::{fd::AsRawFd as _, unix::net::UnixDatagram},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::geteuid,
};
use tracing::info;

/// Where a bpffs is by convention.
const BPFFS: &str = "/sys/fs/bpf";
/// The oldest kernel that is supported.
const OLDEST_KERNEL: (u32, u32) = (5, 17);
/// Capabilities by number (`linux/capability.h`) and name. `CAP_SYS_ADMIN` includes the last two.
const NET_ADMIN: (u32, &str) = (12, "CAP_NET_ADMIN");
const SYS_ADMIN: u32 = 21;
const PERFMON: (u32, &str) = (38, "CAP_PERFMON");
const BPF: (u32, &str) = (39, "CAP_BPF");

/// Check the kernel and our privileges.
pub(crate) fn check() -> anyhow::Result<()> {
    let release = nix::sys::utsname::uname().context("cannot ask for the kernel's version")?;
    let release = release.release().to_string_lossy().into_owned();
    check_kernel(&release, Path::new("/sys/kernel/btf/vmlinux").exists())?;
    let status = fs::read_to_string("/proc/self/status")
        .context("cannot read /proc/self/status: is /proc mounted?")?;
    check_capabilities(&status, geteuid().is_root())
}

/// The folder for this director's pins when none was chosen: one per network namespace, so that several
/// directors live side by side on one machine.
pub(crate) fn default_pins() -> anyhow::Result<PathBuf> {
    let cookie = namespace_cookie().context("cannot tell which network namespace this is")?;
    Ok(Path::new(BPFFS)
        .join("furiwake")
        .join(format!("netns-{cookie}")))
}

/// The kernel's name for our network namespace. Unlike the inode of the namespace it is never given to
/// another, so nobody adopts the pins of a namespace that is gone.
fn namespace_cookie() -> io::Result<u64> {
    let socket = UnixDatagram::unbound()?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has them.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if failed == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The addresses of this network namespace; none when the kernel does not tell.
pub(crate) fn own_addresses() -> HashSet<IpAddr> {
    let ip = |own: nix::ifaddrs::InterfaceAddress| {
        let own = own.address?;
        let v4 = own.as_sockaddr_in().map(|own| IpAddr::V4(own.ip()));
        v4.or_else(|| own.as_sockaddr_in6().map(|own| IpAddr::V6(own.ip())))
    };
    nix::ifaddrs::getifaddrs()
        .map(|addresses| addresses.filter_map(ip).collect())
        .unwrap_or_default()
}

/// Whether this network namespace forwards IPv4; also when that cannot be told.
pub(crate) fn host_forwards() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").map_or(true, |value| value.trim() != "0")
}

/// Make the folder for pins, on a bpffs: mount one at its usual place if it is missing there.
pub(crate) fn prepare_pins(pins: &Path) -> anyhow::Result<()> {
    if !on_bpffs(pins)? {
        if !pins.starts_with(BPFFS) {
            bail!(
                "{} is not on a bpffs: choose a folder below {BPFFS}, or mount one there \
                 (mount -t bpf bpf DIRECTORY)",
                pins.display()
            );
        }
        mount(
            Some("bpf"),
            BPFFS,
            Some("bpf"),
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .with_context(|| {
            format!(
                "no bpffs is mounted at {BPFFS} and it cannot be mounted from here; as root: \
                     mount -t bpf bpf {BPFFS}"
            )
        })?;
        info!("mounted a bpffs at {BPFFS}: pins live as long as this mount namespace does");
    }
    fs::create_dir_all(pins)
        .with_context(|| format!("cannot make the folder for pins, {}", pins.display()))
}

/// Remove the folder for pins and the one that holds it, if nothing is in there.
pub(crate) fn remove_empty_pins(pins: &Path) {
    for folder in pins.ancestors().take(2) {
        if folder == Path::new(BPFFS) || fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// Whether a path is, or would be made, on a bpffs.
pub(crate) fn on_bpffs(path: &Path) -> anyhow::Result<bool> {
    let existing = path
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let filesystem =
        statfs(existing).with_context(|| format!("cannot examine {}", existing.display()))?;
    Ok(filesystem.filesystem_type() == BPF_FS_MAGIC)
}

fn check_kernel(release: &str, has_btf: bool) -> anyhow::Result<()> {
    let mut numbers = release
        .split(['.', '-', '+'])
        .map_while(|part| part.parse().ok());
    // A version in a form never seen before is no reason to refuse.
    if let (Some(major), Some(minor)) = (numbers.next(), numbers.next())
        && (major, minor) < OLDEST_KERNEL
    {
        let (old_major, old_minor) = OLDEST_KERNEL;
        bail!(
            "Linux {release} is too old: furiwake needs {old_major}.{old_minor} or later \
             (BPF links on tc and XDP, CAP_BPF, BTF, and their verifier)"
        );
    }
    if !has_btf {
        bail!(
            "this kernel ({release}) does not describe its types: /sys/kernel/btf/vmlinux is \
             missing; it needs CONFIG_DEBUG_INFO_BTF=y, and /sys mounted"
        );
    }
    Ok(())
}

fn check_capabilities(status: &str, is_root: bool) -> anyhow::Result<()> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .context("cannot read our capabilities from /proc/self/status")?;
    let has = |number: u32| effective & (1 << number) != 0;
    let missing: Vec<_> = [NET_ADMIN, BPF, PERFMON]
        .into_iter()
        .filter(|(number, _)| !has(*number) && (*number == NET_ADMIN.0 || !has(SYS_ADMIN)))
        .map(|(_, name)| name)
        .collect();
    match (missing.is_empty(), is_root) {
        (true, _) => Ok(()),
        (false, false) => bail!(
            "a director must run as root, or with {}: run it with sudo",
            missing.join(", ")
        ),
        (false, true) => bail!(
            "root here lacks {}: run outside the container, or give it these capabilities",
            missing.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: anyhow::Result<()>) -> String {
        result.expect_err("is refused").to_string()
    }

    #[test]
    fn supported_kernels_pass() {
        for release in [
            "5.17.0",
            "5.17.0-91-generic",
            "6.18.5+deb13",
            "10.0",
            "strange",
        ] {
            check_kernel(release, true).expect(release);
        }
    }

    #[test]
    fn an_old_kernel_is_told_what_it_lacks() {
        let message = message(check_kernel("5.4.0-26-generic", true));
        assert!(
            message.contains("Linux 5.4.0-26-generic is too old"),
            "{message}"
        );
        assert!(message.contains("5.17 or later"), "{message}");
    }

    #[test]
    fn a_kernel_without_btf_is_told_which_option_gives_it() {
        let message = message(check_kernel("6.1.0", false));
        assert!(message.contains("CONFIG_DEBUG_INFO_BTF"), "{message}");
    }

    #[test]
    fn full_root_and_the_three_capabilities_pass() {
        check_capabilities("CapEff:\t000001ffffffffff\n", true).expect("root");
        check_capabilities("Name:\tx\nCapEff:\t000000c000001000\n", false).expect("BPF, PERFMON");
        check_capabilities("CapEff:\t0000000000201000\n", false).expect("SYS_ADMIN");
    }

    #[test]
    fn an_ordinary_user_is_told_to_become_root() {
        let message = message(check_capabilities("CapEff:\t0000000000000000\n", false));
        assert_eq!(
            message,
            "a director must run as root, or with CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON: \
             run it with sudo"
        );
    }

    #[test]
    fn root_of_a_container_is_told_which_capability_is_missing() {
        let message = message(check_capabilities("CapEff:\t0000000000001000\n", true));
        assert!(message.contains("lacks CAP_BPF, CAP_PERFMON:"), "{message}");
    }
}
