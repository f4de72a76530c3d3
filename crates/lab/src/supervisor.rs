//! Keeping a lab in the background, and talking to whoever keeps it.
//!
//! The keeper listens on a Unix socket in the lab's folder. One line of JSON asks, one line answers.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    check::attached,
    error::{Error, Result, Step},
    lab::Lab,
    state::Attached,
    topology::Role,
};

/// What can be asked of the keeper of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How is everyone?
    Status,
    /// Kill the program of this node.
    Break(String),
    /// Start it again.
    Mend(String),
    /// End the lab.
    Down,
}

/// What the keeper answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Done.
    Done,
    /// The state of everything.
    Status(Status),
    /// Not done, and why.
    Refused(String),
}

/// The state of a lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The process that keeps it.
    pub supervisor: u32,
    /// How long it took to be ready.
    pub ready_seconds: f64,
    /// Where packets are taken on each interface of the director.
    pub attached: BTreeMap<String, String>,
    /// Every node by its name.
    pub nodes: BTreeMap<String, NodeStatus>,
}

/// The state of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// What it is there for; nothing for the switch.
    pub role: Option<Role>,
    /// Its interfaces with their addresses.
    pub addresses: BTreeMap<String, String>,
    /// The process that holds its namespaces.
    pub holder: i32,
    /// Whether its program runs; nothing when it has none.
    pub running: Option<bool>,
    /// Its program's number on this machine.
    pub program: Option<i32>,
    /// Where its program's output goes.
    pub log: Option<PathBuf>,
}

/// Longest wait for an answer; mending a node waits for its program to be ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest request.
const MOST: u64 = 64 * 1024;

/// A socket for a lab, ready to be asked before anyone is told that the lab is.
#[derive(Debug)]
pub struct Supervisor {
    lab: Lab,
    listener: UnixListener,
}

impl Supervisor {
    /// Opens the socket.
    pub fn new(lab: Lab) -> Result<Self> {
        let path = socket_path(lab.folder());
        let listener =
            UnixListener::bind(&path).step(|| format!("listen on {}", path.display()))?;
        Ok(Self { lab, listener })
    }

    /// The lab.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Answers requests until the lab is to end, and ends it. Whoever asked for the end hears of it when
    /// everything is gone.
    pub fn run(self) -> Result<()> {
        let Self { lab, listener } = self;
        let (end, ended) = mpsc::channel();
        let last = thread::scope(|scope| {
            let lab = &lab;
            loop {
                let (stream, _) = listener.accept().step(|| "take a request".into())?;
                let end = end.clone();
                scope.spawn(move || serve(lab, stream, &end));
                // A request to end comes in by the thread just started; wait for it only as long as it reads.
                match ended.recv() {
                    Ok(Some(last)) => return Ok::<UnixStream, Error>(last),
                    Ok(None) => {}
                    Err(_) => {
                        return Err(Error::Invalid(
                            "the lab's keeper lost its own channel".into(),
                        ));
                    }
                }
            }
        })?;
        drop(lab);
        // Whoever asked may have gone away; the lab is down all the same.
        let _ = reply(&last, &Response::Done);
        Ok(())
    }
}

/// Reads one request and answers it; sends on whether it was the last, with the stream to answer on.
fn serve(lab: &Lab, stream: UnixStream, end: &mpsc::Sender<Option<UnixStream>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let request = read_line(&stream).and_then(|line| Ok(serde_json::from_str(&line)?));
    if matches!(request, Ok(Request::Down)) {
        let _ = end.send(Some(stream));
        return;
    }
    let _ = end.send(None);
    let response = match request {
        Ok(request) => respond(lab, &request),
        Err(error) => Response::Refused(format!("not a request: {error}")),
    };
    let _ = reply(&stream, &response);
}

fn respond(lab: &Lab, request: &Request) -> Response {
    let done = match request {
        Request::Status => {
            return status(lab).map_or_else(
                |error| Response::Refused(error.to_string()),
                Response::Status,
            );
        }
        Request::Break(node) => lab.break_node(node),
        Request::Mend(node) => lab.mend_node(node),
        Request::Down => Ok(()),
    };
    done.map_or_else(
        |error| Response::Refused(error.to_string()),
        |()| Response::Done,
    )
}

/// How everyone in a lab is.
pub fn status(lab: &Lab) -> Result<Status> {
    let nodes = lab.nodes().map(|node| {
        let machine = lab.topology().machine(node.name());
        let addresses = machine
            .map(|machine| machine.interfaces.as_slice())
            .unwrap_or_default();
        let status = NodeStatus {
            role: machine.map(|machine| machine.role),
            addresses: addresses
                .iter()
                .map(|interface| (interface.name.clone(), interface.address.to_string()))
                .collect(),
            holder: node.holder(),
            running: lab.is_running(node.name()),
            program: lab.program_pid(node.name()),
            log: lab.program_log(node.name()),
        };
        (node.name().to_owned(), status)
    });
    Ok(Status {
        name: lab.name().to_owned(),
        supervisor: std::process::id(),
        ready_seconds: lab.ready_in().as_secs_f64(),
        attached: attached(lab)?.into_iter().collect(),
        nodes: nodes.collect(),
    })
}

impl Attached {
    /// Whether somebody keeps it who can be asked.
    #[must_use]
    pub fn is_in_background(&self) -> bool {
        socket_path(&self.folder()).exists()
    }

    /// Asks the keeper of the lab.
    pub fn ask(&self, request: &Request) -> Result<Response> {
        let path = socket_path(&self.folder());
        let exchange = || {
            let stream = UnixStream::connect(&path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut line = serde_json::to_string(request)?;
            line.push('\n');
            (&stream).write_all(line.as_bytes())?;
            Ok::<Response, io::Error>(serde_json::from_str(&read_line(&stream)?)?)
        };
        match exchange() {
            Ok(Response::Refused(reason)) => Err(Error::Invalid(reason)),
            Ok(response) => Ok(response),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Invalid(format!(
                "lab {:?} is not kept in the background but by process {} (lab run, or a test), which alone can do that; Ctrl-C there, or `kill {}`, ends the lab",
                self.name(),
                self.supervisor(),
                self.supervisor()
            ))),
            Err(error) => Err(error).step(|| {
                format!(
                    "ask the keeper of lab {:?} at {}",
                    self.name(),
                    path.display()
                )
            }),
        }
    }
}

fn socket_path(lab: &Path) -> PathBuf {
    lab.join("supervisor.sock")
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(MOST)).read_line(&mut line)?;
    Ok(line)
}

fn reply(mut stream: &UnixStream, response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_string(response)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}
