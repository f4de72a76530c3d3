//! Starting programs inside a node.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::Path,
    process::Command,
    sync::Arc,
};

use super::Namespaces;

/// Makes `command` run inside the node.
///
/// A process enters a pid namespace only by being born there, so what the caller starts is a go-between:
/// it enters, forks the program, waits, and ends as the program ended. Kill the go-between and the
/// kernel kills the program.
///
/// `report` receives the program's number on this machine, four bytes; the program then leads a session of
/// its own, so that Ctrl-C at a terminal is not meant for it and its helpers can be found by their group.
pub(crate) fn enter(
    command: &mut Command,
    node: Arc<Namespaces>,
    folder: &Path,
    report: Option<OwnedFd>,
) {
    // A path with a zero byte does not exist; the program then starts in the root folder.
    let folder = CString::new(folder.as_os_str().as_bytes()).unwrap_or_default();
    let step = move || {
        let report = report.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        split(node.process(), &folder, report)
    };
    // SAFETY: `split` makes only system calls, as code between fork and exec must.
    unsafe { command.pre_exec(step) };
}

/// Turns the calling process into the go-between and runs `command` inside the node; returns only when
/// that could not be done. The process must have one thread.
pub(crate) fn enter_in_place(
    mut command: Command,
    node: Arc<Namespaces>,
    folder: &Path,
) -> io::Error {
    enter(&mut command, node, folder, None);
    command.exec()
}

fn split(node: BorrowedFd<'_>, folder: &CString, report: RawFd) -> io::Result<()> {
    let all = libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    // SAFETY: system calls on numbers and on a C string the caller owns; the process has one thread, and the
    // go-between never returns into code that could use what was closed.
    unsafe {
        if libc::setns(node.as_raw_fd(), all) < 0 {
            return Err(io::Error::last_os_error());
        }
        // What the caller blocks for its own purposes is not the program's business.
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        // Entering the mounts moved us to the root folder.
        libc::chdir(folder.as_ptr());
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if report >= 0 {
                    libc::setsid();
                }
                Ok(())
            }
            program => {
                if report >= 0 {
                    let number = program.to_ne_bytes();
                    libc::write(report, number.as_ptr().cast(), number.len());
                }
                wait_for(program)
            }
        }
    }
}

/// Waits for the program and ends as it ended.
///
/// # Safety
/// Only in a process that does nothing else any more.
unsafe fn wait_for(program: libc::pid_t) -> ! {
    // SAFETY: system calls on numbers and a local variable.
    unsafe {
        // Pipes to the program must close when the program closes them, and errors of exec end by EOF.
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        // Ctrl-C reaches the whole foreground group; what it means is the program's decision.
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGQUIT, libc::SIG_IGN);
        let mut status = 0;
        while libc::waitpid(program, &raw mut status, 0) < 0 {
            if *libc::__errno_location() != libc::EINTR {
                libc::_exit(127);
            }
        }
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            libc::signal(signal, libc::SIG_DFL);
            libc::kill(libc::getpid(), signal);
            libc::_exit(128 + signal);
        }
        libc::_exit(libc::WEXITSTATUS(status))
    }
}
