//! A running lab.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use rustls::pki_types::CertificateDer;

use crate::{
    certificate,
    error::{Error, Result, Step},
    hook::Hook,
    namespace::{Holder, Mounts},
    node::{Node, node_folder},
    precondition,
    process::{Process, Program},
    program,
    state::{Claim, State},
    topology::{Role, Topology},
    wiring,
};

/// The node that holds the networks' bridges.
pub(crate) const SWITCH: &str = "switch";

/// A running lab. Dropping it removes everything.
#[derive(Debug)]
pub struct Lab {
    // Fields are dropped in this order: programs, then the nodes under them, then the files.
    programs: Mutex<BTreeMap<String, Running>>,
    /// What takes packets out of tunnels, on the servers at their far ends.
    decaps: Vec<Process>,
    nodes: BTreeMap<String, Node>,
    holders: Vec<Holder>,
    topology: Topology,
    hook: Hook,
    built_in: bool,
    ready_in: Duration,
    claim: Claim,
}

/// How a lab is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the lab; the topology's when not given.
    pub name: Option<String>,
    /// The `furiwake` program: director, `ipvsadm`, built-in web server.
    pub program: PathBuf,
    /// Where the director takes packets.
    pub hook: Hook,
    /// What runs on real servers.
    pub server: WebServer,
    /// Whether the director runs `furiwake run`; without, it is a plain router.
    pub director: bool,
    /// Whether the virtual services are made; without, that is left to whoever uses the lab.
    pub services: bool,
}

/// What runs on real servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebServer {
    /// `furiwake lab serve`, or another program that speaks sd_notify.
    BuiltIn(Vec<String>),
    /// A shell command line that ends up listening on port 80.
    Command(String),
    /// Nothing.
    None,
}

/// A program that a node is there to run, and its process unless it was broken.
#[derive(Debug)]
struct Running {
    program: Program,
    process: Option<Process>,
}

impl Options {
    /// The usual lab, with this `furiwake` program.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        let server = WebServer::BuiltIn(vec![
            program.display().to_string(),
            "lab".into(),
            "serve".into(),
        ]);
        Self {
            name: None,
            program,
            hook: Hook::Auto,
            server,
            director: true,
            services: true,
        }
    }
}

impl Lab {
    /// Builds the network, starts every program and makes the virtual services.
    pub fn up(topology: &Topology, options: &Options) -> Result<Self> {
        let started = Instant::now();
        precondition::require_root()?;
        wiring::validate(topology)?;
        let claim = Claim::new(options.name.as_deref().unwrap_or(&topology.name), topology)?;
        let program = options
            .program
            .canonicalize()
            .step(|| format!("find {}", options.program.display()))?;
        let mut lab =
            Self::build(topology, options, claim, &program).map_err(precondition::explain)?;
        lab.start_programs(options)?;
        if options.director && options.services {
            for command in topology
                .commands()
                .iter()
                .filter(|command| command.starts_with("ipvsadm"))
            {
                lab.director()?.must(command)?;
            }
        }
        lab.ready_in = started.elapsed();
        lab.claim.publish(&State::of(&lab))?;
        Ok(lab)
    }

    /// Everything but the programs.
    fn build(topology: &Topology, options: &Options, claim: Claim, program: &Path) -> Result<Self> {
        let names: Vec<&str> = topology
            .nodes
            .iter()
            .map(|machine| machine.name.as_str())
            .chain([SWITCH])
            .collect();
        make_folders(claim.folder(), &names, program)?;
        make_pages(claim.folder(), topology)?;
        certificate::make(claim.folder(), topology)?;

        let mut holders = Vec::new();
        let mut nodes = BTreeMap::new();
        for name in &names {
            let log = node_folder(claim.folder(), name).join("log");
            let holder = Holder::start(
                name,
                &Mounts {
                    lab: claim.folder().to_owned(),
                    log,
                },
            )?;
            nodes.insert(
                (*name).to_owned(),
                Node::new(name, claim.folder(), Arc::clone(&holder.namespaces)),
            );
            holders.push(holder);
        }
        wiring::connect(topology, &nodes)?;
        wiring::configure(topology, &nodes, options.hook, options.services)?;
        Ok(Self {
            programs: Mutex::default(),
            decaps: Vec::new(),
            nodes,
            holders,
            topology: topology.clone(),
            hook: options.hook,
            built_in: matches!(options.server, WebServer::BuiltIn(_)),
            ready_in: Duration::ZERO,
            claim,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.claim.name()
    }

    /// Its folder: one per node below `nodes`, and the director's control socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.claim.folder()
    }

    /// What it is made of.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Where the director was told to take packets.
    #[must_use]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Whether its servers take uploads and give downloads, as the built-in one does.
    #[must_use]
    pub fn serves_transfers(&self) -> bool {
        self.built_in
    }

    /// How long it took to be ready.
    #[must_use]
    pub fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// The certificate of every real server, to trust it.
    pub fn certificate(&self) -> Result<CertificateDer<'static>> {
        certificate::read(self.folder())
    }

    /// A machine by its name.
    pub fn node(&self, name: &str) -> Result<Node> {
        self.nodes
            .get(name)
            .cloned()
            .ok_or_else(|| unknown_node(name, self.nodes.keys()))
    }

    /// Every machine, and the switch.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The first director.
    pub fn director(&self) -> Result<Director> {
        Ok(Director {
            node: self.first(Role::Director)?,
        })
    }

    /// The first machine of a role.
    pub fn first(&self, role: Role) -> Result<Node> {
        let machine = self.topology.machines(role).next();
        let machine = machine
            .ok_or_else(|| Error::Invalid(format!("this lab has no {role:?}").to_lowercase()))?;
        self.node(&machine.name)
    }

    /// Kills the program of a node: its web server, or the daemon of a director.
    pub fn break_node(&self, name: &str) -> Result<()> {
        self.node(name)?;
        let mut programs = self.programs();
        let running = programs.get_mut(name).ok_or_else(|| nothing_runs(name))?;
        end(name, running)
    }

    /// Starts the program of a node again.
    pub fn mend_node(&self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        let mut programs = self.programs();
        let running = programs.get_mut(name).ok_or_else(|| nothing_runs(name))?;
        if running
            .process
            .as_mut()
            .is_none_or(|process| !process.is_running())
        {
            // Helpers of the one that ended may still hold its ports.
            end(name, running)?;
            running.process = Some(Process::start(&node, &running.program)?);
        }
        Ok(())
    }

    /// Sends a signal to the program of a node.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let mut programs = self.programs();
        let process = programs
            .get_mut(name)
            .and_then(|running| running.process.as_mut())
            .ok_or_else(|| nothing_runs(name))?;
        process
            .signal(signal)
            .step(|| format!("send {signal} to the program of {name}"))
    }

    /// Whether the program of a node runs; nothing when it is not there to run one.
    #[must_use]
    pub fn is_running(&self, name: &str) -> Option<bool> {
        let mut programs = self.programs();
        let running = programs.get_mut(name)?;
        Some(running.process.as_mut().is_some_and(Process::is_running))
    }

    /// Number on this machine of the process that is a node's program.
    #[must_use]
    pub fn program_pid(&self, name: &str) -> Option<i32> {
        self.programs()
            .get(name)?
            .process
            .as_ref()
            .map(Process::pid)
    }

    /// The file with the output of a node's program.
    #[must_use]
    pub fn program_log(&self, name: &str) -> Option<PathBuf> {
        let programs = self.programs();
        let running = programs.get(name)?;
        Some(
            self.nodes
                .get(name)?
                .folder()
                .join(format!("{}.log", running.program.name)),
        )
    }

    fn start_programs(&mut self, options: &Options) -> Result<()> {
        let mut plan = Vec::new();
        let mut decaps = Vec::new();
        for machine in &self.topology.nodes {
            let program = match machine.role {
                Role::Client | Role::Router => None,
                Role::Director if options.director => {
                    Some(program::director(self.folder(), options))
                }
                Role::Director => None,
                Role::Server => program::server(self.folder(), machine, options),
            };
            if let Some(program) = program {
                plan.push((self.node(&machine.name)?, program));
            }
            if let Some(words) = self.topology.decap(machine).filter(|_| options.director) {
                let program = program::decap(self.folder(), words);
                decaps.push((self.node(&machine.name)?, program));
            }
        }
        for (process, ..) in start_all(decaps) {
            self.decaps.push(process?);
        }
        let mut programs = self.programs();
        for (process, node, program) in start_all(plan) {
            programs.insert(
                node.name().to_owned(),
                Running {
                    program,
                    process: Some(process?),
                },
            );
        }
        drop(programs);
        Ok(())
    }

    fn programs(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // All at once, so that the end of many nodes takes no longer than that of the slowest.
        self.holders.iter_mut().for_each(Holder::let_go);
    }
}

/// The node that forwards.
#[derive(Debug, Clone)]
pub struct Director {
    node: Node,
}

impl Director {
    /// It as a machine.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Runs `ipvsadm` on it.
    pub fn ipvsadm(&self, arguments: &[&str]) -> Result<Output> {
        self.node
            .command("ipvsadm")
            .args(arguments)
            .output()
            .step(|| format!("run ipvsadm {}", arguments.join(" ")))
    }

    /// Runs `ipvsadm` on it and returns what it prints; a failure is an error.
    pub fn listing(&self, arguments: &[&str]) -> Result<String> {
        self.must(&format!("ipvsadm {}", arguments.join(" ")))
    }

    /// Runs a command line that has to succeed.
    fn must(&self, line: &str) -> Result<String> {
        let output = self.node.shell(line)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::Invalid(format!(
            "{line:?} on {} failed ({}): {}",
            self.node.name(),
            output.status,
            said.trim()
        )))
    }
}

/// The lab's folder: the programs' names in `bin`, and for every node its own files and /var/log.
fn make_folders(lab: &Path, nodes: &[&str], program: &Path) -> Result<()> {
    let bin = lab.join("bin");
    let logs = nodes.iter().flat_map(|node| {
        ["apache2", "nginx"].map(|server| node_folder(lab, node).join("log").join(server))
    });
    for folder in logs.chain([bin.clone()]) {
        fs::create_dir_all(&folder).step(|| format!("make {}", folder.display()))?;
    }
    for name in ["furiwake", "ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
        std::os::unix::fs::symlink(program, bin.join(name))
            .step(|| format!("link {name} to {}", program.display()))?;
    }
    Ok(())
}

/// A page with the server's name, for servers that serve files: SERVER_DIR/www/index.html.
fn make_pages(lab: &Path, topology: &Topology) -> Result<()> {
    for machine in topology.machines(Role::Server) {
        let folder = node_folder(lab, &machine.name).join("www");
        fs::create_dir(&folder).step(|| format!("make {}", folder.display()))?;
        let page = folder.join("index.html");
        fs::write(&page, format!("{}\n", machine.name))
            .step(|| format!("write {}", page.display()))?;
    }
    Ok(())
}

pub(crate) fn unknown_node<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let known = known.map(String::as_str).collect::<Vec<_>>().join(", ");
    Error::UnknownNode {
        name: name.to_owned(),
        known,
    }
}

/// Starts programs all at once and waits until each is ready.
fn start_all(plan: Vec<(Node, Program)>) -> Vec<(Result<Process>, Node, Program)> {
    thread::scope(|scope| {
        let threads: Vec<_> = plan
            .into_iter()
            .map(|(node, program)| {
                scope.spawn(move || (Process::start(&node, &program), node, program))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

/// Kills the program of a node, with helpers that may have outlived it.
fn end(name: &str, running: &mut Running) -> Result<()> {
    if let Some(process) = &mut running.process {
        process
            .kill()
            .step(|| format!("kill {} on {name}", running.program.name))?;
        running.process = None;
    }
    Ok(())
}

fn nothing_runs(name: &str) -> Error {
    Error::Invalid(format!(
        "{name} runs no program of the lab; break and mend are for real servers and directors"
    ))
}
