//! From words to a [`Command`], with the checks of ipvsadm in the order of ipvsadm.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Names,
    command::{Command, Failure, Format, ListOptions, Subject, try_help, usage_error},
    endpoint,
    number::{atoi, bounded, strtol},
    options::{Action, GROUPS, Group, Rule, Verb},
    popt::Popt,
    scheduler_flags,
};
use crate::{
    model::{
        Family, Forward, Persistence, Protocol, SchedulerName, Server, ServerKey, ServiceConfig,
        ServiceKey, Timeouts, Tunnel, TunnelKind,
    },
    operation::Operation,
    sync::{SyncDaemon, SyncRole},
};

/// 31 days, the most that ipvsadm takes for a timeout.
const MAX_TIMEOUT: i64 = 86400 * 31;
/// Seconds of persistence for `-p` without a value.
const DEFAULT_PERSISTENCE: u32 = 360;
/// `IP_VS_SCHEDNAME_MAXLEN`, `IP_VS_PENAME_MAXLEN` and `IP_VS_IFNAME_MAXLEN` hold a zero byte as well.
const NAME_LENGTH: usize = 15;

/// Understand one command line; `args[0]` is the name of the program, for messages.
pub fn parse(args: &[String], names: &dyn Names) -> Result<Command, Failure> {
    let (program, words) = match args.split_first() {
        Some((program, words)) => (program.as_str(), words),
        None => ("ipvsadm", args),
    };
    if words.is_empty() {
        return Ok(Command::List(ListOptions::default()));
    }

    let mut popt = Popt::new(words);
    let Ok(Some((Action::Verb(verb), value))) = popt.next_option() else {
        return Err(try_help(program));
    };
    match verb {
        Verb::Help => return Ok(Command::Help),
        Verb::Version => return Ok(Command::Version),
        _ => {}
    }
    let mut draft = Draft::new(names);
    draft.start(verb, value)?;

    loop {
        match popt.next_option() {
            Ok(Some((Action::Verb(_), _))) => {
                return Err(usage_error(format!(
                    "invalid option `{}'",
                    popt.last_word()
                )));
            }
            Ok(Some((action, value))) => draft.take(action, value)?,
            Ok(None) => break,
            Err(fault) => {
                return Err(Failure {
                    text: format!("{}: {}", popt.last_word(), fault.text()),
                    code: 255,
                    stops_restore: false,
                });
            }
        }
    }
    if verb == Verb::Set {
        draft.timeouts = timeouts(&mut popt)?;
    }
    if let Some(word) = popt.next_word() {
        return Err(usage_error(format!("unexpected argument {word}")));
    }
    draft.finish(verb)
}

fn timeouts(popt: &mut Popt<'_>) -> Result<Timeouts, Failure> {
    let (Some(tcp), Some(tcp_fin), Some(udp)) =
        (popt.next_word(), popt.next_word(), popt.next_word())
    else {
        return Err(usage_error("--set option requires 3 timeout values"));
    };
    Ok(Timeouts {
        tcp: timeout(tcp, 0)?,
        tcp_fin: timeout(tcp_fin, 0)?,
        udp: timeout(udp, 0)?,
    })
}

fn timeout(text: &str, least: i64) -> Result<u32, Failure> {
    number(text, least, MAX_TIMEOUT)
        .ok_or_else(|| usage_error(format!("invalid timeout value `{text}' specified")))
}

/// A number within bounds, of the type that the place for it has.
fn number<T: TryFrom<i64>>(text: &str, least: i64, most: i64) -> Option<T> {
    T::try_from(bounded(text, least, most)?).ok()
}

/// What is known of a command while its options are read.
struct Draft<'n> {
    names: &'n dyn Names,
    seen: u64,
    timeouts: Timeouts,
    role: SyncRole,

    protocol: Option<Protocol>,
    family: Option<Family>,
    address: IpAddr,
    port: u16,
    mark: u32,
    scheduler: String,
    scheduler_flags: String,
    persistence: Option<u32>,
    netmask: u32,
    engine: String,
    one_packet: bool,

    server: ServerKey,
    forward: Forward,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    tunnel: Tunnel,

    format: [bool; 5],
    daemon: SyncDaemon,
}

impl<'n> Draft<'n> {
    fn new(names: &'n dyn Names) -> Self {
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            names,
            seen: 0,
            timeouts: Timeouts {
                tcp: 0,
                tcp_fin: 0,
                udp: 0,
            },
            role: SyncRole::Master,
            protocol: None,
            family: None,
            address: nobody,
            port: 0,
            mark: 0,
            scheduler: String::new(),
            scheduler_flags: String::new(),
            persistence: None,
            netmask: u32::MAX,
            engine: String::new(),
            one_packet: false,
            server: ServerKey {
                address: nobody,
                port: 0,
            },
            forward: Forward::Gateway,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: Tunnel::default(),
            format: [false; 5],
            daemon: SyncDaemon {
                role: SyncRole::Master,
                interface: String::new(),
                sync_id: 0,
                max_length: None,
                group: None,
                port: None,
                ttl: None,
            },
        }
    }

    fn has(&self, group: Group) -> bool {
        self.seen & (1 << group as u8) != 0
    }

    fn start(&mut self, verb: Verb, value: Option<&str>) -> Result<(), Failure> {
        let problem = match verb {
            Verb::StartDaemon => "illegal start-daemon parameter specified",
            Verb::StopDaemon => "illegal start_daemon specified",
            _ => return Ok(()),
        };
        self.role = match value {
            Some("master") => SyncRole::Master,
            Some("backup") => SyncRole::Backup,
            _ => return Err(usage_error(problem)),
        };
        Ok(())
    }

    fn take(&mut self, action: Action, value: Option<&str>) -> Result<(), Failure> {
        if let Some(group) = action.group() {
            if self.has(group) {
                return Err(usage_error(format!(
                    "multiple '{}' options specified",
                    group_name(group)
                )));
            }
            self.seen |= 1 << group as u8;
        }
        let text = value.unwrap_or_default();
        match action {
            Action::Service(protocol) => self.take_service(protocol, text)?,
            Action::Mark => {
                self.mark = mark(text)?;
                self.family = Some(Family::V4);
                self.protocol = Some(Protocol::Tcp);
            }
            Action::Ipv6 if self.mark == 0 => return Err(usage_error("-6 used before -f\n")),
            Action::Ipv6 => {
                self.family = Some(Family::V6);
                self.netmask = 128;
            }
            Action::Scheduler => self.scheduler = shortened(text),
            Action::SchedulerFlags => self.scheduler_flags = text.to_owned(),
            Action::Engine => self.engine = shortened(text),
            Action::Persistent => {
                self.persistence = Some(match value {
                    Some(text) => timeout(text, 1)?,
                    None => DEFAULT_PERSISTENCE,
                });
            }
            Action::Netmask => self.netmask = self.parse_netmask(text)?,
            Action::OnePacket => self.one_packet = true,
            Action::Server => self.take_server(text)?,
            Action::Forward(forward) => self.forward = forward,
            Action::Weight => {
                self.weight = int(text).ok_or_else(|| usage_error("illegal weight specified"))?;
            }
            Action::UpperThreshold => {
                self.upper_threshold =
                    int(text).ok_or_else(|| usage_error("illegal u_threshold specified"))?;
            }
            Action::LowerThreshold => {
                self.lower_threshold =
                    int(text).ok_or_else(|| usage_error("illegal l_threshold specified"))?;
            }
            Action::TunnelType => {
                self.tunnel.kind = TunnelKind::from_name(text)
                    .ok_or_else(|| usage_error("illegal tunnel type specified"))?;
            }
            Action::TunnelPort => {
                self.tunnel.port = number(text, 1, 65535)
                    .ok_or_else(|| usage_error("illegal tunnel port specified"))?;
            }
            Action::TunnelChecksum(checksum) => self.tunnel.checksum = checksum,
            Action::Stats => self.format[0] = true,
            Action::Rate => self.format[1] = true,
            Action::Thresholds => self.format[2] = true,
            Action::PersistentConn => self.format[3] = true,
            Action::TunnelInfo => self.format[4] = true,
            Action::SyncId
            | Action::SyncMaxLength
            | Action::McastInterface
            | Action::McastGroup
            | Action::McastPort
            | Action::McastTtl => self.take_daemon_option(action, text)?,
            // Having been seen is all there is to these.
            Action::Connection
            | Action::Timeout
            | Action::Daemon
            | Action::Exact
            | Action::NoSort
            | Action::Sort
            | Action::Numeric
            | Action::Verb(_) => {}
        }
        Ok(())
    }

    fn take_service(&mut self, protocol: Protocol, text: &str) -> Result<(), Failure> {
        self.protocol = Some(protocol);
        let endpoint = endpoint::parse(text, self.protocol, self.names)
            .ok_or_else(|| usage_error("illegal virtual server address[:port] specified"))?;
        self.address = endpoint.address;
        self.port = endpoint.port.unwrap_or(0);
        self.family = Some(Family::of(endpoint.address));
        if self.family == Some(Family::V6) {
            self.netmask = 128;
        }
        Ok(())
    }

    fn take_server(&mut self, text: &str) -> Result<(), Failure> {
        let endpoint = endpoint::parse(text, self.protocol, self.names)
            .ok_or_else(|| usage_error("illegal real server address[:port] specified"))?;
        // Without a port it gets the service's, as far as that is known by now.
        self.server = ServerKey {
            address: endpoint.address,
            port: endpoint.port.unwrap_or(self.port),
        };
        Ok(())
    }

    fn parse_netmask(&self, text: &str) -> Result<u32, Failure> {
        if self.family == Some(Family::V6) {
            return u32::try_from(atoi(text))
                .ok()
                .filter(|bits| (1..=128).contains(bits))
                .ok_or_else(|| usage_error("illegal ipv6 netmask specified"));
        }
        endpoint::parse_host(text, self.names)
            .map(u32::from)
            .ok_or_else(|| usage_error("illegal virtual server persistent mask specified"))
    }

    fn take_daemon_option(&mut self, action: Action, text: &str) -> Result<(), Failure> {
        let daemon = &mut self.daemon;
        match action {
            Action::McastInterface => daemon.interface = shortened(text),
            Action::McastGroup => daemon.group = Some(multicast_group(text)?),
            Action::SyncId => {
                daemon.sync_id =
                    number(text, 0, 255).ok_or_else(|| usage_error("illegal syncid specified"))?;
            }
            Action::SyncMaxLength => {
                // What fits into a UDP datagram.
                let length = number(text, 1, 65507);
                daemon.max_length =
                    Some(length.ok_or_else(|| usage_error("illegal sync-maxlen specified"))?);
            }
            Action::McastPort => {
                let port = number(text, 1, 65535);
                daemon.port =
                    Some(port.ok_or_else(|| usage_error("illegal mcast-port specified"))?);
            }
            Action::McastTtl => {
                let ttl = number(text, 1, 255);
                daemon.ttl = Some(ttl.ok_or_else(|| usage_error("illegal mcast-ttl specified"))?);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, verb: Verb) -> Result<Command, Failure> {
        // Before the options are checked against the command, as in ipvsadm; after all of them were read,
        // because -b may stand before -s.
        let flags = scheduler_flags::parse(&self.scheduler_flags, &self.scheduler)?;
        self.check_options(verb)?;
        self.build(verb, flags)
    }

    /// ipvsadm's `generic_opt_check`.
    fn check_options(&self, verb: Verb) -> Result<(), Failure> {
        let place = format!("'{}' command", verb.name());
        check_rules(
            &place,
            GROUPS,
            |group| verb.rule(group),
            |group| self.has(group),
        )
    }

    fn build(self, verb: Verb, scheduler_flags: u32) -> Result<Command, Failure> {
        let service = self.key();
        let operation = match verb {
            Verb::AddService => Operation::AddService(self.service(scheduler_flags)?),
            Verb::EditService => Operation::EditService(self.service(scheduler_flags)?),
            Verb::DeleteService => Operation::DeleteService(service),
            Verb::Clear => Operation::Flush,
            Verb::AddServer => Operation::AddServer {
                service,
                server: self.server()?,
            },
            Verb::EditServer => Operation::EditServer {
                service,
                server: self.server()?,
            },
            Verb::DeleteServer => Operation::DeleteServer {
                service,
                server: self.server,
            },
            Verb::Zero => Operation::Zero(self.has(Group::Service).then_some(service)),
            Verb::Set => Operation::SetTimeouts(self.timeouts),
            Verb::List => return self.list().map(Command::List),
            Verb::Save => {
                return Ok(Command::Save {
                    numeric: self.has(Group::Numeric),
                });
            }
            Verb::Restore => return Ok(Command::Restore),
            Verb::StartDaemon => return Ok(Command::StartDaemon(self.daemon())),
            Verb::StopDaemon => return Ok(Command::StopDaemon(self.role)),
            Verb::Help => return Ok(Command::Help),
            Verb::Version => return Ok(Command::Version),
        };
        Ok(Command::Change(operation))
    }

    fn key(&self) -> ServiceKey {
        if self.mark != 0 {
            return ServiceKey::Mark {
                mark: self.mark,
                family: self.family.unwrap_or(Family::V4),
            };
        }
        ServiceKey::Address {
            protocol: self.protocol.unwrap_or(Protocol::Tcp),
            address: self.address,
            port: self.port,
        }
    }

    fn service(self, scheduler_flags: u32) -> Result<ServiceConfig, Failure> {
        if self.mark == 0 && self.port == 0 && self.persistence.is_none() {
            return Err(usage_error(
                "Zero port specified for non-persistent service",
            ));
        }
        if self.one_packet && self.mark == 0 && self.protocol != Some(Protocol::Udp) {
            return Err(usage_error(
                "One-Packet Scheduling is only for UDP virtual services",
            ));
        }
        let scheduler = if self.scheduler.is_empty() {
            "wlc".to_owned()
        } else {
            self.scheduler.clone()
        };
        Ok(ServiceConfig {
            key: self.key(),
            scheduler: SchedulerName(scheduler),
            scheduler_flags,
            persistence: self.persistence.map(|timeout| Persistence {
                timeout,
                netmask: self.netmask,
            }),
            persistence_engine: Some(self.engine).filter(|engine| !engine.is_empty()),
            one_packet: self.one_packet,
        })
    }

    fn server(&self) -> Result<Server, Failure> {
        let mut key = self.server;
        // Only NAT can change the port; a service by mark has none of its own.
        if self.mark == 0 && self.forward != Forward::Masquerade {
            key.port = self.port;
        }
        let tunnelled = self.forward == Forward::Tunnel;
        if Family::of(key.address) != self.family.unwrap_or(Family::V4) && !tunnelled {
            return Err(usage_error(
                "Different address family is allowed only for tunneling servers",
            ));
        }
        if TUNNEL_GROUPS.iter().any(|(group, _)| self.has(*group)) && !tunnelled {
            return Err(usage_error("Tunnel options conflict with forward method"));
        }
        let kind = self.tunnel.kind;
        let place = format!("'{}' tunnel type", kind.name());
        check_rules(
            &place,
            TUNNEL_GROUPS,
            |group| tunnel_rule(kind, group),
            |group| self.has(group),
        )?;

        Ok(Server {
            key,
            forward: self.forward,
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
            tunnel: self.tunnel,
        })
    }

    fn list(&self) -> Result<ListOptions, Failure> {
        let timeouts_or_daemons = self.has(Group::Timeout) || self.has(Group::Daemon);
        let counters =
            self.has(Group::Stats) || self.has(Group::Rate) || self.has(Group::Thresholds);
        if (timeouts_or_daemons || self.has(Group::Connection)) && counters
            || timeouts_or_daemons && self.has(Group::PersistentConn)
        {
            return Err(usage_error("options conflicts in the list command"));
        }
        let subject = if self.has(Group::Connection) {
            Subject::Connections
        } else if self.has(Group::Service) {
            Subject::Service(self.key())
        } else if self.has(Group::Timeout) {
            Subject::Timeouts
        } else if self.has(Group::Daemon) {
            Subject::Daemons
        } else {
            Subject::Services
        };
        let format = match self.format {
            [true, ..] => Format::Stats,
            [_, true, ..] => Format::Rate,
            [_, _, true, ..] => Format::Thresholds,
            [_, _, _, true, _] => Format::PersistentConn,
            [_, _, _, _, true] => Format::TunnelInfo,
            _ => Format::Default,
        };
        Ok(ListOptions {
            subject,
            format,
            numeric: self.has(Group::Numeric),
            exact: self.has(Group::Exact),
            unsorted: self.has(Group::NoSort),
        })
    }

    fn daemon(mut self) -> SyncDaemon {
        self.daemon.role = self.role;
        if self.daemon.interface.is_empty() {
            self.daemon.interface = "eth0".to_owned();
        }
        self.daemon
    }
}

/// Options about tunnels, in the order in which they are checked.
const TUNNEL_GROUPS: &[(Group, &str)] = {
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

fn group_name(group: Group) -> &'static str {
    GROUPS
        .iter()
        .find(|(other, _)| *other == group)
        .map_or("", |(_, name)| name)
}

fn mark(text: &str) -> Result<u32, Failure> {
    match strtol(text) {
        Some((mark, "")) => u32::try_from(mark).ok().filter(|mark| *mark != 0),
        _ => None,
    }
    .ok_or_else(|| usage_error(format!("invalid fwmark value `{text}' specified")))
}

/// A number that a C `int` holds and that is not negative.
fn int(text: &str) -> Option<u32> {
    number(text, 0, i64::from(i32::MAX))
}

/// A name, cut to what the kernel has room for.
fn shortened(text: &str) -> String {
    let end = (0..=NAME_LENGTH.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

fn multicast_group(text: &str) -> Result<IpAddr, Failure> {
    if text.contains(':') {
        return match text.parse::<Ipv6Addr>() {
            Ok(group) if group.is_multicast() => Ok(group.into()),
            _ => Err(usage_error(format!("invalid IPv6 mcast-group `{text}'"))),
        };
    }
    match text.parse::<Ipv4Addr>() {
        Ok(group) if group.is_multicast() => Ok(group.into()),
        _ => Err(usage_error(format!("invalid IPv4 mcast-group `{text}'"))),
    }
}

impl TunnelKind {
    /// The name that ipvsadm uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Ipip, Self::Gue, Self::Gre]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}
