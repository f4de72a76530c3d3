//! Whether the director's tables tell what was sent.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{name, passed};
use crate::{
    check::{
        Check, Measured,
        listing::{Listing, connections},
    },
    load::{Answer, Outcome},
    report::format::thousands,
    topology::Service,
};

pub(super) fn listed(measured: &Measured) -> Check {
    let listing = Listing::parse(&measured.listing);
    let mut wrong = Vec::new();
    let mut counted = true;
    for service in &measured.topology.services {
        let name = name(service);
        match listing.services.get(&name) {
            None => wrong.push(format!("{name} is not listed")),
            Some((columns, _)) if columns.first() != Some(&service.scheduler.to_string()) => {
                wrong.push(format!("{name} is listed with {}", columns.join(" ")))
            }
            Some(_) => {}
        }
        for (server, expected) in connections_per_server(measured, service) {
            let column = |column| listing.number(&name, &server, column);
            let forward = listing.text(&name, &server, 0);
            if forward.is_some_and(|forward| forward != service.method.listed()) {
                wrong.push(format!(
                    "{name} -> {server}: {} expected, {} listed",
                    service.method.listed(),
                    forward.unwrap_or_default()
                ));
            }
            let weight = service
                .servers
                .iter()
                .find(|real| server.starts_with(&format!("{}:", real.address)))
                .map(|real| u64::from(real.weight));
            if column(1).is_none() || column(1) != weight {
                let (expected, listed) = (shown(weight), shown(column(1)));
                wrong.push(format!(
                    "{name} -> {server}: weight {expected} expected, {listed} listed"
                ));
            }
            let entries = column(2)
                .zip(column(3))
                .map(|(active, inactive)| active + inactive);
            match expected {
                Some(expected) if entries != Some(expected) => {
                    let listed = shown(entries);
                    wrong.push(format!("{name} -> {server}: {expected} connections made, {listed} active or inactive"));
                }
                Some(_) => {}
                None => counted = false,
            }
        }
    }
    let how = if counted {
        "services, schedulers, weights, ActiveConn + InActConn = connections made"
    } else {
        "services, schedulers, weights"
    };
    agreement("listing", "ipvsadm -Ln agrees", how, wrong)
}

pub(super) fn connection_entries(measured: &Measured) -> Check {
    let entries = connections(&measured.connections);
    let by_client: BTreeMap<(&str, &str), &str> = entries
        .iter()
        .map(|entry| {
            (
                (entry.source.as_str(), entry.service.as_str()),
                entry.server.as_str(),
            )
        })
        .collect();
    let (mut found, mut wrong) = (0, Vec::new());
    let fresh = measured.load.iter().all(|(_, outcome)| is_fresh(outcome));
    for (service, outcome) in &measured.load {
        let name = name(service);
        // Of a port that was used again only the last connection is listed.
        let last: BTreeMap<SocketAddr, &Answer> = outcome
            .answers
            .iter()
            .map(|answer| (answer.local, answer))
            .collect();
        for answer in last.values() {
            let address = service
                .servers
                .iter()
                .find(|server| server.name == answer.server)
                .map(|server| format!("{}:{}", server.address, service.port));
            match (
                by_client.get(&(answer.local.to_string().as_str(), name.as_str())),
                address,
            ) {
                (Some(server), Some(address)) if *server != address => wrong.push(format!(
                    "{} is listed with {server}, {} answered",
                    answer.local, answer.server
                )),
                (Some(_), _) => found += 1,
                (None, _) if fresh => {
                    wrong.push(format!("{} to {name} is not listed", answer.local))
                }
                (None, _) => {}
            }
        }
    }
    if !fresh && wrong.is_empty() {
        let details = vec![format!(
            "{found} entries agree; the run took so long that others may have expired"
        )];
        return Check {
            id: "connections",
            status: passed(true),
            title: "ipvsadm -Lnc agrees".into(),
            details,
        };
    }
    agreement(
        "connections",
        "ipvsadm -Lnc agrees",
        &format!(
            "{} entries, each with the client's port and the server that answered",
            thousands(found)
        ),
        wrong,
    )
}

pub(super) fn statistics(measured: &Measured) -> Check {
    let stats = Listing::parse(&measured.stats);
    let mut wrong = Vec::new();
    for (service, outcome) in &measured.load {
        let name = name(service);
        let total = stats
            .services
            .get(&name)
            .and_then(|(columns, _)| columns.first()?.parse::<u64>().ok());
        let made = outcome.answers.len() as u64;
        let right = |counted: Option<u64>, made: u64| {
            if outcome.failed() == 0 {
                counted == Some(made)
            } else {
                counted >= Some(made)
            }
        };
        if !right(total, made) {
            wrong.push(format!(
                "{name}: {made} connections made, {} counted",
                shown(total)
            ));
        }
        for (server, made) in connections_per_server(measured, service) {
            let counted = stats.number(&name, &server, 0);
            if made.is_some_and(|made| !right(counted, made)) {
                wrong.push(format!(
                    "{name} -> {server}: {} connections made, {} counted",
                    shown(made),
                    shown(counted)
                ));
            }
            // A request and its answer are several packets each way, and never fewer bytes than headers.
            let least = counted.unwrap_or(0);
            let packets = |column| stats.number(&name, &server, column).unwrap_or(0);
            let too_few = |column| packets(column) < 3 * least;
            if !service.method.returns() && packets(2) > 0 {
                wrong.push(format!(
                    "{name} -> {server}: {} packets of answers counted, which do not pass the director",
                    thousands(packets(2))
                ));
            }
            if too_few(1) || (service.method.returns() && too_few(2)) {
                wrong.push(format!(
                    "{name} -> {server}: fewer packets than {least} connections need"
                ));
            }
        }
    }
    let returns = measured
        .topology
        .services
        .iter()
        .any(|service| service.method.returns());
    agreement(
        "statistics",
        "ipvsadm -Ln --stats agrees",
        if returns {
            "Conns of every service and server = connections made"
        } else {
            "Conns of every service and server = connections made; OutPkts 0: answers do not pass the director"
        },
        wrong,
    )
}

/// How many connections each server of a service got (`10.0.0.10:80`); nothing where that is not known.
fn connections_per_server(measured: &Measured, service: &Service) -> Vec<(String, Option<u64>)> {
    let outcome = measured
        .load
        .iter()
        .find(|(asked, _)| asked == service)
        .map(|(_, outcome)| outcome);
    let got = outcome.map(Outcome::per_server).unwrap_or_default();
    let known = outcome.is_none_or(|outcome| is_fresh(outcome) && outcome.failed() == 0)
        && got
            .keys()
            .all(|name| service.servers.iter().any(|server| server.name == **name));
    let count = |name: &str| known.then(|| got.get(name).copied().unwrap_or(0) as u64);
    service
        .servers
        .iter()
        .map(|server| {
            (
                format!("{}:{}", server.address, service.port),
                count(&server.name),
            )
        })
        .collect()
}

/// Whether every connection of the run must still be listed: the shortest timeout of a closing connection is
/// 10 s, and a client that opens very many takes the same port again.
fn is_fresh(outcome: &Outcome) -> bool {
    outcome.took < Duration::from_secs(8) && outcome.answers.len() <= 10_000
}

fn agreement(id: &'static str, title: &str, how: &str, mut wrong: Vec<String>) -> Check {
    const MOST: usize = 5;
    let status = passed(wrong.is_empty());
    if wrong.len() > MOST {
        let more = wrong.len() - MOST;
        wrong.truncate(MOST);
        wrong.push(format!("and {more} more"));
    }
    let details = if wrong.is_empty() {
        vec![how.to_owned()]
    } else {
        wrong
    };
    Check {
        id,
        status,
        title: title.to_owned(),
        details,
    }
}

/// A number that a listing may lack.
fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "nothing".to_owned(), thousands)
}
