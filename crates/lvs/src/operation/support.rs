//! What the data plane of this build can do.
//!
//! Kept apart from the rules of IPVS, so that the whole language is parsed and tested while a director
//! refuses, by name, what it could only pretend to do.

use super::{Operation, OperationError, validate::PERSISTENCE_ENGINES};
use crate::model::{Family, Protocol, Server, ServiceConfig, ServiceKey};

/// Refuse an operation that this build's data plane cannot carry out.
///
/// Ask before [`Table::apply`](crate::model::Table::apply). Names that nobody knows pass here and are
/// refused there, with the kernel's own words.
pub fn supported(operation: &Operation) -> Result<(), OperationError> {
    match operation {
        Operation::AddService(config) | Operation::EditService(config) => service(config),
        Operation::AddServer { server, .. } | Operation::EditServer { server, .. } => {
            self::server(server)
        }
        Operation::DeleteService(_)
        | Operation::DeleteServer { .. }
        | Operation::Flush
        | Operation::Zero(_)
        | Operation::SetTimeouts(_)
        | Operation::Set { .. }
        | Operation::SetSettings(_)
        | Operation::StartSyncDaemon(_)
        | Operation::StopSyncDaemon(_) => Ok(()),
    }
}

fn service(config: &ServiceConfig) -> Result<(), OperationError> {
    match config.key {
        ServiceKey::Mark { .. } => return refuse("services by firewall mark (-f)"),
        ServiceKey::Address {
            protocol: Protocol::Sctp,
            ..
        } => {
            return refuse("SCTP services (--sctp-service)");
        }
        ServiceKey::Address { address, .. } if Family::of(address) == Family::V6 => {
            return refuse("IPv6 services");
        }
        ServiceKey::Address { .. } => {}
    }
    if let Some(engine) = &config.persistence_engine
        && PERSISTENCE_ENGINES.contains(&engine.as_str())
    {
        return refuse("persistence engines (--pe)");
    }
    Ok(())
}

fn server(server: &Server) -> Result<(), OperationError> {
    if Family::of(server.key.address) == Family::V6 {
        return refuse("IPv6 servers");
    }
    Ok(())
}

fn refuse(what: &str) -> Result<(), OperationError> {
    Err(OperationError::Unsupported(format!(
        "This build of furiwake cannot do this yet: {what}"
    )))
}
