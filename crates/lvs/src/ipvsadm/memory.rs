//! A director that is nothing but a table: for tests, and to ask what a command would do.

use super::{Director, DirectorError};
use crate::{
    model::Table,
    operation::{Operation, OperationError},
    sync::{SyncDaemon, SyncRole},
    view::{ConnectionView, Counters, Rates, ServerView, ServiceView, View},
};

/// A table without a data plane: no connections, and counters that stay at 0.
///
/// It takes everything that IPVS takes, also what the data plane of this build cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryDirector {
    /// The table.
    pub table: Table,
    /// Interfaces on which a sync daemon can be started, with their MTU.
    pub interfaces: Vec<(String, u16)>,
    /// Sync daemons that "run".
    pub sync_daemons: Vec<SyncDaemon>,
}

impl Director for MemoryDirector {
    fn view(&mut self) -> Result<View, DirectorError> {
        Ok(View::of_table(&self.table))
    }

    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
        Ok(Vec::new())
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), DirectorError> {
        Ok(self.table.apply(operation)?)
    }

    fn sync_daemons(&mut self) -> Result<Vec<SyncDaemon>, DirectorError> {
        Ok(self.sync_daemons.clone())
    }

    fn start_sync_daemon(&mut self, daemon: &SyncDaemon) -> Result<(), DirectorError> {
        if self
            .sync_daemons
            .iter()
            .any(|other| other.role == daemon.role)
        {
            return Err(OperationError::DaemonRuns.into());
        }
        let Some((_, mtu)) = self
            .interfaces
            .iter()
            .find(|(name, _)| *name == daemon.interface)
        else {
            return Err(OperationError::NoSuchDevice.into());
        };
        let mut daemon = daemon.clone();
        // Room behind the IP and UDP headers.
        let headers = if daemon.group.is_some_and(|group| group.is_ipv6()) {
            48
        } else {
            28
        };
        let room = mtu.saturating_sub(headers);
        daemon.max_length = Some(daemon.max_length.map_or(room, |length| length.min(room)));
        self.sync_daemons.push(daemon);
        Ok(())
    }

    fn stop_sync_daemon(&mut self, role: SyncRole) -> Result<(), DirectorError> {
        let index = self
            .sync_daemons
            .iter()
            .position(|daemon| daemon.role == role)
            .ok_or(OperationError::DaemonDoesNotRun)?;
        self.sync_daemons.remove(index);
        Ok(())
    }
}

impl View {
    /// A table as it looks before any packet came: every count is 0.
    pub fn of_table(table: &Table) -> Self {
        let Table {
            services,
            timeouts,
            settings,
        } = table;
        let services = services.iter().map(|service| ServiceView {
            config: service.config.clone(),
            counters: Counters::default(),
            rates: Rates::default(),
            servers: service
                .servers
                .iter()
                .map(|server| ServerView {
                    server: *server,
                    active: 0,
                    inactive: 0,
                    persistent: 0,
                    counters: Counters::default(),
                    rates: Rates::default(),
                })
                .collect(),
        });
        Self {
            connection_table_size: 4096,
            services: services.collect(),
            timeouts: *timeouts,
            settings: settings.clone(),
        }
    }
}
