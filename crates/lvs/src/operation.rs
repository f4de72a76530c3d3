//! Operations: one step that a person asks for, and its effect on a [`Table`].
//!
//! [`Table::apply`] follows the kernel's rules in the kernel's order (`ip_vs_ctl.c`), so that every
//! refusal is the one that users of IPVS know. What today's data plane can do is a separate and
//! narrower question, answered by [`supported`].

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Family, Server, ServerKey, Service, ServiceConfig, ServiceKey, SettingError, Settings,
        Table, Timeouts,
    },
    sync::{SyncDaemon, SyncRole},
};

mod support;
#[cfg(test)]
mod tests;
mod validate;

pub use support::supported;
pub use validate::{PERSISTENCE_ENGINES, SCHEDULERS};

/// One step that changes a director.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Make a service without servers.
    AddService(ServiceConfig),
    /// Replace the configuration of a service; its servers stay.
    EditService(ServiceConfig),
    /// Remove a service and its servers.
    DeleteService(ServiceKey),
    /// Remove every service.
    Flush,
    /// Put a server at the head of a service's list.
    AddServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: Server,
    },
    /// Replace the settings of a server, which keeps its place.
    EditServer {
        /// The service.
        service: ServiceKey,
        /// The server, found by its key.
        server: Server,
    },
    /// Remove a server.
    DeleteServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: ServerKey,
    },
    /// Zero the counters of one service and its servers, or of all.
    Zero(Option<ServiceKey>),
    /// Set timeouts; 0 keeps the present value.
    SetTimeouts(Timeouts),
    /// Change one setting, by its name and a value as `sysctl -w` takes it.
    Set {
        /// The setting, see [`SETTINGS`](crate::model::SETTINGS).
        name: String,
        /// The new value.
        value: String,
    },
    /// Replace every setting.
    SetSettings(Settings),
    /// Start a sync daemon.
    StartSyncDaemon(SyncDaemon),
    /// Stop the sync daemon of a role.
    StopSyncDaemon(SyncRole),
}

/// Why an operation was refused. Every variant but the last is an error of the kernel's IPVS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OperationError {
    /// EEXIST: a service with this key is there already.
    #[error("the service exists already")]
    ServiceExists,
    /// ESRCH: there is no service with this key.
    #[error("there is no such service")]
    NoSuchService,
    /// EEXIST: the service has a server with this key already.
    #[error("the service has this server already")]
    ServerExists,
    /// ENOENT: the service has no server with this key.
    #[error("the service has no such server")]
    NoSuchServer,
    /// ENOENT: the scheduler is not known.
    #[error("there is no such scheduler")]
    NoSuchScheduler,
    /// ENOENT: the persistence engine is not known.
    #[error("there is no such persistence engine")]
    NoSuchPersistenceEngine,
    /// ERANGE: a weight that the kernel would read as negative.
    #[error("the weight is above 2147483647")]
    WeightOutOfRange,
    /// ERANGE: lower threshold above the upper one.
    #[error("the lower threshold is above the upper one")]
    ThresholdsOutOfRange,
    /// EINVAL: the server's address is not one host's.
    #[error("the server's address is not a unicast address")]
    AddressNotUnicast,
    /// EINVAL: a value is not valid in this place.
    #[error("{0}")]
    Invalid(String),
    /// EPERM.
    #[error("permission denied: this needs root")]
    NotPermitted,
    /// EEXIST: a sync daemon of this role runs already.
    #[error("the sync daemon runs already")]
    DaemonRuns,
    /// ESRCH: no sync daemon of this role runs.
    #[error("the sync daemon does not run")]
    DaemonDoesNotRun,
    /// ENODEV: there is no such interface.
    #[error("there is no such interface")]
    NoSuchDevice,
    /// Something that IPVS can do and this build of furiwake cannot. One line, says what.
    #[error("{0}")]
    Unsupported(String),
}

impl Table {
    /// Carry out one operation, or refuse it and change nothing.
    ///
    /// [`Operation::Zero`] touches counters, which a table does not have: here it only checks that the
    /// service exists.
    pub fn apply(&mut self, operation: &Operation) -> Result<(), OperationError> {
        match operation {
            Operation::AddService(config) => self.add_service(config),
            Operation::EditService(config) => self.edit_service(config),
            Operation::DeleteService(key) => self.delete_service(key),
            Operation::Flush => {
                self.services.clear();
                Ok(())
            }
            Operation::AddServer { service, server } => self.add_server(service, server),
            Operation::EditServer { service, server } => self.edit_server(service, server),
            Operation::DeleteServer { service, server } => self.delete_server(service, server),
            Operation::Zero(None) => Ok(()),
            Operation::Zero(Some(key)) => self
                .service(key)
                .map(|_| ())
                .ok_or(OperationError::NoSuchService),
            Operation::SetTimeouts(timeouts) => {
                validate::timeouts(timeouts)?;
                self.timeouts.merge(timeouts);
                Ok(())
            }
            Operation::Set { name, value } => {
                let refused = |error: SettingError| OperationError::Invalid(error.to_string());
                self.settings.set(name, value).map_err(refused)
            }
            Operation::SetSettings(settings) => {
                let refused = |error: SettingError| OperationError::Invalid(error.to_string());
                settings.check().map_err(refused)?;
                self.settings = settings.clone();
                Ok(())
            }
            Operation::StartSyncDaemon(daemon) => {
                if self.sync_daemon(daemon.role).is_some() {
                    return Err(OperationError::DaemonRuns);
                }
                // The messages have no room for a server of another family (`start_sync_thread`).
                if self.services.iter().any(Service::is_mixed) {
                    return Err(OperationError::Invalid(
                        "connections to servers of another address family than their service cannot be \
                         synchronised"
                            .into(),
                    ));
                }
                self.sync_daemons.push(daemon.clone());
                Ok(())
            }
            Operation::StopSyncDaemon(role) => {
                self.sync_daemon(*role)
                    .ok_or(OperationError::DaemonDoesNotRun)?;
                self.sync_daemons.retain(|daemon| daemon.role != *role);
                Ok(())
            }
        }
    }

    /// The service with this key.
    pub fn service(&self, key: &ServiceKey) -> Option<&Service> {
        // Lists of operations name what they made last.
        self.services
            .iter()
            .rev()
            .find(|service| service.config.key == *key)
    }

    /// The sync daemon of this role, if it was started.
    pub fn sync_daemon(&self, role: SyncRole) -> Option<&SyncDaemon> {
        self.sync_daemons.iter().find(|daemon| daemon.role == role)
    }

    fn service_mut(&mut self, key: &ServiceKey) -> Result<&mut Service, OperationError> {
        self.services
            .iter_mut()
            .rev()
            .find(|service| service.config.key == *key)
            .ok_or(OperationError::NoSuchService)
    }

    fn add_service(&mut self, config: &ServiceConfig) -> Result<(), OperationError> {
        if self.service(&config.key).is_some() {
            return Err(OperationError::ServiceExists);
        }
        validate::service(config, &self.settings)?;
        self.services.push(Service {
            config: config.clone(),
            servers: Vec::new(),
        });
        Ok(())
    }

    fn edit_service(&mut self, config: &ServiceConfig) -> Result<(), OperationError> {
        if self.service(&config.key).is_none() {
            return Err(OperationError::NoSuchService);
        }
        validate::service(config, &self.settings)?;
        self.service_mut(&config.key)?.config = config.clone();
        Ok(())
    }

    fn delete_service(&mut self, key: &ServiceKey) -> Result<(), OperationError> {
        let index = self
            .services
            .iter()
            .position(|service| service.config.key == *key)
            .ok_or(OperationError::NoSuchService)?;
        self.services.remove(index);
        Ok(())
    }

    fn add_server(&mut self, key: &ServiceKey, server: &Server) -> Result<(), OperationError> {
        self.allow_mixed(key, server)?;
        let service = self.service_mut(key)?;
        validate::server(key, server)?;
        if service.servers.iter().any(|other| other.key == server.key) {
            return Err(OperationError::ServerExists);
        }
        // Only a new server's address is looked at, and only after everything else (`ip_vs_new_dest`).
        validate::server_address(server.key.address)?;
        service.servers.insert(0, *server);
        Ok(())
    }

    fn edit_server(&mut self, key: &ServiceKey, server: &Server) -> Result<(), OperationError> {
        self.allow_mixed(key, server)?;
        let service = self.service_mut(key)?;
        validate::server(key, server)?;
        let found = service
            .servers
            .iter_mut()
            .find(|other| other.key == server.key)
            .ok_or(OperationError::NoSuchServer)?;
        *found = *server;
        Ok(())
    }

    /// A server of another family than its service is not to be had while a sync daemon runs
    /// (`ip_vs_genl_set_cmd`).
    fn allow_mixed(&self, key: &ServiceKey, server: &Server) -> Result<(), OperationError> {
        let is_mixed = Family::of(server.key.address) != key.family();
        if is_mixed && self.service(key).is_some() && !self.sync_daemons.is_empty() {
            return Err(OperationError::Invalid(
                "a server of another address family than its service cannot be synchronised: stop \
                 the sync daemons first"
                    .into(),
            ));
        }
        Ok(())
    }

    fn delete_server(
        &mut self,
        key: &ServiceKey,
        server: &ServerKey,
    ) -> Result<(), OperationError> {
        let service = self.service_mut(key)?;
        let index = service
            .servers
            .iter()
            .position(|other| other.key == *server)
            .ok_or(OperationError::NoSuchServer)?;
        service.servers.remove(index);
        Ok(())
    }
}

impl Service {
    /// Whether a server is of another address family than the service.
    fn is_mixed(&self) -> bool {
        let family = self.config.key.family();
        let mut servers = self.servers.iter();
        servers.any(|server| Family::of(server.key.address) != family)
    }
}

impl Timeouts {
    /// Take over every value that is not 0, as `ipvsadm --set` does.
    pub fn merge(&mut self, other: &Timeouts) {
        for (mine, theirs) in [
            (&mut self.tcp, other.tcp),
            (&mut self.tcp_fin, other.tcp_fin),
            (&mut self.udp, other.udp),
        ] {
            if theirs != 0 {
                *mine = theirs;
            }
        }
    }
}
