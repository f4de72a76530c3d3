//! From everything that was read to a command.

use super::draft::Draft;
use crate::{
    ipvsadm::{
        command::{Command, Failure, Format, ListOptions, Subject, usage_error},
        options::{self, Group, TUNNEL_GROUPS, Verb},
        scheduler_flags,
    },
    model::{
        Family, Forward, Persistence, Protocol, SchedulerName, Server, ServiceConfig, ServiceKey,
    },
    operation::Operation,
    sync::SyncDaemon,
};

impl Draft<'_> {
    /// Check what was read and make a command of it.
    pub(super) fn finish(self, verb: Verb) -> Result<Command, Failure> {
        // Before the options are checked against the command, as in ipvsadm; after all of them were read,
        // because -b may stand before -s.
        let flags = scheduler_flags::parse(&self.scheduler_flags, &self.scheduler)?;
        options::check(verb, |group| self.has(group))?;
        self.build(verb, flags)
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
                    all: self.has(Group::All),
                });
            }
            Verb::Restore => {
                return Ok(Command::Restore {
                    atomic: self.has(Group::Atomic),
                });
            }
            Verb::Setting => self.setting,
            Verb::StartDaemon => Operation::StartSyncDaemon(self.daemon()),
            Verb::StopDaemon => Operation::StopSyncDaemon(self.role),
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
            slow_start: self.slow_start,
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
        options::check_tunnel(self.tunnel.kind, |group| self.has(group))?;

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
