//! What the data plane of this build can do.
//!
//! Kept apart from the rules of IPVS, so that the whole language is parsed and tested while a director
//! refuses, by name, what it could only pretend to do.

use super::{Operation, OperationError, validate::SCHEDULERS};
use crate::model::{Family, Forward, Protocol, Server, ServiceConfig, ServiceKey};

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
        | Operation::SetSettings(_) => Ok(()),
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
        ServiceKey::Address { port: 0, .. } => return refuse("services on every port (port 0)"),
        ServiceKey::Address { .. } => {}
    }
    let scheduler = config.scheduler.0.as_str();
    if SCHEDULERS.contains(&scheduler) && !["rr", "wrr"].contains(&scheduler) {
        return refuse(&format!(
            "the scheduler {scheduler}; it has rr and wrr (-s rr)"
        ));
    }
    if config.persistence.is_some() {
        return refuse("persistence (-p)");
    }
    if config.persistence_engine.is_some() {
        return refuse("persistence engines (--pe)");
    }
    if config.scheduler_flags != 0 {
        return refuse("scheduler flags (-b)");
    }
    if config.one_packet {
        return refuse("one-packet scheduling (-o)");
    }
    Ok(())
}

fn server(server: &Server) -> Result<(), OperationError> {
    if Family::of(server.key.address) == Family::V6 {
        return refuse("IPv6 servers");
    }
    match server.forward {
        Forward::Masquerade => {}
        Forward::Gateway => {
            return refuse("direct routing (-g, the default); it has masquerading (-m)");
        }
        Forward::Tunnel => return refuse("tunnels (-i); it has masquerading (-m)"),
    }
    if server.key.port == 0 {
        return refuse("servers without a port (port 0)");
    }
    if server.upper_threshold != 0 || server.lower_threshold != 0 {
        return refuse("connection thresholds (-x, -y)");
    }
    Ok(())
}

fn refuse(what: &str) -> Result<(), OperationError> {
    Err(OperationError::Unsupported(format!(
        "This build of furiwake cannot do this yet: {what}"
    )))
}
