//! A machine of a running lab, seen from outside.

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};

use crate::{
    error::{Result, Step},
    namespace::{Namespaces, enter, enter_in_place},
    netlink::Netlink,
    process::{Process, Program, Ready},
};

/// A machine of a running lab. Cheap to clone; holding one does not keep the machine alive.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    folder: PathBuf,
    namespaces: Arc<Namespaces>,
    environment: Arc<Vec<(OsString, OsString)>>,
}

impl Node {
    pub(crate) fn new(name: &str, lab: &Path, namespaces: Arc<Namespaces>) -> Self {
        let bin = lab.join("bin");
        let path =
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)))
            .unwrap_or(path);
        let environment = vec![
            ("PATH".into(), path),
            ("FURIWAKE_SOCKET".into(), control_socket(lab).into()),
            (
                "FURIWAKE_LAB".into(),
                lab.file_name().unwrap_or_default().into(),
            ),
            ("FURIWAKE_NODE".into(), name.into()),
        ];
        Self {
            name: name.to_owned(),
            folder: node_folder(lab, name),
            namespaces,
            environment: Arc::new(environment),
        }
    }

    /// Its host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its private folder, the same path inside and outside. Logs of programs lie here.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the node sees as /var/log.
    #[must_use]
    pub fn log_folder(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Number on this machine of the process that holds the node's namespaces.
    #[must_use]
    pub fn holder(&self) -> i32 {
        self.namespaces.pid
    }

    /// A command that will run inside the node, with the lab's `furiwake` and `ipvsadm` first in PATH.
    ///
    /// Use it as any other; killing the child kills the program. Its number is that of a go-between.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.command_reporting(program, None)
    }

    /// Replaces the calling process, which must have one thread, by one that runs `program` in the node and
    /// ends as it ends. Returns only with an error.
    pub fn exec(&self, program: impl AsRef<OsStr>, arguments: &[OsString]) -> std::io::Error {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(self.environment.iter().cloned());
        enter_in_place(command, Arc::clone(&self.namespaces), &current_folder())
    }

    /// Starts a program that runs until it is killed or the lab ends, once `port` is listened on.
    pub fn start_listener(&self, name: &str, words: &[&str], port: u16) -> Result<Process> {
        let program = Program {
            name: name.to_owned(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            environment: Vec::new(),
            ready: Ready::Listens(port),
        };
        Process::start(self, &program)
    }

    /// Runs a shell command line inside the node and collects its output.
    pub fn shell(&self, line: &str) -> Result<Output> {
        self.command("/bin/sh")
            .args(["-c", line])
            .output()
            .step(|| format!("run {line:?} on {}", self.name))
    }

    /// Runs `work` on a thread of its own inside the node's network namespace. Sockets made there belong to
    /// the node, whoever uses them later.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespaces.run(work)
    }

    /// Switches an interface on or off, as pulling the cable would.
    pub fn set_link(&self, interface: &str, up: bool) -> Result<()> {
        self.run(|| Netlink::open()?.set_up(interface, up))?
            .step(|| {
                format!(
                    "switch {interface} of {} {}",
                    self.name,
                    if up { "on" } else { "off" }
                )
            })
    }

    /// The hardware address of an interface, as text.
    #[must_use]
    pub fn mac(&self, interface: &str) -> Option<String> {
        let is_it = |own: &InterfaceAddress| {
            own.interface_name == interface
                && own
                    .address
                    .is_some_and(|address| address.as_link_addr().is_some())
        };
        let own = self.run(|| getifaddrs().ok()?.find(is_it)).ok()??;
        let [a, b, c, d, e, f] = own.address?.as_link_addr()?.addr()?;
        Some(format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
    }

    /// The hardware address to which the node sends what is for a neighbour, as text.
    #[must_use]
    pub fn neighbour(&self, address: Ipv4Addr) -> Option<String> {
        let table = fs::read_to_string(format!("/proc/{}/net/arp", self.namespaces.pid)).ok()?;
        let address = address.to_string();
        let mut rows = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.first() == Some(&address.as_str()))?;
        row.get(3).map(|mac| (*mac).to_owned())
    }

    /// Whether something in the node listens on this TCP port.
    #[must_use]
    pub fn listens(&self, port: u16) -> bool {
        let port = format!(":{port:04X}");
        ["tcp", "tcp6"].iter().any(|table| {
            let table = fs::read_to_string(format!("/proc/{}/net/{table}", self.namespaces.pid))
                .unwrap_or_default();
            table.lines().any(|line| {
                let mut fields = line.split_whitespace().skip(1);
                let local = fields
                    .next()
                    .is_some_and(|address| address.ends_with(&port));
                local && fields.nth(1) == Some("0A")
            })
        })
    }

    pub(crate) fn command_reporting(
        &self,
        program: impl AsRef<OsStr>,
        report: Option<OwnedFd>,
    ) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment.iter().cloned());
        enter(
            &mut command,
            Arc::clone(&self.namespaces),
            &current_folder(),
            report,
        );
        command
    }

    pub(crate) fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }
}

/// The folder of a node in the folder of its lab.
pub(crate) fn node_folder(lab: &Path, node: &str) -> PathBuf {
    lab.join("nodes").join(node)
}

/// The control socket of the lab's director.
pub(crate) fn control_socket(lab: &Path) -> PathBuf {
    lab.join("control.sock")
}

fn current_folder() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| "/".into())
}
