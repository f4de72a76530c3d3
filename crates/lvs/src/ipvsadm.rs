//! The language of ipvsadm 1.31: what people type, what they read, and the exit codes of both.
//!
//! [`run`] is the whole command. It asks a [`Director`] for what is and tells it what to do, and takes
//! every lookup of a name from [`Names`]; so it needs neither root nor a network to be tested.
//! Its judge is the recording of the real one in `tests/golden/`.

use std::net::{IpAddr, Ipv4Addr};

mod command;
mod endpoint;
mod failure;
mod list;
mod memory;
mod name;
mod number;
mod options;
mod parse;
mod popt;
mod restore;
mod run;
mod save;
mod scheduler_flags;
mod scripts;
mod sort;
#[cfg(test)]
mod tests;
mod usage;

pub use command::{Command, Failure, Format, ListOptions, Subject};
pub use failure::failure_for;
pub use list::{list, list_connections, list_daemons, list_timeouts};
pub use memory::MemoryDirector;
pub use parse::parse;
pub use run::run;
pub use save::{save, save_all};
pub use scripts::{run_restore_script, run_save_script};

use crate::{
    model::Protocol,
    operation::{Operation, OperationError},
    view::{ConnectionView, View},
};

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Text for standard output.
    pub stdout: String,
    /// Text for standard error.
    pub stderr: String,
    /// Exit code of the process.
    pub code: u8,
}

/// A director as ipvsadm sees it. The daemon's client is one, a table in memory another.
pub trait Director {
    /// What the director does right now.
    fn view(&mut self) -> Result<View, DirectorError>;

    /// The connection table.
    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError>;

    /// Carry out one operation.
    fn apply(&mut self, operation: &Operation) -> Result<(), DirectorError>;

    /// Carry out operations one after the other, going on after a refusal; one result for each.
    ///
    /// `ipvsadm -R` hands over its lines through this, so that a client can send them in one go.
    fn apply_all(&mut self, operations: &[Operation]) -> Vec<Result<(), DirectorError>> {
        operations
            .iter()
            .map(|operation| self.apply(operation))
            .collect()
    }

    /// Carry out all operations or none; on refusal, which one was refused (counted from 0) and why.
    fn apply_atomically(
        &mut self,
        _operations: &[Operation],
    ) -> Result<(), (usize, DirectorError)> {
        let problem = "this director cannot do all or nothing: leave out --atomic";
        Err((0, DirectorError::Unavailable(problem.into())))
    }

    /// How `-R` and `ipvsadm-restore` go about it when nothing on the command line says so.
    fn restore_mode(&self) -> RestoreMode {
        RestoreMode::Compatible
    }
}

/// What a restore does about lines that are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreMode {
    /// As ipvsadm: each line by itself.
    Compatible,
    /// All lines or none.
    Atomic,
}

/// Why a director did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectorError {
    /// It refused.
    #[error(transparent)]
    Refused(#[from] OperationError),
    /// It could not be asked. The text says why and what to do, and is printed as it is.
    #[error("{0}")]
    Unavailable(String),
}

/// Names of hosts and services, as the host's resolver knows them.
pub trait Names {
    /// IPv4 address of a host name.
    fn host(&self, name: &str) -> Option<Ipv4Addr>;
    /// Name of an address.
    fn host_name(&self, address: IpAddr) -> Option<String>;
    /// Port of a service name (`http`).
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16>;
    /// Service name of a port.
    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// No names at all: everything is a number.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn host(&self, _name: &str) -> Option<Ipv4Addr> {
        None
    }
    fn host_name(&self, _address: IpAddr) -> Option<String> {
        None
    }
    fn port(&self, _name: &str, _protocol: Protocol) -> Option<u16> {
        None
    }
    fn port_name(&self, _port: u16, _protocol: Protocol) -> Option<String> {
        None
    }
}
