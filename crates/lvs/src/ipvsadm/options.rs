//! The one table of ipvsadm's options: the parser, the usage text and `-S` all read it.

use std::fmt;

use crate::model::{Forward, Protocol, TunnelChecksum};

mod rules;
mod table;

pub(super) use rules::{Group, TUNNEL_GROUPS, check, check_tunnel};
pub(super) use table::OPTIONS;

/// What an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Verb(Verb),
    Service(Protocol),
    Mark,
    Ipv6,
    Scheduler,
    Engine,
    Persistent,
    Netmask,
    Server,
    Forward(Forward),
    TunnelType,
    TunnelPort,
    TunnelChecksum(TunnelChecksum),
    Weight,
    UpperThreshold,
    LowerThreshold,
    Connection,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Exact,
    Thresholds,
    PersistentConn,
    TunnelInfo,
    NoSort,
    Sort,
    OnePacket,
    Numeric,
    SchedulerFlags,
    SyncId,
    SyncMaxLength,
    McastInterface,
    McastGroup,
    McastPort,
    McastTtl,
    /// Ours: `-S` leaves nothing out.
    All,
    /// Ours: `-R` does all or nothing.
    Atomic,
    /// Ours.
    SlowStart,
}

/// The commands. Exactly one comes first in every line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Clear,
    Restore,
    Save,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Set,
    StartDaemon,
    StopDaemon,
    /// Ours: a setting, as `-S --all` writes it.
    Setting,
    Help,
    Version,
}

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    No,
    Yes,
    /// The next word, unless it begins with `-`.
    Maybe,
}

/// Where an option stands in the usage text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Commands,
    Services,
    Options,
    Daemon,
    /// Works but is not mentioned.
    Hidden,
}

/// One option.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) long: &'static str,
    /// One-letter forms, the usual one first.
    pub(super) shorts: &'static str,
    pub(super) value: Value,
    pub(super) action: Action,
    pub(super) section: Section,
    /// What the usage text calls the value.
    pub(super) value_name: &'static str,
    /// The usage text.
    pub(super) help: &'static [&'static str],
}

/// The option as `-S` writes it: the letter where there is one.
pub(super) fn flag(action: Action) -> Flag {
    Flag(OPTIONS.iter().find(|spec| spec.action == action))
}

/// An option to print.
pub(super) struct Flag(Option<&'static Spec>);

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(spec) => match spec.shorts.chars().next() {
                Some(short) => write!(f, "-{short}"),
                None => write!(f, "--{}", spec.long),
            },
            None => Ok(()),
        }
    }
}
