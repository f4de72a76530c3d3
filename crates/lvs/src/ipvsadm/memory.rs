//! A director that is nothing but a table: for tests, and to ask what a command would do.

use super::{Director, DirectorError};
use crate::{
    model::Table,
    operation::{Operation, OperationError},
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
}

impl Director for MemoryDirector {
    fn view(&mut self) -> Result<View, DirectorError> {
        Ok(View::of_table(&self.table))
    }

    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
        Ok(Vec::new())
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), DirectorError> {
        let Operation::StartSyncDaemon(daemon) = operation else {
            return Ok(self.table.apply(operation)?);
        };
        if self.table.sync_daemon(daemon.role).is_some() {
            return Err(OperationError::DaemonRuns.into());
        }
        let interface = |(name, _): &&(String, u16)| *name == daemon.interface;
        let (_, mtu) = self
            .interfaces
            .iter()
            .find(interface)
            .ok_or(OperationError::NoSuchDevice)?;
        let daemon = daemon.on_interface(*mtu);
        Ok(self.table.apply(&Operation::StartSyncDaemon(daemon))?)
    }

    fn apply_atomically(&mut self, operations: &[Operation]) -> Result<(), (usize, DirectorError)> {
        let before = self.table.clone();
        for (index, operation) in operations.iter().enumerate() {
            if let Err(error) = self.apply(operation) {
                self.table = before;
                return Err((index, error));
            }
        }
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
            sync_daemons,
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
            sync_daemons: sync_daemons.clone(),
        }
    }
}
