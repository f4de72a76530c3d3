//! What `ipvsadm -L` prints, byte for byte: trailing blanks belong to it.

use std::fmt::Write as _;

use super::{
    Names,
    command::{Format, ListOptions, Subject},
    name::{Style, cut, entry_protocol_name, netmask, protocol_of},
    scheduler_flags, sort,
};
use crate::{
    model::{Family, Forward, Server, ServiceConfig, Timeouts, Tunnel, TunnelChecksum, TunnelKind},
    sync::SyncDaemon,
    view::{ConnectionView, EngineData, ServerView, ServiceView, View},
};

/// The list of services, or of the one that [`ListOptions::subject`] names; `None` if it is not there.
///
/// One thing differs from ipvsadm on purpose: counters of servers do not wrap at 32 bits.
pub fn list(view: &View, options: &ListOptions, names: &dyn Names) -> Option<String> {
    let mut services: Vec<&ServiceView> = view.services.iter().collect();
    let mut text = String::new();
    if let Subject::Service(key) = options.subject {
        services.retain(|service| service.config.key == key);
        if services.is_empty() {
            return None;
        }
    } else {
        let _ = writeln!(
            text,
            "IP Virtual Server version 1.2.1 (size={})",
            view.connection_table_size
        );
    }
    if !options.unsorted {
        sort::services(&mut services, |service| service.config.key);
    }

    let list = List {
        options,
        style: Style {
            numeric: options.numeric,
            names,
        },
    };
    text.push_str(&titles(options.format));
    for service in services {
        list.service(&mut text, service);
    }
    Some(text)
}

/// The connection table.
pub fn list_connections(
    connections: &[ConnectionView],
    options: &ListOptions,
    names: &dyn Names,
) -> String {
    let style = Style {
        numeric: options.numeric,
        names,
    };
    let mut text = String::from("IPVS connection entries\n");
    text.push_str("pro expire state       source             virtual            destination");
    if options.format == Format::PersistentConn {
        text.push_str("        pe name          pe_data");
    }
    text.push('\n');
    for connection in connections {
        let endpoint =
            |address, port| style.endpoint(address, port, connection.protocol.transport());
        let _ = write!(
            text,
            "{:<3} {:<6} {:<11} {:<18} {:<18} ",
            entry_protocol_name(connection.protocol),
            format!(
                "{:02}:{:02}",
                connection.expires / 60,
                connection.expires % 60
            ),
            connection.state,
            endpoint(connection.client, connection.client_port),
            endpoint(connection.virtual_address, connection.virtual_port),
        );
        let server = endpoint(connection.server, connection.server_port);
        let _ = match &connection.engine {
            Some(EngineData { name, data }) if options.format == Format::PersistentConn => {
                writeln!(text, "{server:<16} {name:<18} {data}")
            }
            _ => writeln!(text, "{server}"),
        };
    }
    text
}

/// The line of `-L --timeout`.
pub fn list_timeouts(timeouts: &Timeouts) -> String {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
}

/// The lines of `-L --daemon`: master first, nothing if none runs.
pub fn list_daemons(daemons: &[SyncDaemon]) -> String {
    let mut text = String::new();
    let mut daemons: Vec<&SyncDaemon> = daemons.iter().collect();
    daemons.sort_by_key(|daemon| daemon.role);
    for daemon in daemons {
        let group = daemon
            .group
            .map_or_else(|| "224.0.0.81".to_owned(), |group| group.to_string());
        let _ = writeln!(
            text,
            "{} sync daemon (mcast={}, syncid={}, maxlen={}, group={group}, port={}, ttl={})",
            daemon.role.name(),
            daemon.interface,
            daemon.sync_id,
            daemon.max_length.unwrap_or(1472),
            daemon.port.unwrap_or(8848),
            daemon.ttl.unwrap_or(1),
        );
    }
    text
}

fn titles(format: Format) -> String {
    let local = "Prot LocalAddress:Port";
    let remote = "  -> RemoteAddress:Port";
    let [a, b, c, d, e] = match format {
        Format::Default => {
            return format!(
                "{local} Scheduler Flags\n{remote:<33} Forward Weight ActiveConn InActConn\n"
            );
        }
        Format::TunnelInfo => {
            return format!(
                "{local} Scheduler Flags\n{remote:<33} Forward TunnelInfo    Weight ActiveConn InActConn\n"
            );
        }
        Format::Thresholds => {
            return format!("{local:<33} Uthreshold Lthreshold ActiveConn InActConn \n{remote}\n");
        }
        Format::PersistentConn => {
            return format!("{local:<33} Weight    PersistConn ActiveConn InActConn \n{remote}\n");
        }
        Format::Stats => ["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"],
        Format::Rate => ["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"],
    };
    format!("{local:<33} {a:>8} {b:>8} {c:>8} {d:>8} {e:>8}\n{remote}\n")
}

struct List<'a> {
    options: &'a ListOptions,
    style: Style<'a>,
}

impl List<'_> {
    fn service(&self, text: &mut String, service: &ServiceView) {
        let name = self.style.service(&service.config.key);
        match self.options.format {
            Format::Stats => {
                self.numbers(text, &format!("{name:<33}"), &service.counters.columns())
            }
            Format::Rate => self.numbers(text, &format!("{name:<33}"), &service.rates.columns()),
            _ => {
                let _ = writeln!(text, "{name} {}", description(&service.config));
            }
        }
        let mut servers: Vec<&ServerView> = service.servers.iter().collect();
        if !self.options.unsorted {
            sort::servers(&mut servers, |server| server.server.key);
        }
        for server in servers {
            self.server(text, service, server);
        }
    }

    fn server(&self, text: &mut String, service: &ServiceView, view: &ServerView) {
        let Server {
            key,
            forward,
            weight,
            upper_threshold,
            lower_threshold,
            tunnel,
        } = view.server;
        let endpoint = self
            .style
            .endpoint(key.address, key.port, protocol_of(&service.config.key));
        let name = match Family::of(key.address) {
            Family::V4 => cut(&endpoint, 28),
            Family::V6 => endpoint.as_str(),
        };
        let name = format!("  -> {name:<28}");
        let method = method(forward);
        let ServerView {
            active,
            inactive,
            persistent,
            ..
        } = view;
        let _ = match self.options.format {
            Format::Stats => {
                self.numbers(text, &name, &view.counters.columns());
                Ok(())
            }
            // Connections and packets per second of a server are never shortened, only its bytes are.
            Format::Rate => writeln!(
                text,
                "{name} {:>8} {:>8} {:>8}{}{}",
                view.rates.connections,
                view.rates.in_packets,
                view.rates.out_packets,
                large_number(view.rates.in_bytes, self.options.exact),
                large_number(view.rates.out_bytes, self.options.exact),
            ),
            Format::Thresholds => writeln!(
                text,
                "{name} {upper_threshold:<10} {lower_threshold:<10} {active:<10} {inactive:<10}"
            ),
            Format::PersistentConn => {
                writeln!(
                    text,
                    "{name} {weight:<9} {persistent:<11} {active:<10} {inactive:<10}"
                )
            }
            Format::TunnelInfo => writeln!(
                text,
                "{name} {method:<7} {:<13} {weight:<6} {active:<10} {inactive:<10}",
                tunnel_info(forward, &tunnel)
            ),
            Format::Default => {
                writeln!(
                    text,
                    "{name} {method:<7} {weight:<6} {active:<10} {inactive:<10}"
                )
            }
        };
    }

    fn numbers(&self, text: &mut String, name: &str, numbers: &[u64; 5]) {
        text.push_str(name);
        for number in numbers {
            text.push_str(&large_number(*number, self.options.exact));
        }
        text.push('\n');
    }
}

/// Scheduler and flags of a service.
fn description(config: &ServiceConfig) -> String {
    let mut text = config.scheduler.0.clone();
    if config.scheduler_flags != 0 {
        let _ = write!(
            text,
            " ({})",
            scheduler_flags::list(config.scheduler_flags, &config.scheduler.0)
        );
    }
    if let Some(persistence) = config.persistence {
        let _ = write!(text, " persistent {}", persistence.timeout);
        if let Some(mask) = netmask(config) {
            let _ = write!(text, " mask {mask}");
        }
        if let Some(engine) = &config.persistence_engine {
            let _ = write!(text, " pe {engine}");
        }
    }
    if config.one_packet {
        text.push_str(" ops");
    }
    text
}

const fn method(forward: Forward) -> &'static str {
    match forward {
        Forward::Masquerade => "Masq",
        Forward::Gateway => "Route",
        Forward::Tunnel => "Tunnel",
    }
}

fn tunnel_info(forward: Forward, tunnel: &Tunnel) -> String {
    if forward != Forward::Tunnel {
        return "n/a".to_owned();
    }
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match tunnel.kind {
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gue => format!("gue:{}:{checksum}", tunnel.port),
        TunnelKind::Gre => format!("gre:{checksum}"),
    }
}

/// A number of nine columns, the blank before it among them.
fn large_number(number: u64, exact: bool) -> String {
    const MILLION: u64 = 1_000_000;
    if exact {
        let digits = number.to_string();
        let width = 9.max(digits.len() + 1);
        return format!("{digits:>width$}");
    }
    if number < 100 * MILLION {
        format!("{number:>9}")
    } else if number < 1_000 * MILLION {
        format!("{:>8}K", number / 1000)
    } else if number < 100_000 * MILLION {
        format!("{:>8}M", number / MILLION)
    } else if number < 100_000_000 * MILLION {
        format!("{:>8}G", number / (1000 * MILLION))
    } else {
        format!("{:>8}T", number / (MILLION * MILLION))
    }
}
