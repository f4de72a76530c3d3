//! Which command takes which options, and which kind of tunnel.

use super::{Action, Verb};
use crate::{
    ipvsadm::command::{Failure, usage_error},
    model::{TunnelChecksum, TunnelKind},
};

/// Options that messages give one name, in the order in which they are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::ipvsadm) enum Group {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forward,
    Weight,
    UpperThreshold,
    LowerThreshold,
    Interface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    Engine,
    SchedulerFlags,
    MulticastAddress,
    MulticastPort,
    MulticastTtl,
    SyncMaxLength,
    TunnelInfo,
    All,
    Atomic,
    SlowStart,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelFullChecksum,
    TunnelRemoteChecksum,
}

/// Groups with their names.
pub(in crate::ipvsadm) const GROUPS: &[(Group, &str)] = &[
    (Group::Numeric, "numeric"),
    (Group::Connection, "connection"),
    (Group::Service, "service-address"),
    (Group::Scheduler, "scheduler"),
    (Group::Persistent, "persistent"),
    (Group::Netmask, "netmask"),
    (Group::Server, "real-server"),
    (Group::Forward, "forwarding-method"),
    (Group::Weight, "weight"),
    (Group::UpperThreshold, "u-threshold"),
    (Group::LowerThreshold, "l-threshold"),
    (Group::Interface, "mcast-interface"),
    (Group::Timeout, "timeout"),
    (Group::Daemon, "daemon"),
    (Group::Stats, "stats"),
    (Group::Rate, "rate"),
    (Group::Thresholds, "thresholds"),
    (Group::PersistentConn, "persistent-conn"),
    (Group::NoSort, "nosort"),
    (Group::SyncId, "syncid"),
    (Group::Exact, "exact"),
    (Group::OnePacket, "ops"),
    (Group::Engine, "pe"),
    (Group::SchedulerFlags, "sched-flags"),
    (Group::MulticastAddress, "mcast-group"),
    (Group::MulticastPort, "mcast-port"),
    (Group::MulticastTtl, "mcast-ttl"),
    (Group::SyncMaxLength, "sync-maxlen"),
    (Group::TunnelInfo, "tun-info"),
    (Group::All, "all"),
    (Group::Atomic, "atomic"),
    (Group::SlowStart, "slow-start"),
    (Group::TunnelType, "tun-type"),
    (Group::TunnelPort, "tun-port"),
    (Group::TunnelNoChecksum, "tun-nocsum"),
    (Group::TunnelFullChecksum, "tun-csum"),
    (Group::TunnelRemoteChecksum, "tun-remcsum"),
];

impl Group {
    /// The name in messages.
    pub(in crate::ipvsadm) fn name(self) -> &'static str {
        GROUPS
            .iter()
            .find(|(other, _)| *other == self)
            .map_or("", |(_, name)| name)
    }
}

impl Action {
    /// The group of this option; commands, `-6` and `--sort` have none.
    pub(in crate::ipvsadm) const fn group(self) -> Option<Group> {
        Some(match self {
            Self::Verb(_) | Self::Ipv6 | Self::Sort => return None,
            Self::Service(_) | Self::Mark => Group::Service,
            Self::Scheduler => Group::Scheduler,
            Self::Engine => Group::Engine,
            Self::Persistent => Group::Persistent,
            Self::Netmask => Group::Netmask,
            Self::Server => Group::Server,
            Self::Forward(_) => Group::Forward,
            Self::TunnelType => Group::TunnelType,
            Self::TunnelPort => Group::TunnelPort,
            Self::TunnelChecksum(TunnelChecksum::None) => Group::TunnelNoChecksum,
            Self::TunnelChecksum(TunnelChecksum::Full) => Group::TunnelFullChecksum,
            Self::TunnelChecksum(TunnelChecksum::Remote) => Group::TunnelRemoteChecksum,
            Self::Weight => Group::Weight,
            Self::UpperThreshold => Group::UpperThreshold,
            Self::LowerThreshold => Group::LowerThreshold,
            Self::Connection => Group::Connection,
            Self::Timeout => Group::Timeout,
            Self::Daemon => Group::Daemon,
            Self::Stats => Group::Stats,
            Self::Rate => Group::Rate,
            Self::Exact => Group::Exact,
            Self::Thresholds => Group::Thresholds,
            Self::PersistentConn => Group::PersistentConn,
            Self::TunnelInfo => Group::TunnelInfo,
            Self::NoSort => Group::NoSort,
            Self::OnePacket => Group::OnePacket,
            Self::Numeric => Group::Numeric,
            Self::SchedulerFlags => Group::SchedulerFlags,
            Self::SyncId => Group::SyncId,
            Self::SyncMaxLength => Group::SyncMaxLength,
            Self::McastInterface => Group::Interface,
            Self::McastGroup => Group::MulticastAddress,
            Self::McastPort => Group::MulticastPort,
            Self::McastTtl => Group::MulticastTtl,
            Self::All => Group::All,
            Self::Atomic => Group::Atomic,
            Self::SlowStart => Group::SlowStart,
        })
    }
}

/// Whether a command, or a kind of tunnel, takes an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ipvsadm) enum Rule {
    Illegal,
    Optional,
    Required,
    /// At most one of these.
    Exclusive,
}

impl Verb {
    /// The command's name in messages.
    pub(in crate::ipvsadm) const fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Clear => "flush",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::AddServer => "add-server",
            Self::EditServer => "edit-server",
            Self::DeleteServer => "delete-server",
            Self::List => "list",
            Self::Zero => "zero",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Setting => "setting",
            Self::Help => "help",
            Self::Version => "version",
        }
    }

    /// Whether the command takes an option.
    pub(in crate::ipvsadm) const fn rule(self, group: Group) -> Rule {
        use Group as G;
        match self {
            Self::AddService | Self::EditService => match group {
                G::Service => Rule::Required,
                G::Scheduler
                | G::Persistent
                | G::Netmask
                | G::OnePacket
                | G::Engine
                | G::SchedulerFlags
                | G::SlowStart => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::AddServer | Self::EditServer => match group {
                G::Service | G::Server => Rule::Required,
                G::Forward
                | G::Weight
                | G::UpperThreshold
                | G::LowerThreshold
                | G::TunnelType
                | G::TunnelPort
                | G::TunnelNoChecksum
                | G::TunnelFullChecksum
                | G::TunnelRemoteChecksum => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::DeleteService => match group {
                G::Service => Rule::Required,
                _ => Rule::Illegal,
            },
            Self::DeleteServer => match group {
                G::Service | G::Server => Rule::Required,
                _ => Rule::Illegal,
            },
            Self::List => match group {
                G::Connection | G::Service | G::Timeout | G::Daemon => Rule::Exclusive,
                G::Numeric
                | G::Stats
                | G::Rate
                | G::Thresholds
                | G::PersistentConn
                | G::NoSort
                | G::SyncId
                | G::Exact
                | G::TunnelInfo => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::StartDaemon => match group {
                G::Interface
                | G::SyncId
                | G::MulticastAddress
                | G::MulticastPort
                | G::MulticastTtl
                | G::SyncMaxLength => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::StopDaemon => match group {
                G::SyncId => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::Save => match group {
                G::Numeric | G::All => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::Zero => match group {
                G::Service => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::Restore => match group {
                G::Atomic => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::Clear | Self::Set | Self::Setting | Self::Help | Self::Version => Rule::Illegal,
        }
    }
}

/// Options about tunnels, in the order in which they are checked.
pub(in crate::ipvsadm) const TUNNEL_GROUPS: &[(Group, &str)] = {
    let (_, tunnel) = GROUPS.split_at(Group::TunnelType as usize);
    tunnel
};

const fn tunnel_rule(kind: TunnelKind, group: Group) -> Rule {
    match (kind, group) {
        (_, Group::TunnelType) => Rule::Optional,
        (TunnelKind::Gue, Group::TunnelPort) => Rule::Required,
        (TunnelKind::Gue, _) => Rule::Exclusive,
        (TunnelKind::Gre, Group::TunnelNoChecksum | Group::TunnelFullChecksum) => Rule::Exclusive,
        _ => Rule::Illegal,
    }
}

fn check_rules(
    place: &str,
    groups: &[(Group, &str)],
    rule: impl Fn(Group) -> Rule,
    given: impl Fn(Group) -> bool,
) -> Result<(), Failure> {
    let mut exclusive = None;
    for &(group, name) in groups {
        match (rule(group), given(group)) {
            (Rule::Required, false) => {
                return Err(usage_error(format!(
                    "You need to supply the '{name}' option for the {place}"
                )));
            }
            (Rule::Illegal, true) => {
                return Err(usage_error(format!(
                    "Illegal '{name}' option with the {place}"
                )));
            }
            (Rule::Exclusive, true) => match exclusive {
                None => exclusive = Some(name),
                Some(other) => {
                    return Err(usage_error(format!(
                        "The option '{name}' conflicts with the '{other}' option in the {place}"
                    )));
                }
            },
            _ => {}
        }
    }
    Ok(())
}

/// ipvsadm's `generic_opt_check`: the options of a command.
pub(in crate::ipvsadm) fn check(verb: Verb, given: impl Fn(Group) -> bool) -> Result<(), Failure> {
    let place = format!("'{}' command", verb.name());
    check_rules(&place, GROUPS, |group| verb.rule(group), given)
}

/// The options of a kind of tunnel.
pub(in crate::ipvsadm) fn check_tunnel(
    kind: TunnelKind,
    given: impl Fn(Group) -> bool,
) -> Result<(), Failure> {
    let place = format!("'{}' tunnel type", kind.name());
    check_rules(
        &place,
        TUNNEL_GROUPS,
        |group| tunnel_rule(kind, group),
        given,
    )
}
