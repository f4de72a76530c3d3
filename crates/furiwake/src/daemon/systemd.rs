//! `sd_notify`: telling the service manager that we are ready, alive, or stopping.

use std::{
    env,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    time::Duration,
};

/// The service manager, if we were started by one that wants to know.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    pub(crate) fn from_environment() -> Self {
        let to = env::var("NOTIFY_SOCKET").ok().and_then(|name| {
            // A leading @ stands for the zero byte of an abstract address.
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(Path::new(&name)),
            };
            Some((UnixDatagram::unbound().ok()?, address.ok()?))
        });
        let watchdog = env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|micros| micros.parse().ok())
            .map(Duration::from_micros);
        Self { to, watchdog }
    }

    /// How often [`ServiceManager::alive`] must be called, if at all; half of what would be too late.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|timeout| timeout / 2)
    }

    /// The data plane is attached and the socket is open.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The control loop turns.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// The end is near.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.to {
            // Nothing to do about a manager that does not listen.
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}
