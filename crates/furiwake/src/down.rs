//! `furiwake down`: stop the director of this network namespace and remove every trace of it.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use furiwake_datapath::Datapath;
use nix::fcntl::{Flock, FlockArg};

use crate::{
    api::schema::Status,
    client::{self, Client, Socket},
    daemon::{environment, kept, lock},
};

/// How long a director may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `furiwake down` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    socket: Socket,

    /// Folder of the pins, if `furiwake run` was given one.
    #[arg(long, value_name = "DIRECTORY")]
    pins: Option<PathBuf>,
}

/// Stop, remove, and tell what was done, a line each.
pub(crate) fn run(options: &Options) -> anyhow::Result<String> {
    environment::check()?;
    let socket = &options.socket.path;
    let pins = match &options.pins {
        Some(pins) => pins.clone(),
        None => environment::default_pins()?,
    };
    let mut done = Vec::new();

    if let Some(pins) = options.pins.as_ref().filter(|pins| !pins.exists()) {
        bail!(
            "there are no pins in {}: name the folder that `furiwake run` was given",
            pins.display()
        );
    }
    lock::refuse_other_file(socket)?;
    // A socket is a path, which directors of several namespaces may see: only ours is to be stopped.
    let namespace = match lock::of_namespace("name its socket by --socket") {
        Ok(free) => free,
        Err(taken) => {
            stop(options, taken)?;
            done.push("stopped the director".to_owned());
            lock::of_namespace("name its socket by --socket")?
        }
    };
    let _pins = pins.exists().then(|| lock::of_pins(&pins)).transpose()?;
    // Without pins there may still be filters, on kernels that have no links at tc.
    if !pins.exists() || environment::on_bpffs(&pins)? {
        done.extend(Datapath::remove(&pins).context("cannot remove the data plane")?);
        environment::remove_empty_pins(&pins);
    }
    // Where somebody answers it is the socket of another namespace's director.
    if lock::refuse_live_socket(socket).is_ok() {
        for file in [
            socket.clone(),
            lock::lock_path(socket),
            kept::path_of(socket),
        ] {
            if fs::remove_file(&file).is_ok() {
                done.push(format!("removed {}", file.display()));
            }
        }
    }
    // The default folder is ours alone; another one, or what else is in there, is not.
    if let Some(folder) = socket
        .parent()
        .filter(|folder| folder.ends_with("run/furiwake"))
    {
        let _ = fs::remove_dir(folder);
    }
    drop(namespace);

    if done.is_empty() {
        done.push("no director here: nothing to remove".into());
    }
    Ok(done.join("\n") + "\n")
}

/// Stop the director that holds this namespace, if it is the one that the socket leads to; else say who holds it.
fn stop(options: &Options, taken: anyhow::Error) -> anyhow::Result<()> {
    let client = Client::new(options.socket.clone());
    let status: Status = match client.get("/api/v1/status") {
        Ok(status) => status,
        Err(client::Error::NoDirector { absent: true, .. }) => return Err(taken),
        Err(error) => return Err(error.into()),
    };
    let namespace =
        |process: &str| fs::metadata(format!("/proc/{process}/ns/net")).map(|m| m.ino());
    if namespace(&status.pid.to_string()).ok() != namespace("thread-self").ok() {
        return Err(taken);
    }
    client.post::<()>("/api/v1/stop", &())?;
    wait_for_end(&options.socket.path)
}

/// The lock of the socket is free once the daemon's process is at its end.
fn wait_for_end(socket: &Path) -> anyhow::Result<()> {
    let Ok(file) = File::open(lock::lock_path(socket)) else {
        return Ok(());
    };
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let lock = Flock::lock(file, FlockArg::LockExclusive);
        // Nobody may be waiting any more.
        let _ = ended.send(lock.is_ok());
    });
    match end.recv_timeout(PATIENCE) {
        Ok(_) => Ok(()),
        Err(_) => bail!(
            "the director was told to stop and has not within {} seconds: end its process (the pid is \
             in `furiwake status`) and try again",
            PATIENCE.as_secs()
        ),
    }
}
