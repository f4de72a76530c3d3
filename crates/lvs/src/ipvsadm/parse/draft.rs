//! What is known of a command while its options are read, one after the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{number, timeout};
use crate::{
    ipvsadm::{
        Names,
        command::{Failure, usage_error},
        endpoint,
        number::{atoi, strtol},
        options::{Action, Group, Verb},
    },
    model::{Family, Forward, Protocol, ServerKey, Settings, Timeouts, Tunnel, TunnelKind},
    operation::Operation,
    sync::{SyncDaemon, SyncRole},
};

/// Seconds of persistence for `-p` without a value.
const DEFAULT_PERSISTENCE: u32 = 360;
/// `IP_VS_SCHEDNAME_MAXLEN`, `IP_VS_PENAME_MAXLEN` and `IP_VS_IFNAME_MAXLEN` hold a zero byte as well.
const NAME_LENGTH: usize = 15;

/// What is known of a command while its options are read.
pub(super) struct Draft<'n> {
    pub(super) names: &'n dyn Names,
    pub(super) seen: u64,
    pub(super) timeouts: Timeouts,
    pub(super) role: SyncRole,
    pub(super) setting: Operation,

    pub(super) protocol: Option<Protocol>,
    pub(super) family: Option<Family>,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) mark: u32,
    pub(super) scheduler: String,
    pub(super) scheduler_flags: String,
    pub(super) persistence: Option<u32>,
    pub(super) netmask: u32,
    pub(super) engine: String,
    pub(super) one_packet: bool,
    pub(super) slow_start: u32,

    pub(super) server: ServerKey,
    pub(super) forward: Forward,
    pub(super) weight: u32,
    pub(super) upper_threshold: u32,
    pub(super) lower_threshold: u32,
    pub(super) tunnel: Tunnel,

    pub(super) format: [bool; 5],
    pub(super) daemon: SyncDaemon,
}

impl<'n> Draft<'n> {
    pub(super) fn new(names: &'n dyn Names) -> Self {
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
            setting: Operation::SetSettings(Settings::default()),
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
            slow_start: 0,
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

    pub(super) fn has(&self, group: Group) -> bool {
        self.seen & (1 << group as u8) != 0
    }

    pub(super) fn start(&mut self, verb: Verb, value: Option<&str>) -> Result<(), Failure> {
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

    pub(super) fn take(&mut self, action: Action, value: Option<&str>) -> Result<(), Failure> {
        if let Some(group) = action.group() {
            if self.has(group) {
                return Err(usage_error(format!(
                    "multiple '{}' options specified",
                    group.name()
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
            Action::SlowStart => {
                self.slow_start =
                    int(text).ok_or_else(|| usage_error("illegal slow-start specified"))?;
            }
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
            | Action::All
            | Action::Atomic
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
