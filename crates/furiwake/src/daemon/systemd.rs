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
        Self::new(
            env::var("NOTIFY_SOCKET").ok().as_deref(),
            env::var("WATCHDOG_USEC").ok().as_deref(),
        )
    }

    fn new(socket: Option<&str>, watchdog: Option<&str>) -> Self {
        let to = socket.and_then(|name| {
            // A leading @ stands for the zero byte of an abstract address.
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(Path::new(name)),
            };
            Some((UnixDatagram::unbound().ok()?, address.ok()?))
        });
        let watchdog = watchdog
            .and_then(|micros| micros.parse().ok())
            .filter(|micros| *micros > 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_that_we_are_ready_alive_and_stopping() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("binds");
        let manager = ServiceManager::new(path.to_str(), Some("10000000"));
        assert_eq!(manager.watchdog(), Some(Duration::from_secs(5)));
        manager.ready();
        manager.alive();
        manager.stopping();
        for expected in ["READY=1", "WATCHDOG=1", "STOPPING=1"] {
            let mut heard = [0; 32];
            let length = socket.recv(&mut heard).expect("is told");
            assert_eq!(&heard[..length], expected.as_bytes());
        }
    }

    #[test]
    fn without_a_service_manager_nobody_is_told() {
        let manager = ServiceManager::new(None, None);
        manager.ready();
        assert_eq!(manager.watchdog(), None);
        assert_eq!(ServiceManager::new(None, Some("0")).watchdog(), None);
    }
}
