//! What a command line asks for, once it is understood.

use std::fmt;

use crate::{model::ServiceKey, operation::Operation};

/// A command with everything it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Change something: `-A -E -D -C -a -e -d -Z --set --start-daemon --stop-daemon`,
    /// and our `--setting`.
    Change(Operation),
    /// `-L`.
    List(ListOptions),
    /// `-S`.
    Save {
        /// Numbers instead of names.
        numeric: bool,
        /// Ours: everything that makes the director what it is.
        all: bool,
    },
    /// `-R`.
    Restore {
        /// Ours: all lines or none.
        atomic: bool,
    },
    /// `-h`.
    Help,
    /// `-v`.
    Version,
}

/// What to list and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// What to list.
    pub subject: Subject,
    /// Which columns.
    pub format: Format,
    /// Numbers instead of names.
    pub numeric: bool,
    /// Every digit of a counter.
    pub exact: bool,
    /// In the director's order instead of sorted.
    pub unsorted: bool,
}

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Subject {
    /// Every service.
    #[default]
    Services,
    /// One service.
    Service(ServiceKey),
    /// The connection table.
    Connections,
    /// The timeouts.
    Timeouts,
    /// The sync daemons.
    Daemons,
}

/// Columns of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Method, weight and connections.
    #[default]
    Default,
    /// Counters (`--stats`).
    Stats,
    /// Rates (`--rate`).
    Rate,
    /// Thresholds (`--thresholds`).
    Thresholds,
    /// Persistent connections (`--persistent-conn`).
    PersistentConn,
    /// Tunnels (`--tun-info`).
    TunnelInfo,
}

/// A command line that is not understood, or not allowed: what ipvsadm prints and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Text for standard error, without the newline at its end.
    pub text: String,
    /// Exit code.
    pub code: u8,
    /// Whether `-R` stops here. It goes on after what popt itself complains about.
    pub stops_restore: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// ipvsadm's `fail(2, …)`.
pub(super) fn usage_error(text: impl Into<String>) -> Failure {
    Failure {
        text: text.into(),
        code: 2,
        stops_restore: true,
    }
}

/// ipvsadm's `tryhelp_exit`.
pub(super) fn try_help(program: &str) -> Failure {
    Failure {
        text: format!("Try `{program} -h' or '{program} --help' for more information."),
        code: 255,
        stops_restore: true,
    }
}
