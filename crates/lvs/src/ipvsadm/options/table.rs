//! The table itself, row by row.

use super::{Action, Section, Spec, Value, Verb};
use crate::model::{Forward, Protocol, TunnelChecksum};

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

/// What ipvsadm does not have, and its usage text therefore not either.
const fn ours(long: &'static str, action: Action, value: Value) -> Spec {
    row(Section::Hidden, long, "", action, value, "", &[])
}

/// Every option, in the order of the usage text.
pub(in crate::ipvsadm) const OPTIONS: &[Spec] = &[
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
    ours("all", Action::All, Value::No),
    ours("atomic", Action::Atomic, Value::No),
    ours("slow-start", Action::SlowStart, Value::Yes),
    ours("setting", Action::Verb(Verb::Setting), Value::Yes),
];
