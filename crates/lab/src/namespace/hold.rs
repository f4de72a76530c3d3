//! Making a holder: clone, mount, name, tell the maker, wait for the end.
//!
//! The maker may have many threads (a test runner has), so the child does nothing but system calls on
//! memory prepared before: no allocation, no locks, no destructors.

use std::{
    ffi::CString,
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    ptr,
    sync::Arc,
};

use nix::{
    fcntl::OFlag,
    sys::wait::waitpid,
    unistd::{Pid, pipe2},
};

use super::Namespaces;
use crate::error::{Error, Result};

/// What a node sees of the file system beyond the host's own files.
#[derive(Debug)]
pub(crate) struct Mounts {
    /// The lab's folder below /run; seen under the same path, though the rest of /run is empty and private.
    pub(crate) lab: PathBuf,
    /// What the node sees as /var/log, so that servers with their stock settings log into the lab.
    pub(crate) log: PathBuf,
}

/// A running holder; dropping it ends the node with all its processes.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) namespaces: Arc<Namespaces>,
    lifeline: Option<OwnedFd>,
}

impl Holder {
    /// Starts the holder of a node whose host name is `name`.
    pub(crate) fn start(name: &str, mounts: &Mounts) -> Result<Self> {
        let failed = |step: &str, error: io::Error| Error::System {
            step: format!("start node {name}: {step}"),
            source: error,
        };
        let plan = Plan::new(name, mounts)?;
        let (life_read, life_write) =
            pipe2(OFlag::O_CLOEXEC).map_err(|error| failed("pipe", error.into()))?;
        let (status_read, status_write) =
            pipe2(OFlag::O_CLOEXEC).map_err(|error| failed("pipe", error.into()))?;

        let flags = libc::CLONE_NEWNET
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::SIGCHLD;
        // SAFETY: without CLONE_VM and with no stack given this is fork; the child only calls `hold`, which
        // makes system calls on memory prepared above and never returns.
        let pid = unsafe {
            let pid = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
            if pid == 0 {
                hold(&plan, life_read.as_raw_fd(), status_write.as_raw_fd());
            }
            pid as i32
        };
        if pid < 0 {
            return Err(failed(
                "new namespaces (network, host name, mounts, processes)",
                io::Error::last_os_error(),
            ));
        }
        drop((life_read, status_write));

        let mut status = Vec::new();
        let read = std::fs::File::from(status_read).read_to_end(&mut status);
        match (read, status.as_slice()) {
            (Ok(_), []) => {}
            (_, [step, code @ ..]) => {
                let _ = waitpid(Pid::from_raw(pid), None);
                let code = code.try_into().map_or(0, i32::from_ne_bytes);
                let step = STEPS
                    .get(usize::from(*step))
                    .copied()
                    .unwrap_or("unknown step");
                return Err(failed(step, io::Error::from_raw_os_error(code)));
            }
            (Err(error), []) => return Err(failed("wait for the holder", error)),
        }
        Ok(Self {
            namespaces: Arc::new(Namespaces::of(pid)?),
            lifeline: Some(life_write),
        })
    }
}

impl Holder {
    /// Lets the node end without waiting until it has; the drop then waits.
    pub(crate) fn let_go(&mut self) {
        drop(self.lifeline.take());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.let_go();
        // Returns when the last process of the node is gone.
        let _ = waitpid(Pid::from_raw(self.namespaces.pid), None);
    }
}

/// Names of the steps of `hold`, for the message when one fails.
const STEPS: [&str; 9] = [
    "set the host name",
    "make mounts private",
    "mount /proc",
    "mount /sys",
    "open the lab's folder",
    "mount /run",
    "make the lab's folder in /run",
    "bind the lab's folder",
    "bind /var/log",
];

/// Everything the child needs, as C strings, made before the clone.
struct Plan {
    name: CString,
    lab: CString,
    /// The lab's folder and those above it, outermost first, below /run.
    folders: Vec<CString>,
    log: CString,
    proc_title: CString,
}

impl Plan {
    fn new(name: &str, mounts: &Mounts) -> Result<Self> {
        let mut folders: Vec<&Path> = mounts
            .lab
            .ancestors()
            .take_while(|path| *path != Path::new("/run"))
            .collect();
        if folders.len() == mounts.lab.ancestors().count() {
            return Err(Error::Invalid(format!(
                "the lab's folder {} is not below /run",
                mounts.lab.display()
            )));
        }
        folders.reverse();
        Ok(Self {
            name: c_string(name)?,
            lab: c_string(&mounts.lab.to_string_lossy())?,
            folders: folders
                .into_iter()
                .map(|path| c_string(&path.to_string_lossy()))
                .collect::<Result<_>>()?,
            log: c_string(&mounts.log.to_string_lossy())?,
            proc_title: c_string(&format!("lab:{name}"))?,
        })
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Invalid(format!("{text:?} holds a zero byte")))
}

/// The holder's life. Only system calls.
fn hold(plan: &Plan, lifeline: RawFd, status: RawFd) -> ! {
    // SAFETY: plain system calls; every pointer is a C string that `plan` or the program owns, or null where
    // the call allows it. The process has one thread and never returns from here.
    unsafe {
        keep_only(lifeline, status);
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, plan.proc_title.as_ptr());
        // Orphans of the node become our children; ignoring their end is what reaps them.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        let none: *const libc::c_char = ptr::null();
        let check = |step: u8, result: libc::c_int| {
            if result < 0 {
                fail(status, step);
            }
        };
        check(
            0,
            libc::sethostname(plan.name.as_ptr(), plan.name.as_bytes().len()),
        );
        check(
            1,
            libc::mount(
                none,
                c"/".as_ptr(),
                none,
                libc::MS_REC | libc::MS_PRIVATE,
                ptr::null(),
            ),
        );
        let hardened = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        check(
            2,
            libc::mount(
                c"proc".as_ptr(),
                c"/proc".as_ptr(),
                c"proc".as_ptr(),
                hardened,
                ptr::null(),
            ),
        );
        // A fresh sysfs shows the devices of the namespace it was mounted in.
        check(
            3,
            libc::mount(
                c"sysfs".as_ptr(),
                c"/sys".as_ptr(),
                c"sysfs".as_ptr(),
                hardened,
                ptr::null(),
            ),
        );
        // Whoever needs BPF will say so when it is missing.
        libc::mount(
            c"bpf".as_ptr(),
            c"/sys/fs/bpf".as_ptr(),
            c"bpf".as_ptr(),
            hardened,
            ptr::null(),
        );
        check(
            8,
            libc::mount(
                plan.log.as_ptr(),
                c"/var/log".as_ptr(),
                none,
                libc::MS_BIND,
                ptr::null(),
            ),
        );
        let folder = libc::open(
            plan.lab.as_ptr(),
            libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC,
        );
        check(4, folder);
        check(4, libc::fchdir(folder));
        let mode = c"mode=755".as_ptr().cast();
        check(
            5,
            libc::mount(
                c"tmpfs".as_ptr(),
                c"/run".as_ptr(),
                c"tmpfs".as_ptr(),
                libc::MS_NOSUID | libc::MS_NODEV,
                mode,
            ),
        );
        for path in &plan.folders {
            check(6, libc::mkdir(path.as_ptr(), 0o755));
        }
        // "." is still the folder that the new /run hides.
        check(
            7,
            libc::mount(
                c".".as_ptr(),
                plan.lab.as_ptr(),
                none,
                libc::MS_BIND,
                ptr::null(),
            ),
        );
        libc::chdir(c"/".as_ptr());
        libc::close(folder);
        libc::close(status);

        let mut byte = 0_u8;
        loop {
            let length = libc::read(lifeline, (&raw mut byte).cast(), 1);
            if length == 0 || (length < 0 && *libc::__errno_location() != libc::EINTR) {
                libc::_exit(0);
            }
        }
    }
}

/// Closes every descriptor but two: the maker's other pipes and sockets must not live on in here.
///
/// # Safety
/// Only for a process that uses no other descriptor.
unsafe fn keep_only(one: RawFd, two: RawFd) {
    let (low, high) = (one.min(two) as libc::c_uint, one.max(two) as libc::c_uint);
    // SAFETY: closing is all these do, and the caller gave up the descriptors.
    unsafe {
        if low > 0 {
            libc::syscall(libc::SYS_close_range, 0, low - 1, 0);
        }
        if high - low > 1 {
            libc::syscall(libc::SYS_close_range, low + 1, high - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, high + 1, libc::c_uint::MAX, 0);
    }
}

/// Tells the maker which step failed and why, and ends.
///
/// # Safety
/// Only right after a failed system call, in the holder.
unsafe fn fail(status: RawFd, step: u8) -> ! {
    // SAFETY: `report` lives through the call; `_exit` does not return.
    unsafe {
        let code = (*libc::__errno_location()).to_ne_bytes();
        let report = [step, code[0], code[1], code[2], code[3]];
        libc::write(status, report.as_ptr().cast(), report.len());
        libc::_exit(1)
    }
}
