//! A node's namespaces, kept alive by one holder process and entered from outside.
//!
//! The holder is process 1 of its own pid namespace and reads from a pipe that only its maker can write
//! to. When the maker ends, in whatever way, the pipe closes, the holder ends, and the kernel kills every
//! process of the node and takes its interfaces away. Nothing is mounted or named outside, so nothing
//! can be left over.

mod enter;
mod hold;

pub(crate) use enter::{enter, enter_in_place};
pub(crate) use hold::{Holder, Mounts};

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    thread,
};

use nix::sched::{CloneFlags, setns};

use crate::error::{Result, Step};

/// Handles to the namespaces of a running holder; they stay valid for this node even if the number of the
/// process is used again.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Number of the holder on this machine.
    pub(crate) pid: i32,
    /// When the holder started, in ticks since boot.
    pub(crate) start_time: u64,
    process: OwnedFd,
    network: File,
}

impl Namespaces {
    /// Takes handles to the process `pid`.
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let process = pidfd_open(pid).step(|| format!("open process {pid}"))?;
        let path = format!("/proc/{pid}/ns/net");
        let network = File::open(&path).step(|| format!("open {path}"))?;
        let start_time = start_time(pid)
            .ok_or(io::Error::from(io::ErrorKind::NotFound))
            .step(|| format!("read /proc/{pid}/stat"))?;
        Ok(Self {
            pid,
            start_time,
            process,
            network,
        })
    }

    /// The holder, as something `setns` takes for all its namespaces at once.
    pub(crate) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// The network namespace.
    pub(crate) fn network(&self) -> BorrowedFd<'_> {
        self.network.as_fd()
    }

    /// Runs `work` on a thread of its own that has entered the network namespace; sockets made there stay
    /// there, whoever uses them later.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                setns(self.network(), CloneFlags::CLONE_NEWNET)?;
                Ok::<T, nix::Error>(work())
            });
            match entered.join() {
                Ok(result) => {
                    result.step(|| format!("enter the network namespace of process {}", self.pid))
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

/// When a process started, in clock ticks since boot; with the number it names a process for good.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold blanks; field 22 is what we want.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // A zombie has ended, though its line is still there.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A handle to a process that becomes readable when it ends.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers and gives a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
