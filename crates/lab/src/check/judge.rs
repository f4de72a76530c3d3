//! Deciding, from what was measured, whether everything is as it must be.

mod distribution;
mod tables;
mod ways;

use std::collections::BTreeMap;

use super::{Check, Measured, Status};
use crate::{
    load::Outcome,
    report::format::{millis, thousands},
    topology::{Role, Service},
};

/// Judges everything, in the order of the report.
#[must_use]
pub fn judge(measured: &Measured) -> Vec<Check> {
    let mut checks = Vec::new();
    for (service, outcome) in &measured.load {
        checks.push(answered(measured, service, outcome));
        checks.push(distribution::judge(measured, service, outcome));
    }
    checks.extend(measured.not_asked.iter().map(|(service, reason)| Check {
        id: requests_id(service),
        status: Status::Skipped,
        title: format!("requests to {}", url(service)),
        details: vec![reason.clone()],
    }));
    if measured
        .topology
        .services
        .iter()
        .any(|service| service.method.returns())
    {
        checks.push(source_rewritten(measured));
    }
    checks.extend(ways::judge(measured));
    checks.push(client_address(measured));
    checks.extend(ways::transfers(measured));
    checks.push(pinged(measured));
    checks.push(tables::listed(measured));
    checks.push(tables::connection_entries(measured));
    checks.push(tables::statistics(measured));
    checks
}

fn answered(measured: &Measured, service: &Service, outcome: &Outcome) -> Check {
    let total = outcome.answers.len() + outcome.failed();
    let latency = match (outcome.percentile(50), outcome.percentile(99)) {
        (Some(half), Some(most)) => format!("   p50 {}  p99 {}", millis(half), millis(most)),
        _ => String::new(),
    };
    let rate = outcome.answers.len() as f64 / outcome.took.as_secs_f64().max(1e-6);
    let mut details = vec![format!(
        "{} answered, {} failed{latency}   {} per second",
        outcome.answers.len(),
        outcome.failed(),
        thousands(rate as u64)
    )];
    let trust = if service.port == 443 {
        ", checked against the lab's certificate"
    } else {
        ""
    };
    let at_once = at_once(measured, service);
    details.push(format!(
        "each a new connection, {at_once} at a time, timed at the client{trust}"
    ));
    details.extend(
        outcome
            .failures
            .iter()
            .map(|(reason, count)| format!("{count} × {reason}")),
    );
    let failing = service.expectation.failed;
    if failing > 0 {
        details.push(format!("{failing} are expected to fail"));
    }
    Check {
        id: requests_id(service),
        status: passed(outcome.failed() == failing && total > 0),
        title: format!("{} requests to {}", thousands(total as u64), url(service)),
        details,
    }
}

fn source_rewritten(measured: &Measured) -> Check {
    let servers: Vec<_> = measured
        .topology
        .machines(Role::Server)
        .flat_map(|server| &server.interfaces)
        .map(|interface| interface.address)
        .collect();
    let leaked: Vec<String> = measured
        .sources
        .iter()
        .filter(|(source, _)| servers.contains(source))
        .map(|(source, count)| format!("{count} packets came from {source}"))
        .collect();
    let peers_right = measured.load.iter().all(|(service, outcome)| {
        outcome
            .answers
            .iter()
            .all(|answer| answer.peer.ip() == service.address)
    });
    let vip = measured
        .topology
        .services
        .first()
        .map(|service| service.address);
    let from_vip = vip
        .and_then(|vip| measured.sources.get(&vip))
        .copied()
        .unwrap_or(0);
    let mut details = vec![format!(
        "captured at the client: {} packets from the VIP, {} from real servers",
        thousands(from_vip),
        if leaked.is_empty() { "none" } else { "some" }
    )];
    details.extend(leaked.iter().cloned());
    let answers: usize = measured
        .load
        .iter()
        .map(|(_, outcome)| outcome.answers.len())
        .sum();
    if answers == 0 {
        details.push("but none of them was an answer to a request".into());
    }
    if !peers_right {
        details.push("a connection's other end was not the VIP".into());
    }
    Check {
        id: "source-rewritten",
        status: passed(leaked.is_empty() && peers_right && answers > 0 && from_vip > 0),
        title: "answers come back through the director, source rewritten to the VIP".into(),
        details,
    }
}

fn client_address(measured: &Measured) -> Check {
    let id = "client-address";
    let client = measured
        .topology
        .machines(Role::Client)
        .flat_map(|client| &client.interfaces)
        .next()
        .map(|interface| interface.address.to_string());
    let client = client.unwrap_or_default();
    let title = format!("real servers see the client's own address {client}");
    let lines: usize = measured.logged.values().map(Vec::len).sum();
    let answers: usize = measured
        .load
        .iter()
        .map(|(_, outcome)| outcome.answers.len())
        .sum();
    if lines == 0 {
        let details =
            vec!["no file called *access*log with lines in it lies in a server's folder".into()];
        return Check {
            id,
            status: Status::Skipped,
            title,
            details,
        };
    }
    let mut details = vec![format!(
        "{} lines in the access logs for {} answers",
        thousands(lines as u64),
        thousands(answers as u64)
    )];
    let mut strangers: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (server, clients) in &measured.logged {
        for address in clients.iter().filter(|address| **address != client) {
            *strangers.entry((server, address)).or_default() += 1;
        }
    }
    details.extend(
        strangers
            .iter()
            .map(|((server, address), count)| format!("{server} logged {count} × {address}")),
    );
    Check {
        id,
        status: passed(strangers.is_empty() && lines >= answers),
        title,
        details,
    }
}

fn pinged(measured: &Measured) -> Check {
    let (sent, answered) = measured.pings;
    Check {
        id: "ping",
        status: passed(sent == answered),
        title: "a ping of the VIP is answered, as if no balancer were there".into(),
        details: vec![format!("{answered} of {sent} answered, checksums right")],
    }
}

/// How many requests at a time a service was sent.
fn at_once(measured: &Measured, service: &Service) -> usize {
    if service == &measured.topology.services[0] {
        measured.effort.concurrency
    } else {
        service.traffic.concurrency.unwrap_or(1)
    }
}

fn requests_id(service: &Service) -> &'static str {
    if service.port == 443 { "https" } else { "http" }
}

fn passed(passed: bool) -> Status {
    if passed {
        Status::Passed
    } else {
        Status::Failed
    }
}

fn name(service: &Service) -> String {
    format!("{}:{}", service.address, service.port)
}

fn url(service: &Service) -> String {
    match service.port {
        80 => format!("http://{}/", service.address),
        443 => format!("https://{}/", service.address),
        port => format!("http://{}:{port}/", service.address),
    }
}
