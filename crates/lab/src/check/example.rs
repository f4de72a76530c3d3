//! A run that went well, made up.

use std::time::Duration;

use super::*;
use crate::{expectation, load::Answer, topology::Nat};

/// A hundred requests to two servers, all as it should be.
pub(crate) fn good_run() -> Measured {
    run_of(&Nat::equal(2), 100)
}

/// The same for any weights.
pub(crate) fn run_of(nat: &Nat, requests: usize) -> Measured {
    run_through(&nat.topology().unwrap(), requests)
}

/// The same for any topology.
pub(crate) fn run_through(topology: &Topology, requests: usize) -> Measured {
    let mut measured = Measured {
        topology: topology.clone(),
        hook: Hook::Auto,
        attached: vec![("eth0".into(), "tc".into()), ("eth1".into(), "tc".into())],
        ready_in: Duration::from_millis(214),
        effort: Effort { requests, concurrency: 1 },
        load: Vec::new(),
        not_asked: Vec::new(),
        pings: (3, 3),
        sources: [(Nat::VIP, 612), (Nat::DIRECTOR, 2)].into(),
        ways: None,
        transfers: Vec::new(),
        logged: BTreeMap::new(),
        listing: "IP Virtual Server version 1.2.1 (size=4096)\n".into(),
        connections: "IPVS connection entries\npro expire state       source             virtual            destination\n".into(),
        stats: "IP Virtual Server version 1.2.1 (size=4096)\n".into(),
    };
    let mut port = 40000;
    for service in &topology.services {
        let count = if service.port == 80 {
            requests
        } else {
            4 * service.servers.len()
        };
        let mut outcome = Outcome {
            took: Duration::from_millis(40),
            ..Outcome::default()
        };
        for name in expectation::names(service).take(count) {
            port += 1;
            outcome.answers.push(Answer {
                server: name.to_owned(),
                latency: Duration::from_micros(200 + u64::from(port % 10) * 40),
                local: (Nat::CLIENT, port).into(),
                peer: (service.address, service.port).into(),
            });
            let server = service
                .servers
                .iter()
                .find(|server| server.name == name)
                .unwrap();
            measured.connections += &format!(
                "TCP 01:59  TIME_WAIT   {}:{port} {}:{}   {}:{}\n",
                Nat::CLIENT,
                service.address,
                service.port,
                server.address,
                service.port
            );
            measured
                .logged
                .entry(name.to_owned())
                .or_default()
                .push(Nat::CLIENT.to_string());
        }
        let scheduler = service.scheduler;
        let back = if service.method.returns() { 5 } else { 0 };
        measured.listing += &format!("TCP  {}:{} {scheduler}\n", service.address, service.port);
        measured.stats += &format!(
            "TCP  {}:{} {count} {} {} 0 0\n",
            service.address,
            service.port,
            6 * count,
            back * count
        );
        for server in &service.servers {
            let got = outcome
                .per_server()
                .get(server.name.as_str())
                .copied()
                .unwrap_or(0);
            measured.listing += &format!(
                "  -> {}:{} {} {} 0 {got}\n",
                server.address,
                service.port,
                service.method.listed(),
                server.weight
            );
            measured.stats += &format!(
                "  -> {}:{} {got} {} {} 0 0\n",
                server.address,
                service.port,
                6 * got,
                back * got
            );
        }
        measured.load.push((service.clone(), outcome));
    }
    measured
}
