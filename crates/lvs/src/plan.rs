//! Planning: the changes that lead from one table to another.
//!
//! What stays the same is not touched. A service or server that changed is edited in place, so that its
//! connections stay. Servers are added before others are removed, so that a service that has servers
//! before and after is never without one in between. The order of servers is that of the desired table,
//! because schedulers walk it; the order of services means nothing and is left as it comes.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::model::{
    Server, ServerKey, Service, ServiceConfig, ServiceKey, Settings, Table, Timeouts,
};

#[cfg(test)]
mod tests;

/// One change that the data plane can carry out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Make a service without servers.
    AddService(ServiceConfig),
    /// Change the configuration of a service; its servers and connections stay.
    EditService(ServiceConfig),
    /// Remove a service and its servers; its connections stay until they expire.
    RemoveService(ServiceKey),
    /// Put a server at the head of a service's list.
    AddServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: Server,
    },
    /// Change a server in place.
    EditServer {
        /// The service.
        service: ServiceKey,
        /// The server, found by its key.
        server: Server,
    },
    /// Take a server out of a service.
    RemoveServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: ServerKey,
    },
    /// Change the timeouts.
    SetTimeouts(Timeouts),
    /// Change the settings.
    SetSettings(Settings),
}

/// The changes that turn `observed` into `desired`, in the order in which to carry them out.
pub fn plan(observed: &Table, desired: &Table) -> Vec<Change> {
    let present = index(observed);
    let wanted = index(desired);
    let mut changes = Vec::new();

    if observed.timeouts != desired.timeouts {
        changes.push(Change::SetTimeouts(desired.timeouts));
    }
    if observed.settings != desired.settings {
        changes.push(Change::SetSettings(desired.settings.clone()));
    }
    for service in &observed.services {
        if !wanted.contains_key(&service.config.key) {
            changes.push(Change::RemoveService(service.config.key));
        }
    }
    for service in &desired.services {
        match present.get(&service.config.key) {
            None => {
                changes.push(Change::AddService(service.config.clone()));
                plan_servers(service.config.key, &[], &service.servers, &mut changes);
            }
            Some(old) => {
                if old.config != service.config {
                    changes.push(Change::EditService(service.config.clone()));
                }
                plan_servers(
                    service.config.key,
                    &old.servers,
                    &service.servers,
                    &mut changes,
                );
            }
        }
    }
    changes
}

fn index(table: &Table) -> HashMap<ServiceKey, &Service> {
    table
        .services
        .iter()
        .map(|service| (service.config.key, service))
        .collect()
}

/// Changes for the servers of one service.
///
/// New servers go to the head. So the servers that can stay where they are form the longest tail of the
/// desired list that is found in the observed one in the same order; every other one is added anew, and
/// taken out first if it was elsewhere in the list.
fn plan_servers(
    service: ServiceKey,
    observed: &[Server],
    desired: &[Server],
    changes: &mut Vec<Change>,
) {
    let staying = staying_tail(observed, desired);
    let (head, tail) = desired.split_at(desired.len() - staying);

    let present: HashMap<ServerKey, &Server> =
        observed.iter().map(|server| (server.key, server)).collect();
    for server in tail {
        if present.get(&server.key) != Some(&server) {
            changes.push(Change::EditServer {
                service,
                server: *server,
            });
        }
    }
    for server in head.iter().rev() {
        if present.contains_key(&server.key) {
            changes.push(Change::RemoveServer {
                service,
                server: server.key,
            });
        }
        changes.push(Change::AddServer {
            service,
            server: *server,
        });
    }

    let wanted: HashSet<ServerKey> = desired.iter().map(|server| server.key).collect();
    for server in observed {
        if !wanted.contains(&server.key) {
            changes.push(Change::RemoveServer {
                service,
                server: server.key,
            });
        }
    }
}

/// Length of the longest tail of `desired` whose servers come in the same order in `observed`.
fn staying_tail(observed: &[Server], desired: &[Server]) -> usize {
    let mut rest = observed.iter().rev();
    desired
        .iter()
        .rev()
        .take_while(|server| rest.any(|other| other.key == server.key))
        .count()
}

impl Change {
    /// The effect of this change on a table: what the data plane holds once it is carried out.
    ///
    /// A change that names a service or server that is not there does nothing.
    pub fn apply_to(&self, table: &mut Table) {
        match self {
            Self::AddService(config) => {
                table.services.push(Service {
                    config: config.clone(),
                    servers: Vec::new(),
                });
            }
            Self::EditService(config) => {
                if let Some(service) = find(table, &config.key) {
                    service.config = config.clone();
                }
            }
            Self::RemoveService(key) => table.services.retain(|service| service.config.key != *key),
            Self::AddServer { service, server } => {
                if let Some(service) = find(table, service) {
                    service.servers.insert(0, *server);
                }
            }
            Self::EditServer { service, server } => {
                if let Some(found) = find(table, service)
                    .and_then(|service| service.servers.iter_mut().find(|s| s.key == server.key))
                {
                    *found = *server;
                }
            }
            Self::RemoveServer { service, server } => {
                if let Some(service) = find(table, service) {
                    service.servers.retain(|other| other.key != *server);
                }
            }
            Self::SetTimeouts(timeouts) => table.timeouts = *timeouts,
            Self::SetSettings(settings) => table.settings = settings.clone(),
        }
    }
}

fn find<'t>(table: &'t mut Table, key: &ServiceKey) -> Option<&'t mut Service> {
    table
        .services
        .iter_mut()
        .find(|service| service.config.key == *key)
}
