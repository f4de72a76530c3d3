//! What `ipvsadm -S` prints: the commands that make the table again.
//!
//! Like ipvsadm it leaves out thresholds, timeouts and sync daemons.

use std::fmt::Write as _;

use super::{
    Names,
    name::{Style, netmask, protocol_of},
    options::{Action, Verb, flag},
    scheduler_flags, sort,
};
use crate::{
    model::{Forward, Server, ServiceConfig, TunnelKind},
    view::{ServerView, ServiceView, View},
};

/// One `-A` line per service, each followed by one `-a` line per server, in the order of a list.
pub fn save(view: &View, numeric: bool, names: &dyn Names) -> String {
    let style = Style { numeric, names };
    let mut services: Vec<&ServiceView> = view.services.iter().collect();
    sort::services(&mut services, |service| service.config.key);

    let mut text = String::new();
    for service in services {
        let selector = style.selector(&service.config.key);
        save_service(&mut text, &selector, &service.config);

        let mut servers: Vec<&ServerView> = service.servers.iter().collect();
        sort::servers(&mut servers, |server| server.server.key);
        for ServerView { server, .. } in servers {
            let endpoint = style.endpoint(
                server.key.address,
                server.key.port,
                protocol_of(&service.config.key),
            );
            save_server(&mut text, &selector, &endpoint, server);
        }
    }
    text
}

fn save_service(text: &mut String, selector: &str, config: &ServiceConfig) {
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
    let flags = scheduler_flags::list(config.scheduler_flags, &config.scheduler.0);
    // ipvsadm writes an empty -b here if the flags have no names, which it cannot read again.
    if !flags.is_empty() {
        let _ = write!(text, " {} {flags}", flag(Action::SchedulerFlags));
    }
    text.push('\n');
}

fn save_server(text: &mut String, selector: &str, endpoint: &str, server: &Server) {
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
    text.push('\n');
}
