//! What `ipvsadm -S` prints: the commands that make the table again.
//!
//! Like ipvsadm it leaves out thresholds, timeouts and sync daemons, unless asked for all.

use std::fmt::Write as _;

use super::{
    Names,
    name::{Style, netmask, protocol_of},
    options::{Action, Verb, flag},
    scheduler_flags, sort,
};
use crate::{
    model::{Forward, Server, ServiceConfig, Timeouts, TunnelKind},
    sync::SyncDaemon,
    view::{ServerView, ServiceView, View},
};

/// One `-A` line per service, each followed by one `-a` line per server, in the order of a list.
pub fn save(view: &View, numeric: bool, names: &dyn Names) -> String {
    let mut services: Vec<&ServiceView> = view.services.iter().collect();
    sort::services(&mut services, |service| service.config.key);

    let mut text = String::new();
    for service in services {
        let mut servers: Vec<&ServerView> = service.servers.iter().collect();
        sort::servers(&mut servers, |server| server.server.key);
        let save = Save::new(service, Style { numeric, names }, false);
        save.service(&mut text, servers);
    }
    text
}

/// Ours, `-S --all`: what `-R` makes the same director of. Settings first, because schedulers may depend on
/// them; servers in the order in which they have to be added to come to lie as they do.
pub fn save_all(view: &View, numeric: bool, names: &dyn Names) -> String {
    let View {
        services,
        timeouts,
        settings,
        sync_daemons,
        connection_table_size: _,
    } = view;
    let mut text = String::from("--setting defaults\n");
    for setting in settings.changed() {
        let _ = writeln!(
            text,
            "--setting {}={}",
            setting.name,
            setting.value(settings)
        );
    }
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    let _ = writeln!(text, "--set {tcp} {tcp_fin} {udp}");
    for service in services {
        let save = Save::new(service, Style { numeric, names }, true);
        save.service(&mut text, service.servers.iter().rev().collect());
    }
    for daemon in sync_daemons {
        save_daemon(&mut text, daemon);
    }
    text
}

/// How the lines of one service are written.
struct Save<'a> {
    config: &'a ServiceConfig,
    style: Style<'a>,
    selector: String,
    all: bool,
}

impl<'a> Save<'a> {
    fn new(service: &'a ServiceView, style: Style<'a>, all: bool) -> Self {
        Self {
            config: &service.config,
            style,
            selector: style.selector(&service.config.key),
            all,
        }
    }

    fn service(&self, text: &mut String, servers: Vec<&ServerView>) {
        self.config(text);
        for ServerView { server, .. } in servers {
            self.server(text, server);
        }
    }

    fn config(&self, text: &mut String) {
        let Self {
            config, selector, ..
        } = self;
        let add = flag(Action::Verb(Verb::AddService));
        let _ = write!(
            text,
            "{add} {selector} {} {}",
            flag(Action::Scheduler),
            config.scheduler.0
        );
        if let Some(persistence) = config.persistence {
            let _ = write!(
                text,
                " {} {}",
                flag(Action::Persistent),
                persistence.timeout
            );
            if let Some(mask) = netmask(config) {
                let _ = write!(text, " {} {mask}", flag(Action::Netmask));
            }
        }
        if let Some(engine) = &config.persistence_engine {
            let _ = write!(text, " {} {engine}", flag(Action::Engine));
        }
        if config.one_packet {
            let _ = write!(text, " {}", flag(Action::OnePacket));
        }
        let mut flags = scheduler_flags::list(config.scheduler_flags, &config.scheduler.0);
        if self.all {
            flags = scheduler_flags::list_of_all(config.scheduler_flags);
        }
        // ipvsadm writes an empty -b here if the flags have no names, which it cannot read again.
        if !flags.is_empty() {
            let _ = write!(text, " {} {flags}", flag(Action::SchedulerFlags));
        }
        if self.all && config.slow_start != 0 {
            let _ = write!(text, " {} {}", flag(Action::SlowStart), config.slow_start);
        }
        text.push('\n');
    }

    fn server(&self, text: &mut String, server: &Server) {
        let Self {
            config,
            style,
            selector,
            ..
        } = self;
        let endpoint = style.endpoint(
            server.key.address,
            server.key.port,
            protocol_of(&config.key),
        );
        let _ = write!(
            text,
            "{} {selector} {} {endpoint} {} {} {}",
            flag(Action::Verb(Verb::AddServer)),
            flag(Action::Server),
            flag(Action::Forward(server.forward)),
            flag(Action::Weight),
            server.weight,
        );
        if server.forward == Forward::Tunnel {
            let tunnel = server.tunnel;
            let _ = write!(text, " {} {}", flag(Action::TunnelType), tunnel.kind.name());
            if tunnel.kind == TunnelKind::Gue {
                let _ = write!(text, " {} {}", flag(Action::TunnelPort), tunnel.port);
            }
            if tunnel.kind != TunnelKind::Ipip {
                let _ = write!(text, " {}", flag(Action::TunnelChecksum(tunnel.checksum)));
            }
        }
        if self.all && server.upper_threshold != 0 {
            let _ = write!(
                text,
                " {} {} {} {}",
                flag(Action::UpperThreshold),
                server.upper_threshold,
                flag(Action::LowerThreshold),
                server.lower_threshold
            );
        }
        text.push('\n');
    }
}

fn save_daemon(text: &mut String, daemon: &SyncDaemon) {
    let SyncDaemon {
        role,
        interface,
        sync_id,
        max_length,
        group,
        port,
        ttl,
    } = daemon;
    let _ = write!(
        text,
        "--start-daemon {} {} {interface} {} {sync_id}",
        role.name(),
        flag(Action::McastInterface),
        flag(Action::SyncId)
    );
    let mut option = |action, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(text, " {} {value}", flag(action));
        }
    };
    option(
        Action::SyncMaxLength,
        max_length.map(|length| length.to_string()),
    );
    option(Action::McastGroup, group.map(|group| group.to_string()));
    option(Action::McastPort, port.map(|port| port.to_string()));
    option(Action::McastTtl, ttl.map(|ttl| ttl.to_string()));
    text.push('\n');
}
