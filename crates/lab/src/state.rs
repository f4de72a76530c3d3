//! What is written down about running labs, so that other commands find them.
//!
//! One file per lab, written by the process that keeps it. A lab exists while that process does; a file
//! whose process is gone is litter and is swept away by whoever comes across it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result, Step},
    hook::Hook,
    lab::{Lab, unknown_node},
    namespace::{Namespaces, start_time},
    node::Node,
    process::is_alive,
    topology::Topology,
};

/// Where labs are written down.
const REGISTRY: &str = "/run/furiwake/lab";

/// A process, named so that a later one with the same number is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
}

/// One lab as written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) supervisor: Identity,
    /// The holder of every node; empty while the lab is being built.
    pub(crate) nodes: BTreeMap<String, Identity>,
    pub(crate) topology: Topology,
    pub(crate) hook: Hook,
    pub(crate) ready_seconds: f64,
}

impl State {
    pub(crate) fn of(lab: &Lab) -> Self {
        Self {
            name: lab.name().to_owned(),
            supervisor: myself(),
            nodes: lab
                .nodes()
                .map(|node| (node.name().to_owned(), identity(node)))
                .collect(),
            topology: lab.topology().clone(),
            hook: lab.hook(),
            ready_seconds: lab.ready_in().as_secs_f64(),
        }
    }
}

/// The right to a name, and the files that go with it; dropping it removes them.
#[derive(Debug)]
pub(crate) struct Claim {
    name: String,
    folder: PathBuf,
    file: PathBuf,
}

impl Claim {
    /// Takes the name, unless a living lab has it.
    pub(crate) fn new(name: &str, topology: &Topology) -> Result<Self> {
        validate_name(name)?;
        let registry = Path::new(REGISTRY);
        fs::create_dir_all(registry).step(|| format!("make {REGISTRY}"))?;
        sweep_dead()?;
        let claim = PendingClaim {
            folder: registry.join(name),
            file: state_file(name),
        };
        let state = State {
            name: name.to_owned(),
            supervisor: myself(),
            nodes: BTreeMap::new(),
            topology: topology.clone(),
            hook: Hook::Auto,
            ready_seconds: 0.0,
        };
        let draft = registry.join(format!(".{name}.{}", std::process::id()));
        write(&draft, &state)?;
        // A link appears complete or not at all, and only one of two takers gets it.
        let linked = fs::hard_link(&draft, &claim.file);
        let _ = fs::remove_file(&draft);
        if is_taken(&linked) {
            return Err(Error::NameTaken {
                name: name.to_owned(),
            });
        }
        linked.step(|| format!("write {}", claim.file.display()))?;
        let _ = fs::remove_dir_all(&claim.folder);
        fs::create_dir(&claim.folder).step(|| format!("make {}", claim.folder.display()))?;
        Ok(Self {
            name: name.to_owned(),
            folder: claim.folder,
            file: claim.file,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes down what the lab has become.
    pub(crate) fn publish(&self, state: &State) -> Result<()> {
        let draft = self.folder.join("state.draft");
        write(&draft, state)?;
        fs::rename(&draft, &self.file).step(|| format!("write {}", self.file.display()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        sweep(&self.folder, &self.file);
    }
}

struct PendingClaim {
    folder: PathBuf,
    file: PathBuf,
}

/// A lab that another process keeps.
#[derive(Debug, Clone)]
pub struct Attached {
    pub(crate) state: State,
}

impl Attached {
    /// Finds a running lab by name.
    pub fn open(name: &str) -> Result<Self> {
        validate_name(name)?;
        match read(name) {
            Some(state) => Ok(Self { state }),
            None => {
                sweep_if_dead(name);
                Err(Error::NoSuchLab {
                    name: name.to_owned(),
                })
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        Path::new(REGISTRY).join(&self.state.name)
    }

    /// What it is made of.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.state.topology
    }

    /// The process that keeps it.
    #[must_use]
    pub fn supervisor(&self) -> i32 {
        self.state.supervisor.pid
    }

    /// Where its director was told to take packets.
    #[must_use]
    pub fn hook(&self) -> Hook {
        self.state.hook
    }

    /// A machine by its name.
    pub fn node(&self, name: &str) -> Result<Node> {
        let identity = self
            .state
            .nodes
            .get(name)
            .ok_or_else(|| unknown_node(name, self.state.nodes.keys()))?;
        let namespaces = Namespaces::of(identity.pid)?;
        if namespaces.start_time != identity.start_time {
            return Err(Error::NoSuchLab {
                name: self.state.name.clone(),
            });
        }
        Ok(Node::new(name, &self.folder(), Arc::new(namespaces)))
    }
}

/// All running labs, by name. Sweeps away what is left of dead ones.
pub fn list() -> Result<Vec<Attached>> {
    sweep_dead()?;
    let names = written()?.into_iter().filter_map(|path| name_in(&path));
    let mut labs: Vec<Attached> = names
        .filter_map(|name| {
            Some(Attached {
                state: read(&name)?,
            })
        })
        .collect();
    labs.sort_by(|one, other| one.name().cmp(other.name()));
    Ok(labs)
}

/// Every file and folder about labs.
fn written() -> Result<Vec<PathBuf>> {
    match fs::read_dir(REGISTRY) {
        Ok(entries) => Ok(entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).step(|| format!("read {REGISTRY}")),
    }
}

/// The lab about which a file was written.
fn name_in(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?.strip_suffix(".json")?;
    validate_name(name).ok()?;
    Some(name.to_owned())
}

/// Removes what labs left whose keepers had no time to.
fn sweep_dead() -> Result<()> {
    for path in written()? {
        let draft = || {
            let name = path.file_name()?.to_str()?.strip_prefix('.')?;
            name.rsplit_once('.')?.1.parse::<i32>().ok()
        };
        if let Some(name) = name_in(&path) {
            sweep_if_dead(&name);
        } else if draft().is_some_and(|pid| start_time(pid).is_none()) {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Removes what is written about a lab, unless its keeper lives. Only the keeper's name is read, which every
/// version of this program writes alike.
fn sweep_if_dead(name: &str) {
    #[derive(Deserialize)]
    struct Keeper {
        supervisor: Identity,
    }
    let file = state_file(name);
    let Ok(text) = fs::read(&file) else { return };
    let lives = serde_json::from_slice(&text)
        .is_ok_and(|Keeper { supervisor }| is_alive(supervisor.pid, supervisor.start_time));
    if !lives {
        sweep(&Path::new(REGISTRY).join(name), &file);
    }
}

/// Removes what is written about labs of this very process, which is about to end without dropping them.
pub fn forget_mine() {
    let Ok(labs) = list() else { return };
    for lab in labs.iter().filter(|lab| lab.state.supervisor == myself()) {
        sweep(&lab.folder(), &state_file(lab.name()));
    }
}

/// A lab as written down, if its keeper lives.
fn read(name: &str) -> Option<State> {
    let text = fs::read(state_file(name)).ok()?;
    let state: State = serde_json::from_slice(&text).ok()?;
    is_alive(state.supervisor.pid, state.supervisor.start_time).then_some(state)
}

fn write(path: &Path, state: &State) -> Result<()> {
    let text = serde_json::to_vec_pretty(state)
        .map_err(io::Error::from)
        .step(|| "describe the lab".into())?;
    fs::write(path, text).step(|| format!("write {}", path.display()))
}

fn sweep(folder: &Path, file: &Path) {
    let _ = fs::remove_dir_all(folder);
    let _ = fs::remove_file(file);
}

fn state_file(name: &str) -> PathBuf {
    Path::new(REGISTRY).join(format!("{name}.json"))
}

fn is_taken(linked: &io::Result<()>) -> bool {
    linked
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
}

fn myself() -> Identity {
    let pid = std::process::id() as i32;
    Identity {
        pid,
        start_time: start_time(pid).unwrap_or(0),
    }
}

fn identity(node: &Node) -> Identity {
    let namespaces = node.namespaces();
    Identity {
        pid: namespaces.pid,
        start_time: namespaces.start_time,
    }
}

/// A name becomes a folder and a part of socket paths.
fn validate_name(name: &str) -> Result<()> {
    let plain = name
        .chars()
        .all(|character| character.is_ascii_alphanumeric() || character == '-' || character == '_');
    if name.is_empty() || name.len() > 32 || !plain {
        return Err(Error::Invalid(format!(
            "lab name {name:?}: use 1 to 32 letters, digits, dashes and underscores"
        )));
    }
    Ok(())
}
