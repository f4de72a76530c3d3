//! The one table of ipvsadm's options: the parser, the usage text and `-S` all read it.

use std::fmt;

use crate::model::{Forward, Protocol, TunnelChecksum};

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

const fn row(
    section: Section,
    long: &'static str,
    shorts: &'static str,
    action: Action,
    value: Value,
    value_name: &'static str,
    help: &'static [&'static str],
) -> Spec {
    Spec {
        long,
        shorts,
        value,
        action,
        section,
        value_name,
        help,
    }
}

const fn verb(
    long: &'static str,
    shorts: &'static str,
    verb: Verb,
    help: &'static [&'static str],
) -> Spec {
    row(
        Section::Commands,
        long,
        shorts,
        Action::Verb(verb),
        Value::No,
        "",
        help,
    )
}

const fn switch(
    long: &'static str,
    shorts: &'static str,
    action: Action,
    help: &'static [&'static str],
) -> Spec {
    row(Section::Options, long, shorts, action, Value::No, "", help)
}

const fn option(
    long: &'static str,
    shorts: &'static str,
    action: Action,
    value_name: &'static str,
    help: &'static [&'static str],
) -> Spec {
    row(
        Section::Options,
        long,
        shorts,
        action,
        Value::Yes,
        value_name,
        help,
    )
}

const fn service(long: &'static str, shorts: &'static str, protocol: Protocol) -> Spec {
    row(
        Section::Services,
        long,
        shorts,
        Action::Service(protocol),
        Value::Yes,
        "service-address",
        &["service-address is host[:port]"],
    )
}

const fn daemon(
    long: &'static str,
    action: Action,
    value_name: &'static str,
    help: &'static [&'static str],
) -> Spec {
    row(
        Section::Daemon,
        long,
        "",
        action,
        Value::Yes,
        value_name,
        help,
    )
}

/// Every option, in the order of the usage text.
pub(super) const OPTIONS: &[Spec] = &[
    verb(
        "add-service",
        "A",
        Verb::AddService,
        &["add virtual service with options"],
    ),
    verb(
        "edit-service",
        "E",
        Verb::EditService,
        &["edit virtual service with options"],
    ),
    verb(
        "delete-service",
        "D",
        Verb::DeleteService,
        &["delete virtual service"],
    ),
    verb("clear", "C", Verb::Clear, &["clear the whole table"]),
    verb("restore", "R", Verb::Restore, &["restore rules from stdin"]),
    verb("save", "S", Verb::Save, &["save rules to stdout"]),
    verb(
        "add-server",
        "a",
        Verb::AddServer,
        &["add real server with options"],
    ),
    verb(
        "edit-server",
        "e",
        Verb::EditServer,
        &["edit real server with options"],
    ),
    verb(
        "delete-server",
        "d",
        Verb::DeleteServer,
        &["delete real server"],
    ),
    verb("list", "Ll", Verb::List, &["list the table"]),
    verb(
        "zero",
        "Z",
        Verb::Zero,
        &["zero counters in a service or all services"],
    ),
    // The three values are words of their own, not the option's value.
    row(
        Section::Commands,
        "set",
        "",
        Action::Verb(Verb::Set),
        Value::No,
        "tcp tcpfin udp",
        &["set connection timeout values"],
    ),
    row(
        Section::Commands,
        "start-daemon",
        "",
        Action::Verb(Verb::StartDaemon),
        Value::Yes,
        "",
        &["start connection sync daemon"],
    ),
    row(
        Section::Commands,
        "stop-daemon",
        "",
        Action::Verb(Verb::StopDaemon),
        Value::Yes,
        "",
        &["stop connection sync daemon"],
    ),
    verb("help", "h", Verb::Help, &["display this help message"]),
    row(
        Section::Hidden,
        "version",
        "v",
        Action::Verb(Verb::Version),
        Value::No,
        "",
        &[],
    ),
    service("tcp-service", "t", Protocol::Tcp),
    service("udp-service", "u", Protocol::Udp),
    service("sctp-service", "", Protocol::Sctp),
    row(
        Section::Services,
        "fwmark-service",
        "f",
        Action::Mark,
        Value::Yes,
        "fwmark",
        &["fwmark is an integer greater than zero"],
    ),
    switch("ipv6", "6", Action::Ipv6, &["fwmark entry uses IPv6"]),
    option(
        "scheduler",
        "s",
        Action::Scheduler,
        "scheduler",
        &[
            "one of rr|wrr|lc|wlc|lblc|lblcr|dh|sh|sed|nq|fo|ovf|mh,",
            "the default scheduler is wlc.",
        ],
    ),
    option(
        "pe",
        "",
        Action::Engine,
        "engine",
        &[
            "alternate persistence engine may be sip,",
            "not set by default.",
        ],
    ),
    row(
        Section::Options,
        "persistent",
        "p",
        Action::Persistent,
        Value::Maybe,
        "[timeout]",
        &["persistent service"],
    ),
    option(
        "netmask",
        "M",
        Action::Netmask,
        "netmask",
        &["persistent granularity mask"],
    ),
    option(
        "real-server",
        "r",
        Action::Server,
        "server-address",
        &["server-address is host (and port)"],
    ),
    switch(
        "gatewaying",
        "g",
        Action::Forward(Forward::Gateway),
        &["gatewaying (direct routing) (default)"],
    ),
    switch(
        "ipip",
        "i",
        Action::Forward(Forward::Tunnel),
        &["ipip encapsulation (tunneling)"],
    ),
    switch(
        "masquerading",
        "m",
        Action::Forward(Forward::Masquerade),
        &["masquerading (NAT)"],
    ),
    option(
        "tun-type",
        "",
        Action::TunnelType,
        "type",
        &["one of ipip|gue|gre,", "the default tunnel type is ipip."],
    ),
    option(
        "tun-port",
        "",
        Action::TunnelPort,
        "port",
        &["tunnel destination port"],
    ),
    switch(
        "tun-nocsum",
        "",
        Action::TunnelChecksum(TunnelChecksum::None),
        &["tunnel encapsulation without checksum"],
    ),
    switch(
        "tun-csum",
        "",
        Action::TunnelChecksum(TunnelChecksum::Full),
        &["tunnel encapsulation with checksum"],
    ),
    switch(
        "tun-remcsum",
        "",
        Action::TunnelChecksum(TunnelChecksum::Remote),
        &["tunnel encapsulation with remote checksum"],
    ),
    option(
        "weight",
        "w",
        Action::Weight,
        "weight",
        &["capacity of real server"],
    ),
    option(
        "u-threshold",
        "x",
        Action::UpperThreshold,
        "uthreshold",
        &["upper threshold of connections"],
    ),
    option(
        "l-threshold",
        "y",
        Action::LowerThreshold,
        "lthreshold",
        &["lower threshold of connections"],
    ),
    switch(
        "connection",
        "c",
        Action::Connection,
        &["output of current IPVS connections"],
    ),
    switch(
        "timeout",
        "",
        Action::Timeout,
        &["output of timeout (tcp tcpfin udp)"],
    ),
    switch(
        "daemon",
        "",
        Action::Daemon,
        &["output of daemon information"],
    ),
    switch(
        "stats",
        "",
        Action::Stats,
        &["output of statistics information"],
    ),
    switch("rate", "", Action::Rate, &["output of rate information"]),
    switch(
        "exact",
        "X",
        Action::Exact,
        &["expand numbers (display exact values)"],
    ),
    switch(
        "thresholds",
        "",
        Action::Thresholds,
        &["output of thresholds information"],
    ),
    switch(
        "persistent-conn",
        "",
        Action::PersistentConn,
        &["output of persistent connection info"],
    ),
    switch(
        "tun-info",
        "",
        Action::TunnelInfo,
        &["output of tunnel information"],
    ),
    switch(
        "nosort",
        "",
        Action::NoSort,
        &["disable sorting output of service/server entries"],
    ),
    switch(
        "sort",
        "",
        Action::Sort,
        &["does nothing, for backwards compatibility"],
    ),
    switch("ops", "o", Action::OnePacket, &["one-packet scheduling"]),
    switch(
        "numeric",
        "n",
        Action::Numeric,
        &["numeric output of addresses and ports"],
    ),
    option(
        "sched-flags",
        "b",
        Action::SchedulerFlags,
        "flags",
        &["scheduler flags (comma-separated)"],
    ),
    daemon(
        "syncid",
        Action::SyncId,
        "sid",
        &["syncid for connection sync (default=255)"],
    ),
    daemon(
        "sync-maxlen",
        Action::SyncMaxLength,
        "length",
        &["Max sync message length (default=1472)"],
    ),
    daemon(
        "mcast-interface",
        Action::McastInterface,
        "interface",
        &["multicast interface for connection sync"],
    ),
    daemon(
        "mcast-group",
        Action::McastGroup,
        "address",
        &["IPv4/IPv6 group (default=224.0.0.81)"],
    ),
    daemon(
        "mcast-port",
        Action::McastPort,
        "port",
        &["UDP port (default=8848)"],
    ),
    daemon(
        "mcast-ttl",
        Action::McastTtl,
        "ttl",
        &["Multicast TTL (default=1)"],
    ),
];

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

/// Options that messages give one name, in the order in which they are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Group {
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
    McastInterface,
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
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxLength,
    TunnelInfo,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelFullChecksum,
    TunnelRemoteChecksum,
}

/// Groups with their names.
pub(super) const GROUPS: &[(Group, &str)] = &[
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
    (Group::McastInterface, "mcast-interface"),
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
    (Group::McastGroup, "mcast-group"),
    (Group::McastPort, "mcast-port"),
    (Group::McastTtl, "mcast-ttl"),
    (Group::SyncMaxLength, "sync-maxlen"),
    (Group::TunnelInfo, "tun-info"),
    (Group::TunnelType, "tun-type"),
    (Group::TunnelPort, "tun-port"),
    (Group::TunnelNoChecksum, "tun-nocsum"),
    (Group::TunnelFullChecksum, "tun-csum"),
    (Group::TunnelRemoteChecksum, "tun-remcsum"),
];

impl Action {
    /// The group of this option; commands, `-6` and `--sort` have none.
    pub(super) const fn group(self) -> Option<Group> {
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
            Self::McastInterface => Group::McastInterface,
            Self::McastGroup => Group::McastGroup,
            Self::McastPort => Group::McastPort,
            Self::McastTtl => Group::McastTtl,
        })
    }
}

/// Whether a command, or a kind of tunnel, takes an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    Illegal,
    Optional,
    Required,
    /// At most one of these.
    Exclusive,
}

impl Verb {
    /// The command's name in messages.
    pub(super) const fn name(self) -> &'static str {
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
            Self::Help => "help",
            Self::Version => "version",
        }
    }

    /// Whether the command takes an option.
    pub(super) const fn rule(self, group: Group) -> Rule {
        use Group as G;
        match self {
            Self::AddService | Self::EditService => match group {
                G::Service => Rule::Required,
                G::Scheduler
                | G::Persistent
                | G::Netmask
                | G::OnePacket
                | G::Engine
                | G::SchedulerFlags => Rule::Optional,
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
                G::McastInterface
                | G::SyncId
                | G::McastGroup
                | G::McastPort
                | G::McastTtl
                | G::SyncMaxLength => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::StopDaemon => match group {
                G::SyncId => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::Save => match group {
                G::Numeric => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::Zero => match group {
                G::Service => Rule::Optional,
                _ => Rule::Illegal,
            },
            Self::Clear | Self::Restore | Self::Set | Self::Help | Self::Version => Rule::Illegal,
        }
    }
}
