//! The daemon: what `furiwake run` runs.
//!
//! ```text
//!                      Request                        Event
//!   API task  ───────────────────▶  director  ◀───────────────────  netlink task
//!   (axum on the Unix socket)       │  │   ▲                        (rtnetlink: links,
//!             ◀───────────────────  │  │   └─ timers, signals        neighbours, routes)
//!                      reply        │  └───────────────────────────▶
//!                                   │             Query
//!                                   ▼
//!                               data plane  (only the director touches it)
//! ```
//!
//! Everything runs on one thread: the work is rare and short, and the data plane does not wait for us.
//! SIGTERM and SIGINT end the daemon and leave forwarding as it is; `furiwake down` ends that, too.

pub(crate) mod data_plane;
pub(crate) mod director;
pub(crate) mod environment;
mod estimator;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod kept;
pub(crate) mod lock;
pub(crate) mod netlink;
pub(crate) mod next_hop;
pub(crate) mod operate;
pub(crate) mod options;
#[cfg(test)]
pub(crate) mod rig;
pub(crate) mod systemd;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use furiwake_datapath::Datapath;
use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::timeout,
};
use tracing::{error, info};

use self::{
    director::{Channels, Director},
    kept::Kept,
    lock::Locks,
    netlink::Netlink,
    next_hop::Link,
    options::{LogFormat, Options, Selection},
    systemd::ServiceManager,
};
use crate::api::{self, Asker};

/// How long answers that were begun may take when the daemon stops.
const GRACE: Duration = Duration::from_secs(2);
/// Messages that may wait for the director.
const QUEUE: usize = 256;

/// Run a director until it is told to stop.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    log_to_stderr(options.log_format);
    environment::check()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(direct(options))
}

async fn direct(options: &Options) -> anyhow::Result<()> {
    let (events, events_in) = mpsc::channel(QUEUE);
    let (queries, queries_in) = mpsc::unbounded_channel();
    let (requests, requests_in) = mpsc::channel(QUEUE);
    let (stop, stopped) = watch::channel(false);

    let netlink = Netlink::open(events, queries_in)?;
    let selection = Selection::new(&options.interfaces, &options.hooks);
    let links = netlink.links().await?;
    selection.check(links.iter())?;

    let socket = options.socket.path.as_path();
    let pins = match &options.pins {
        Some(pins) => pins.clone(),
        None => environment::default_pins()?,
    };
    make_folder_of(socket)?;
    let new_pins = !pins.exists();
    environment::prepare_pins(&pins)?;
    let locks = Locks::take(socket, &pins).inspect_err(|_| {
        // A folder that was there may be about to be used.
        if new_pins {
            environment::remove_empty_pins(&pins);
        }
    })?;

    let plane = Datapath::open(&furiwake_datapath::Options {
        pin_directory: pins.clone(),
        connections: options.connections,
    })
    .inspect_err(|_| environment::remove_empty_pins(&pins))
    .context("cannot load the data plane")?;
    let channels = Channels {
        requests: requests_in,
        events: events_in,
        queries,
    };
    let manager = ServiceManager::from_environment();
    let mut director = Director::new(
        plane,
        selection,
        channels,
        manager,
        now(),
        Kept::beside(socket),
    );
    let started = start(&mut director, &links, socket);
    let (listener, signals) = match started {
        Ok(started) => started,
        Err(failure) => {
            // What is new goes again, so that nothing forwards that nobody looks after.
            let adopted = director.adopted();
            drop(director);
            let _ = fs::remove_file(socket);
            if !adopted {
                if let Err(error) = Datapath::remove(&pins) {
                    error!(%error, "cannot remove the new data plane: try `furiwake down`");
                }
                environment::remove_empty_pins(&pins);
            }
            return Err(failure);
        }
    };
    info!(socket = %socket.display(), pins = %pins.display(), "director runs");
    let api = tokio::spawn(api::serve(listener, Asker::new(requests.clone()), stopped));
    let netlink = tokio::spawn(async {
        if let Err(failure) = netlink.run().await {
            error!(
                error = format!("{failure:#}"),
                "cannot follow the kernel's routing"
            );
        }
    });
    let signals = tokio::spawn(signals.run(requests));

    let result = director.run().await;
    signals.abort();
    netlink.abort();
    let _ = stop.send(true);
    if timeout(GRACE, api).await.is_err() {
        info!("some answers were not finished");
    }
    // Before the locks go: afterwards the socket could be another director's.
    let _ = fs::remove_file(socket);
    drop(locks);
    result
}

/// Everything that can fail, interfaces last.
fn start(
    director: &mut Director<Datapath>,
    links: &[Link],
    socket: &Path,
) -> anyhow::Result<(UnixListener, Signals)> {
    let listener = api::bind(socket)?;
    let signals = Signals::listen()?;
    director.attach_all(links)?;
    Ok((listener, signals))
}

/// The task that turns signals into requests.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn run(mut self, requests: mpsc::Sender<director::Request>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => info!("SIGHUP: nothing to reload yet"),
            }
        }
        let (reply, stopped) = tokio::sync::oneshot::channel();
        // A director that is gone has stopped.
        let _ = requests.send(director::Request::Stop(reply)).await;
        let _ = stopped.await;
    }
}

fn make_folder_of(socket: &Path) -> anyhow::Result<()> {
    match socket.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder of the socket, {}", folder.display())),
        _ => Ok(()),
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn log_to_stderr(format: LogFormat) {
    use std::io::IsTerminal as _;
    use tracing_subscriber::{
        EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
    };

    let filter = EnvFilter::try_from_env("FURIWAKE_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,netlink_proto=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => registry
            .with(
                layer
                    .with_target(false)
                    .with_ansi(std::io::stderr().is_terminal()),
            )
            .init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
}
