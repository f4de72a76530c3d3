//! A program running in a node: started with a log, known to be ready, sent signals, ended.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, getpgid, pipe2},
};

use crate::{
    error::{Error, Result, Step},
    namespace::{pidfd_open, start_time},
    node::Node,
};

/// What to start, and how to know that it serves.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// For messages and for the name of the log.
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) words: Vec<String>,
    /// Added to the environment.
    pub(crate) environment: Vec<(String, String)>,
    /// When it counts as started.
    pub(crate) ready: Ready,
}

/// When a program counts as started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// It says so by sd_notify.
    Notifies,
    /// Something in the node listens on this TCP port.
    Listens(u16),
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: OwnedFd,
    pid: i32,
    /// Number on this machine of the node's first process.
    holder: i32,
    log: PathBuf,
}

/// Longest wait for a program to become ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest wait for a killed program to be gone; only the kernel can keep it, for example in a stuck file system.
const PATIENCE_WITH_KILLED: Duration = Duration::from_secs(5);

impl Process {
    /// Starts a program and waits until it is ready.
    pub(crate) fn start(node: &Node, program: &Program) -> Result<Self> {
        let log = node.folder().join(format!("{}.log", program.name));
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .step(|| format!("open {}", log.display()))?;
        let errors = output
            .try_clone()
            .step(|| format!("open {}", log.display()))?;
        let (read, write) = pipe2(OFlag::O_CLOEXEC).step(|| "pipe".into())?;

        let notify_path = node.folder().join(format!("{}.notify", program.name));
        let notify = match program.ready {
            Ready::Notifies => {
                let _ = fs::remove_file(&notify_path);
                let socket = UnixDatagram::bind(&notify_path)
                    .step(|| format!("make {}", notify_path.display()))?;
                Some(socket)
            }
            Ready::Listens(_) => None,
        };

        let Some((first, arguments)) = program.words.split_first() else {
            return Err(Error::Invalid(format!(
                "{}: the command is empty",
                program.name
            )));
        };
        let mut command = node.command_reporting(first, Some(write));
        command
            .args(arguments)
            .envs(
                program
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        if notify.is_some() {
            command.env("NOTIFY_SOCKET", &notify_path);
        }
        let child = command.spawn().map_err(|error| Error::Program {
            program: first.clone(),
            node: node.name().to_owned(),
            problem: format!("could not be started: {error}"),
            log_tail: String::new(),
            log: log.clone(),
        })?;
        drop(command);

        let mut number = [0; 4];
        File::from(read)
            .read_exact(&mut number)
            .step(|| format!("learn the number of {first}"))?;
        let ended = pidfd_open(child.id() as i32).step(|| format!("watch {first}"))?;
        let mut process = Self {
            child,
            ended,
            pid: i32::from_ne_bytes(number),
            holder: node.namespaces().pid,
            log,
        };
        let result = match (program.ready, &notify) {
            (Ready::Notifies, Some(socket)) => process.await_notification(socket),
            (Ready::Listens(port), _) => process.await_listener(node, port),
            (Ready::Notifies, None) => Ok(()),
        };
        let _ = fs::remove_file(&notify_path);
        match result {
            Ok(()) => Ok(process),
            Err(problem) => Err(Error::Program {
                program: program.words.join(" "),
                node: node.name().to_owned(),
                problem,
                log_tail: tail(&process.log),
                log: process.log.clone(),
            }),
        }
    }

    /// Its number on this machine (inside the node it has another).
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The file that takes its output.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        // While the go-between has not been waited for, the number cannot have been used again.
        if !self.is_running() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(kill(Pid::from_raw(self.pid), signal)?)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Kills it with all its helpers, as power failure would, and waits until they are gone. Helpers that
    /// outlived it are killed, too: they would go on serving.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        let group = Pid::from_raw(self.pid);
        // A group's number is free for others once its last member is gone.
        let ours = self.is_running() || self.has_helpers();
        let deadline = Instant::now() + PATIENCE_WITH_KILLED;
        // Helpers are children of the node's first process, which nobody can wait for on our behalf.
        while ours && killpg(group, Signal::SIGKILL).is_ok() {
            if Instant::now() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "processes of group {group} are still there {} s after SIGKILL: `ps -o pid,stat,wchan,args -s {group}` shows where",
                        PATIENCE_WITH_KILLED.as_secs()
                    ),
                ));
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.child.wait()
    }

    /// Whether a process of its group lives in the node, and not a group of others that was given the same number.
    fn has_helpers(&self) -> bool {
        if killpg(Pid::from_raw(self.pid), None).is_err() {
            return false;
        }
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(node) = namespace(self.holder) else {
            return false;
        };
        fs::read_dir("/proc").is_ok_and(|entries| {
            entries
                .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
                .any(|pid| {
                    group_of(pid) == Some(self.pid) && namespace(pid).as_ref() == Some(&node)
                })
        })
    }

    fn await_notification(&mut self, socket: &UnixDatagram) -> std::result::Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut events = [
                PollFd::new(socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut events, timeout) {
                Ok(0) => return Err(format!("was not ready after {} s", PATIENCE.as_secs())),
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(format!("could not be watched: {error}")),
            }
            let readable =
                |event: &PollFd<'_>| event.revents().is_some_and(|flags| !flags.is_empty());
            if readable(&events[0]) {
                let mut message = [0; 4096];
                let length = socket
                    .recv(&mut message)
                    .map_err(|error| error.to_string())?;
                if message[..length]
                    .split(|byte| *byte == b'\n')
                    .any(|line| line == b"READY=1")
                {
                    return Ok(());
                }
            } else if readable(&events[1]) {
                return Err(self.last_word());
            }
        }
    }

    /// Nothing tells of another program's listening socket, so this asks every few milliseconds; connecting
    /// to it would leave traces in its log.
    fn await_listener(&mut self, node: &Node, port: u16) -> std::result::Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !node.listens(port) {
            if !self.is_running() {
                return Err(self.last_word());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "does not listen on port {port} after {} s",
                    PATIENCE.as_secs()
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn last_word(&mut self) -> String {
        match self.child.wait() {
            Ok(status) => format!("ended before it was ready ({status})"),
            Err(error) => format!("ended before it was ready ({error})"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Whether the process that had this number and start time still runs.
pub(crate) fn is_alive(pid: i32, started: u64) -> bool {
    start_time(pid) == Some(started)
}

/// The process group of a process.
fn group_of(pid: i32) -> Option<i32> {
    let group = getpgid(Some(Pid::from_raw(pid))).ok()?;
    Some(group.as_raw())
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..]
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect()
}
