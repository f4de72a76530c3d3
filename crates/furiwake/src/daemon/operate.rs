//! How the director carries out operations: on the desired table first, then on the data plane.
//!
//! A list of them is rehearsed on a copy of the table, and what it comes to is planned and applied once. Only
//! when the data plane refuses some of that are the operations carried out one by one, to tell which it was.

use std::{borrow::Cow, collections::HashSet};

use furiwake_lvs::{
    model::{ServiceKey, Table},
    operation::{Operation, OperationError, supported},
    plan::{Change, plan},
};
use serde::{Deserialize, Serialize};
use tracing::{debug, error, info};

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

/// What a list of operations comes to.
struct Rehearsal {
    table: Table,
    outcomes: Vec<Outcome>,
    /// Services that were removed on the way; one that is there in the end begins anew.
    removed: HashSet<ServiceKey>,
    /// Counters to zero.
    zeroed: Vec<Option<ServiceKey>>,
}

impl Rehearsal {
    /// Whose counters begin anew when all is done.
    fn zeroed(&self) -> impl Iterator<Item = Option<ServiceKey>> {
        let remade = self.removed.iter().copied().map(Some);
        remade
            .chain(self.zeroed.iter().copied())
            .filter(|service| service.is_none_or(|key| self.table.service(&key).is_some()))
    }
}

impl<D: DataPlane> Director<D> {
    /// Carry out operations, going on after a refusal; one outcome for each.
    pub(super) fn operate_all(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        if let [operation] = operations {
            return vec![self.operate(operation)];
        }
        let rehearsal = self.rehearse(operations);
        if self.perform(&rehearsal).is_err() {
            let one_by_one = operations.iter().map(|operation| self.operate(operation));
            return one_by_one.collect();
        }
        self.tell(operations, &rehearsal.outcomes);
        rehearsal.outcomes
    }

    /// Carry out all operations or none.
    pub(super) fn operate_atomically(
        &mut self,
        operations: &[Operation],
    ) -> Result<Vec<Outcome>, Refusal> {
        let rehearsal = self.rehearse(operations);
        let refused = |(index, outcome): (usize, &Outcome)| match outcome {
            Outcome::Done => None,
            Outcome::Refused(error) => Some((index, error.clone())),
        };
        if let Some((index, error)) = rehearsal.outcomes.iter().enumerate().find_map(refused) {
            info!(index, %error, operations = operations.len(), "refused as a whole");
            return Err(Refusal { index, error });
        }
        if self.perform(&rehearsal).is_ok() {
            self.tell(operations, &rehearsal.outcomes);
            return Ok(rehearsal.outcomes);
        }
        let before = self.table.clone();
        for (index, operation) in operations.iter().enumerate() {
            if let Outcome::Refused(error) = self.operate(operation) {
                self.go_back(&before);
                return Err(Refusal { index, error });
            }
        }
        Ok(rehearsal.outcomes)
    }

    /// Try operations on a copy of the table, going on after a refusal.
    fn rehearse(&self, operations: &[Operation]) -> Rehearsal {
        let mut table = self.table.clone();
        let mut removed = HashSet::new();
        let mut zeroed = Vec::new();
        let mut outcomes = Vec::with_capacity(operations.len());
        for operation in operations {
            let done = self.possible(&table, operation).and_then(|operation| {
                match &*operation {
                    Operation::Flush => removed.extend(keys(&table)),
                    Operation::DeleteService(key) => removed.extend([*key]),
                    _ => {}
                }
                table.apply(&operation)
            });
            if let (Ok(()), Operation::Zero(service)) = (&done, operation) {
                zeroed.push(*service);
            }
            outcomes.push(match done {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Refused(error),
            });
        }
        Rehearsal {
            table,
            outcomes,
            removed,
            zeroed,
        }
    }

    /// Do what was rehearsed, or leave everything as it was.
    fn perform(&mut self, rehearsal: &Rehearsal) -> anyhow::Result<()> {
        let changes = plan(&self.table, &rehearsal.table);
        let before = std::mem::replace(&mut self.table, rehearsal.table.clone());
        let mut done = self.change_all(&changes);
        if done.is_ok() {
            done = rehearsal
                .zeroed()
                .try_for_each(|service| self.zero(service));
        }
        match &done {
            Ok(()) => self.kept.keep(&self.table),
            Err(failure) => {
                info!(failure = format!("{failure:#}"), "the data plane refuses");
                self.go_back(&before);
            }
        }
        done
    }

    /// Make the data plane what it was, and want what it is.
    fn go_back(&mut self, before: &Table) {
        for change in plan(&self.plane.table(), before) {
            if let Err(failure) = self.change_all(std::slice::from_ref(&change)) {
                error!(?change, failure = format!("{failure:#}"), "cannot go back");
            }
        }
        self.table.settings = before.settings.clone();
        self.table.sync_daemons.clone_from(&before.sync_daemons);
        self.want_what_is();
    }

    /// What was half done is what there is now; wanting anything else would be a lie.
    fn want_what_is(&mut self) {
        let Table {
            services, timeouts, ..
        } = self.plane.table();
        (self.table.services, self.table.timeouts) = (services, timeouts);
        self.kept.keep(&self.table);
    }

    /// Carry out one operation.
    fn operate(&mut self, operation: &Operation) -> Outcome {
        let outcome = match self.try_operate(operation) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Refused(error),
        };
        self.tell(
            std::slice::from_ref(operation),
            std::slice::from_ref(&outcome),
        );
        outcome
    }

    fn try_operate(&mut self, operation: &Operation) -> Result<(), OperationError> {
        let operation = self.possible(&self.table, operation)?;
        let before = self.concerned(&operation);
        self.table.apply(&operation)?;
        let changes = plan(&before, &self.concerned(&operation));
        let mut done = self.change_all(&changes);
        if let (Ok(()), Operation::Zero(service)) = (&done, &*operation) {
            done = self.zero(*service);
        }
        match done {
            Ok(()) => {
                self.kept.keep(&self.table);
                Ok(())
            }
            Err(failure) => {
                self.want_what_is();
                // The one refusal whose text ipvsadm prints as it is.
                let text = format!("The data plane refuses this: {failure:#}");
                Err(OperationError::Unsupported(text))
            }
        }
    }

    /// The part of the table that an operation can change. A plan for all of it each time would make many
    /// operations slow.
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
            | Operation::StopSyncDaemon(_) => return self.table.clone(),
        };
        Table {
            services: self.table.service(key).cloned().into_iter().collect(),
            timeouts: self.table.timeouts,
            settings: self.table.settings.clone(),
            sync_daemons: Vec::new(),
        }
    }

    fn tell(&self, operations: &[Operation], outcomes: &[Outcome]) {
        if let ([operation], [outcome]) = (operations, outcomes) {
            return match outcome {
                Outcome::Done => info!("{}", words::operation(operation)),
                Outcome::Refused(error) => {
                    info!(%error, "refused: {}", words::operation(operation));
                }
            };
        }
        let done = outcomes
            .iter()
            .filter(|outcome| **outcome == Outcome::Done)
            .count();
        info!(done, refused = outcomes.len() - done, "operations");
        for (operation, outcome) in operations.iter().zip(outcomes) {
            debug!(?outcome, "{}", words::operation(operation));
        }
    }

    /// The operation as it can be done by this build, on this host.
    fn possible<'o>(
        &self,
        table: &Table,
        operation: &'o Operation,
    ) -> Result<Cow<'o, Operation>, OperationError> {
        supported(operation)?;
        match operation {
            Operation::StartSyncDaemon(daemon) if table.sync_daemon(daemon.role).is_none() => {
                let link = self.hops.link_named(&daemon.interface);
                let link = link.ok_or(OperationError::NoSuchDevice)?;
                let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
                let daemon = daemon.on_interface(mtu);
                return Ok(Cow::Owned(Operation::StartSyncDaemon(daemon)));
            }
            _ => {}
        }
        Ok(Cow::Borrowed(operation))
    }

    fn change_all(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        let mut left = changes.iter();
        let done = left.try_for_each(|change| self.plane.apply(change));
        let (carried_out, _) = changes.split_at(changes.len() - left.len());
        self.estimators.restart_changed(carried_out);
        for change in carried_out {
            if let Change::AddServer { server, .. } | Change::EditServer { server, .. } = change {
                self.repeat_next_hop(server.key.address);
            }
        }
        done
    }

    fn zero(&mut self, service: Option<ServiceKey>) -> anyhow::Result<()> {
        self.plane.zero(service.as_ref())?;
        self.estimators.restart(service.as_ref());
        Ok(())
    }
}

fn keys(table: &Table) -> impl Iterator<Item = ServiceKey> {
    table.services.iter().map(|service| service.config.key)
}

#[cfg(test)]
mod tests;
