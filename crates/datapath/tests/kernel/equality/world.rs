//! Random services and servers, and changes of them.

use std::net::SocketAddrV4;

use furiwake_engine::schedule::Scheduler;
use furiwake_lvs::{
    model::{
        Forward, Persistence, Protocol, SchedulerName, Server, ServerKey, ServiceConfig,
        ServiceKey, Settings, Timeouts, Tunnel, TunnelChecksum, TunnelKind,
    },
    plan::Change,
};

use super::choice::{Choice, PORTS, SERVER_PORTS, SERVERS, VIRTUALS};

/// The services and servers of a case, as they are first chosen: packets and changes are about these, mostly.
pub(crate) struct World {
    services: Vec<ServiceConfig>,
    servers: Vec<SocketAddrV4>,
    settings: Settings,
    /// One server only, for services under twos, which draws lots.
    draws: bool,
}

impl World {
    pub(crate) fn new(choice: &mut Choice) -> Self {
        let draws = choice.one_in(10);
        let mut services: Vec<ServiceConfig> = Vec::new();
        for _ in 0..=choice.below(3) {
            let key = ServiceKey::Address {
                protocol: choice.one_of(&[Protocol::Tcp, Protocol::Udp]),
                address: choice.end(&VIRTUALS[..2], &[0]).ip().to_owned().into(),
                port: choice.one_of(PORTS),
            };
            if services.iter().all(|known| known.key != key) {
                services.push(service(choice, key, draws));
            }
        }
        let servers = (0..=choice.below(4)).map(|_| choice.end(SERVERS, SERVER_PORTS));
        Self {
            services,
            servers: servers.collect(),
            settings: Settings::default(),
            draws,
        }
    }

    /// The changes that make it.
    pub(crate) fn beginning(&mut self, choice: &mut Choice) -> Vec<Change> {
        let mut changes = Vec::new();
        if choice.one_in(3) {
            changes.push(self.other_settings(choice));
        }
        for config in self.services.clone() {
            changes.push(Change::AddService(config.clone()));
            for end in self.servers.clone() {
                if !choice.one_in(5) {
                    changes.push(self.add(choice, &config, end));
                }
            }
        }
        changes
    }

    /// A change while packets flow.
    pub(crate) fn change(&mut self, choice: &mut Choice) -> Change {
        let at = choice.below(self.services.len());
        let config = self.services[at].clone();
        let end = self.server(choice);
        let (address, port) = ((*end.ip()).into(), end.port());
        match choice.below(12) {
            0 => Change::RemoveService(config.key),
            1 => Change::AddService(config),
            2 => {
                self.services[at] = service(choice, config.key, self.draws);
                Change::EditService(self.services[at].clone())
            }
            3 => self.other_settings(choice),
            4 => Change::SetTimeouts(Timeouts {
                tcp: choice.one_of(&[900, 10, 1]),
                tcp_fin: choice.one_of(&[120, 3]),
                udp: choice.one_of(&[300, 5]),
            }),
            5..8 => Change::RemoveServer {
                service: config.key,
                server: ServerKey { address, port },
            },
            _ => self.add(choice, &config, end),
        }
    }

    /// A service's address, mostly one that there is.
    pub(crate) fn virtual_end(&self, choice: &mut Choice) -> (SocketAddrV4, bool) {
        let config = &self.services[choice.below(self.services.len())];
        let mut end = choice.end(VIRTUALS, &[80, 81, 21, 4000]);
        let mut is_tcp = choice.one_in(2);
        if !choice.one_in(6)
            && let ServiceKey::Address {
                address: std::net::IpAddr::V4(address),
                port,
                protocol,
            } = config.key
        {
            end.set_ip(address);
            if port != 0 && !choice.one_in(6) {
                end.set_port(port);
            }
            is_tcp = protocol == Protocol::Tcp;
        }
        (end, is_tcp)
    }

    /// A server's end, mostly one that there is.
    pub(crate) fn server(&self, choice: &mut Choice) -> SocketAddrV4 {
        match choice.one_in(8) {
            true => choice.end(SERVERS, SERVER_PORTS),
            false => choice.one_of(&self.servers),
        }
    }

    /// A server with random options.
    fn add(&self, choice: &mut Choice, config: &ServiceConfig, end: SocketAddrV4) -> Change {
        let end = if self.draws { self.servers[0] } else { end };
        let kind = choice.one_of(&[TunnelKind::Ipip, TunnelKind::Gue, TunnelKind::Gre]);
        let checksum = match kind {
            TunnelKind::Ipip => TunnelChecksum::None,
            TunnelKind::Gre => choice.one_of(&[TunnelChecksum::None, TunnelChecksum::Full]),
            TunnelKind::Gue => choice.one_of(&[
                TunnelChecksum::None,
                TunnelChecksum::Full,
                TunnelChecksum::Remote,
            ]),
        };
        let forward = choice.one_of(&[
            Forward::Masquerade,
            Forward::Masquerade,
            Forward::Gateway,
            Forward::Tunnel,
        ]);
        let tunnel = match forward {
            Forward::Tunnel => Tunnel {
                kind,
                port: if kind == TunnelKind::Gue { 6080 } else { 0 },
                checksum,
            },
            _ => Tunnel::default(),
        };
        let server = Server {
            key: ServerKey {
                address: (*end.ip()).into(),
                port: end.port(),
            },
            forward,
            weight: choice.one_of(&[0, 1, 1, 1, 2, 3, 10]),
            upper_threshold: choice.one_of(&[0, 0, 0, 1, 2, 4]),
            lower_threshold: choice.one_of(&[0, 0, 1]),
            tunnel,
        };
        Change::AddServer {
            service: config.key,
            server,
        }
    }

    fn other_settings(&mut self, choice: &mut Choice) -> Change {
        for _ in 0..=choice.below(3) {
            let (name, values): (_, &[_]) = choice.one_of(SETTINGS);
            let value = choice.one_of(values);
            self.settings.set(name, value).unwrap();
        }
        Change::SetSettings(self.settings.clone())
    }
}

/// Settings that decide about packets, without `drop_entry`, which draws lots.
const SETTINGS: &[(&str, &[&str])] = &[
    ("expire_nodest_conn", &["0", "1"]),
    ("expire_quiescent_template", &["0", "1"]),
    ("conn_reuse_mode", &["0", "1", "2", "3"]),
    ("sloppy_tcp", &["0", "1"]),
    ("pmtu_disc", &["0", "1"]),
    ("nat_icmp_send", &["0", "1"]),
    ("reset_without_server", &["0", "1"]),
    ("secure_tcp", &["0", "3"]),
    ("schedule_icmp", &["0", "1"]),
    ("drop_packet", &["0", "0", "3"]),
    ("am_droprate", &["2", "3"]),
];

fn service(choice: &mut Choice, key: ServiceKey, draws: bool) -> ServiceConfig {
    let mut scheduler = choice.one_of(Scheduler::ALL);
    if draws || scheduler == Scheduler::Twos {
        scheduler = if draws {
            Scheduler::Twos
        } else {
            Scheduler::Rr
        };
    }
    // Filling 65537 slots takes longer than the rest of a case.
    if scheduler == Scheduler::Maglev && !choice.one_in(8) {
        scheduler = Scheduler::Wrr;
    }
    let is_on_every_port = matches!(key, ServiceKey::Address { port: 0, .. });
    let persistence = Persistence {
        timeout: choice.one_of(&[2, 60, 360]),
        netmask: choice.one_of(&[u32::MAX, u32::MAX, 0xffff_fff0, 0xffff_0000]),
    };
    let is_persistent = is_on_every_port || choice.one_in(3);
    // With these slow start draws lots.
    let may_be_slow = !matches!(scheduler, Scheduler::Rr | Scheduler::Wrr);
    ServiceConfig {
        key,
        scheduler: SchedulerName(scheduler.name().to_owned()),
        scheduler_flags: choice.one_of(&[0, 0, 8, 16, 24, 32]),
        persistence: Some(persistence).filter(|_| is_persistent),
        persistence_engine: None,
        one_packet: matches!(
            key,
            ServiceKey::Address {
                protocol: Protocol::Udp,
                ..
            }
        ) && choice.one_in(4),
        slow_start: if may_be_slow {
            choice.one_of(&[0, 0, 0, 30])
        } else {
            0
        },
    }
}
