//! One director per network namespace, per folder of pins and per socket.
//!
//! The first two locks are taken on what they protect, so they leave no file behind: an open namespace and
//! a folder of a bpffs can be locked like any file. The kernel drops a lock when its holder dies.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        fs::{FileTypeExt as _, OpenOptionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// What a running director holds.
#[derive(Debug)]
pub(crate) struct Locks {
    _namespace: Flock<File>,
    _pins: Flock<File>,
    _socket: Flock<File>,
}

impl Locks {
    /// Take all three, or say which is taken.
    pub(crate) fn take(socket: &Path, pins: &Path) -> anyhow::Result<Self> {
        let namespace =
            of_namespace("see it with `furiwake status`, stop it with `furiwake down`")?;
        let pins_lock = of_pins(pins)?;
        let lock_path = lock_path(socket);
        refuse_other_file(socket)?;
        // Others must not open it: who can may hold its lock.
        let lock_file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&lock_path)
            .with_context(|| format!("cannot open {}", lock_path.display()))?;
        let socket_lock = take(&lock_file, || {
            format!(
                "another director uses the socket {}: choose another by --socket",
                socket.display()
            )
        })?;
        refuse_live_socket(socket)?;
        Ok(Self {
            _namespace: namespace,
            _pins: pins_lock,
            _socket: socket_lock,
        })
    }
}

/// Take the lock of the network namespace we are in; if it is taken, say what to do.
pub(crate) fn of_namespace(remedy: &str) -> anyhow::Result<Flock<File>> {
    let place = "/proc/thread-self/ns/net";
    let namespace = File::open(place).with_context(|| format!("cannot open {place}"))?;
    take(&namespace, || {
        format!("another director runs in this network namespace: {remedy}")
    })
}

/// The file that is locked for a socket.
pub(crate) fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn take(file: &File, taken: impl FnOnce() -> String) -> anyhow::Result<Flock<File>> {
    let file = file.try_clone().context("cannot copy a file descriptor")?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => bail!(taken()),
        Err((_, error)) => Err(error).context("cannot take a lock"),
    }
}

/// Take the lock of a folder of pins.
pub(crate) fn of_pins(pins: &Path) -> anyhow::Result<Flock<File>> {
    take(
        &File::open(pins).with_context(|| format!("cannot open {}", pins.display()))?,
        || {
            format!(
                "another director uses the pins in {}: choose others by --pins",
                pins.display()
            )
        },
    )
}

/// A file that is no socket is not ours to replace.
pub(crate) fn refuse_other_file(socket: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => bail!(
            "{} is there and is no socket: choose another by --socket",
            socket.display()
        ),
        _ => Ok(()),
    }
}

/// A socket that somebody answers on is not ours to take, whoever that is.
pub(crate) fn refuse_live_socket(socket: &Path) -> anyhow::Result<()> {
    match UnixStream::connect(socket) {
        Ok(_) => bail!(
            "somebody listens on {} already: choose another by --socket",
            socket.display()
        ),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(())
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot use {} as a socket", socket.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn a_lock_is_exclusive_until_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || File::open(folder.path()).expect("opens");
        let first = take(&open(), || "taken".into()).expect("is free");
        let error = take(&open(), || "taken".into()).expect_err("is taken");
        assert_eq!(error.to_string(), "taken");
        drop(first);
        take(&open(), || "taken".into()).expect("is free again");
    }

    #[test]
    fn a_live_socket_is_refused_and_a_stale_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control.sock");
        refuse_live_socket(&path).expect("nothing there");
        let listener = UnixListener::bind(&path).expect("binds");
        let error = refuse_live_socket(&path).expect_err("somebody is there");
        assert!(error.to_string().contains("somebody listens"), "{error}");
        drop(listener);
        refuse_live_socket(&path).expect("nobody is there any more");
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("important.conf");
        fs::write(&path, "keep me").expect("writes");
        let error = refuse_other_file(&path).expect_err("is refused");
        assert!(error.to_string().contains("is no socket"), "{error}");
        let error = crate::api::bind(&path).expect_err("is refused");
        assert!(error.to_string().contains("is no socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("is there"), "keep me");
    }

    #[test]
    fn a_network_namespace_has_room_for_one_director() {
        let first = of_namespace("stop it").expect("is free");
        let error = of_namespace("stop it").expect_err("is taken");
        assert_eq!(
            error.to_string(),
            "another director runs in this network namespace: stop it"
        );
        // Another namespace has room of its own.
        let elsewhere = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root: ./test");
            of_namespace("stop it").is_ok()
        });
        assert!(elsewhere.join().expect("no panic"));
        drop(first);
    }
}
