//! How the director carries out operations: on the desired table first, then on the data plane.

use furiwake_lvs::{
    model::Table,
    operation::{Operation, OperationError, supported},
    plan::{Change, plan},
};
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::{data_plane::DataPlane, director::Director};
use crate::words;

/// How one operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was carried out.
    Done,
    /// It was refused, and changed nothing.
    Refused(OperationError),
}

/// Why a list of operations was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Which operation, counted from 0.
    pub(crate) index: usize,
    /// Why.
    pub(crate) error: OperationError,
}

impl<D: DataPlane> Director<D> {
    /// Carry out one operation.
    pub(super) fn operate(&mut self, operation: &Operation) -> Outcome {
        match self.try_operate(operation) {
            Ok(()) => {
                info!("{}", words::operation(operation));
                Outcome::Done
            }
            Err(error) => {
                info!(%error, "refused: {}", words::operation(operation));
                Outcome::Refused(error)
            }
        }
    }

    /// Carry out all operations or none.
    pub(super) fn operate_atomically(
        &mut self,
        operations: &[Operation],
    ) -> Result<Vec<Outcome>, Refusal> {
        let before = self.table.clone();
        let mut rehearsal = before.clone();
        for (index, operation) in operations.iter().enumerate() {
            self.possible(operation)
                .and_then(|()| rehearsal.apply(operation))
                .map_err(|error| Refusal { index, error })?;
        }
        for (index, operation) in operations.iter().enumerate() {
            if let Outcome::Refused(error) = self.operate(operation) {
                for change in plan(&self.plane.table(), &before) {
                    if let Err(failure) = self.change(&change) {
                        error!(?change, failure = format!("{failure:#}"), "cannot go back");
                    }
                }
                self.table = self.plane.table();
                return Err(Refusal { index, error });
            }
        }
        Ok(vec![Outcome::Done; operations.len()])
    }

    fn try_operate(&mut self, operation: &Operation) -> Result<(), OperationError> {
        self.possible(operation)?;
        let before = self.concerned(operation);
        self.table.apply(operation)?;
        let changes = plan(&before, &self.concerned(operation));
        let mut done = changes.iter().try_for_each(|change| self.change(change));
        if let (Ok(()), Operation::Zero(service)) = (&done, operation) {
            done = self.plane.zero(service.as_ref());
            self.estimators.restart(service.as_ref());
        }
        done.map_err(|failure| {
            // What was half done is what there is now; wanting anything else would be a lie.
            self.table = self.plane.table();
            // The one refusal whose text ipvsadm prints as it is.
            OperationError::Unsupported(format!("The data plane refuses this: {failure:#}"))
        })
    }

    /// The part of the table that an operation can change. A plan for all of it each time would make long lists
    /// of operations slow.
    fn concerned(&self, operation: &Operation) -> Table {
        let key = match operation {
            Operation::AddService(config) | Operation::EditService(config) => &config.key,
            Operation::DeleteService(service)
            | Operation::AddServer { service, .. }
            | Operation::EditServer { service, .. }
            | Operation::DeleteServer { service, .. } => service,
            Operation::Flush
            | Operation::Zero(_)
            | Operation::SetTimeouts(_)
            | Operation::Set { .. }
            | Operation::SetSettings(_)
            | Operation::StartSyncDaemon(_)
            | Operation::StopSyncDaemon(_) => {
                return self.table.clone();
            }
        };
        Table {
            services: self.table.service(key).cloned().into_iter().collect(),
            timeouts: self.table.timeouts,
            settings: self.table.settings.clone(),
            sync_daemons: self.table.sync_daemons.clone(),
        }
    }

    /// Whether this build, on this host, can do it.
    fn possible(&self, operation: &Operation) -> Result<(), OperationError> {
        supported(operation)?;
        match operation {
            Operation::AddServer { server, .. } | Operation::EditServer { server, .. }
                if self.plane.is_own_address(server.key.address) =>
            {
                Err(OperationError::Unsupported(format!(
                    "{} is an address of the director itself, which cannot be a server in this build",
                    server.key.address
                )))
            }
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: &Change) -> anyhow::Result<()> {
        self.plane.apply(change)?;
        match change {
            Change::AddService(config) => self.estimators.restart(Some(&config.key)),
            Change::RemoveService(key) => self.estimators.restart(Some(key)),
            Change::AddServer { service, server } => {
                self.estimators.restart_server(service, &server.key);
                self.repeat_next_hop(server.key.address);
            }
            Change::EditServer { server, .. } => self.repeat_next_hop(server.key.address),
            Change::RemoveServer { service, server } => {
                self.estimators.restart_server(service, server);
            }
            Change::EditService(_) | Change::SetTimeouts(_) | Change::SetSettings(_) => {}
        }
        Ok(())
    }
}
