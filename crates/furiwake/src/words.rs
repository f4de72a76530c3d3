//! Services, servers and operations in the words that people read in logs and on the screen.

use std::net::SocketAddr;

use furiwake_lvs::{
    model::{Protocol, ServerKey, ServiceKey},
    operation::Operation,
    view::EntryProtocol,
};

/// `tcp`, `udp` or `sctp`.
pub(crate) const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// `tcp`, `udp`, `sctp`, or `ip` for what has no ports.
pub(crate) const fn entry_protocol(entry: EntryProtocol) -> &'static str {
    match entry.transport() {
        Some(transport) => protocol(transport),
        None => "ip",
    }
}

/// `tcp 192.168.56.50:80`, or `fwmark 1`.
pub(crate) fn service(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address {
            protocol: kind,
            address,
            port,
        } => format!(
            "{} {}",
            protocol(*kind),
            SocketAddr::from((*address, *port))
        ),
        ServiceKey::Mark { mark, .. } => format!("fwmark {mark}"),
    }
}

/// `10.0.0.10:80`.
pub(crate) fn server(key: &ServerKey) -> String {
    SocketAddr::from((key.address, key.port)).to_string()
}

/// `add server 10.0.0.10:80 to tcp 192.168.56.50:80, weight 1`.
pub(crate) fn operation(operation: &Operation) -> String {
    match operation {
        Operation::AddService(config) => {
            format!(
                "add service {}, scheduler {}",
                service(&config.key),
                config.scheduler.0
            )
        }
        Operation::EditService(config) => {
            format!(
                "edit service {}, scheduler {}",
                service(&config.key),
                config.scheduler.0
            )
        }
        Operation::DeleteService(key) => format!("delete service {}", service(key)),
        Operation::Flush => "delete every service".into(),
        Operation::AddServer {
            service: key,
            server: new,
        } => {
            let (server, service) = (server(&new.key), service(key));
            format!("add server {server} to {service}, weight {}", new.weight)
        }
        Operation::EditServer {
            service: key,
            server: changed,
        } => {
            let (server, service) = (server(&changed.key), service(key));
            format!(
                "edit server {server} of {service}, weight {}",
                changed.weight
            )
        }
        Operation::DeleteServer {
            service: key,
            server: gone,
        } => {
            format!("delete server {} of {}", server(gone), service(key))
        }
        Operation::Zero(Some(key)) => format!("zero the counters of {}", service(key)),
        Operation::Zero(None) => "zero every counter".into(),
        Operation::SetTimeouts(timeouts) => format!(
            "set timeouts: tcp {}, tcp-fin {}, udp {} (0 keeps)",
            timeouts.tcp, timeouts.tcp_fin, timeouts.udp
        ),
        Operation::Set { name, value } => format!("set {name} to {value}"),
        Operation::SetSettings(_) => "set every setting".into(),
        Operation::StartSyncDaemon(daemon) => format!(
            "start the {} sync daemon on {}, id {}",
            daemon.role.name(),
            daemon.interface,
            daemon.sync_id
        ),
        Operation::StopSyncDaemon(role) => format!("stop the {} sync daemon", role.name()),
    }
}

/// A sentence in lines of 80 columns at most, each indented.
pub(crate) fn wrapped(sentence: &str, indent: usize) -> String {
    let mut text = String::new();
    let mut used = usize::MAX;
    for word in sentence.split_whitespace() {
        let length = word.chars().count();
        if used.saturating_add(1 + length) > 80 {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&" ".repeat(indent));
            used = indent;
        } else {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_reads_like_a_sentence() {
        let json = r#"{"delete_server": {
            "service": {"address": {"protocol": "udp", "address": "192.168.56.50", "port": 53}},
            "server": {"address": "10.0.0.10", "port": 53}}}"#;
        let parsed: Operation = serde_json::from_str(json).expect("an operation");
        assert_eq!(
            operation(&parsed),
            "delete server 10.0.0.10:53 of udp 192.168.56.50:53"
        );
    }
}
