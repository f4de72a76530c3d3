//! The report for programs: one document.

use std::time::Duration;

use serde::Serialize;

use super::Report;
use crate::{
    check::{Check, Status},
    hook::Hook,
    topology::{Method, Network, Scheduler, Topology},
};

/// Raised when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    verdict: &'static str,
    topology: &'a str,
    networks: &'a [Network],
    hook: Hook,
    attached: Vec<Attached<'a>>,
    ready_seconds: f64,
    concurrency: usize,
    services: Vec<Service<'a>>,
    checks: &'a [Check],
    commands: Vec<String>,
    server_commands: Vec<String>,
}

#[derive(Serialize)]
struct Attached<'a> {
    interface: &'a str,
    place: &'a str,
}

#[derive(Serialize)]
struct Service<'a> {
    address: String,
    port: u16,
    scheduler: Scheduler,
    method: Method,
    answered: usize,
    failed: usize,
    seconds: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    servers: Vec<Server<'a>>,
}

#[derive(Serialize)]
struct Server<'a> {
    name: &'a str,
    address: String,
    weight: u32,
    answered: usize,
}

/// The report as one JSON document.
#[must_use]
pub fn json(report: &Report) -> String {
    let measured = &report.measured;
    let Topology { name, networks, .. } = &measured.topology;
    let milliseconds =
        |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64() * 1000.0);
    let services = measured.load.iter().map(|(service, outcome)| {
        let got = outcome.per_server();
        Service {
            address: service.address.to_string(),
            port: service.port,
            scheduler: service.scheduler,
            method: service.method,
            answered: outcome.answers.len(),
            failed: outcome.failed(),
            seconds: outcome.took.as_secs_f64(),
            p50_ms: milliseconds(outcome.percentile(50)),
            p99_ms: milliseconds(outcome.percentile(99)),
            servers: service
                .servers
                .iter()
                .map(|server| Server {
                    name: &server.name,
                    address: server.address.to_string(),
                    weight: server.weight,
                    answered: got.get(server.name.as_str()).copied().unwrap_or(0),
                })
                .collect(),
        }
    });
    let document = Document {
        schema_version: SCHEMA_VERSION,
        verdict: if report.count(Status::Failed) == 0 {
            "pass"
        } else {
            "fail"
        },
        topology: name,
        networks,
        hook: measured.hook,
        attached: measured
            .attached
            .iter()
            .map(|(interface, place)| Attached { interface, place })
            .collect(),
        ready_seconds: measured.ready_in.as_secs_f64(),
        concurrency: measured.effort.concurrency,
        services: services.collect(),
        checks: &report.checks,
        commands: measured.topology.commands(),
        server_commands: measured.topology.server_commands(),
    };
    // Only maps with odd keys or failing Serialize implementations could make this fail.
    serde_json::to_string_pretty(&document).unwrap_or_default()
}
