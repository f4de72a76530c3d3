//! Whether the servers answered as often, and in the order, that they had to.

use super::{at_once, passed};
use crate::{
    check::{Check, Measured, Status},
    expectation::{self, Prediction},
    load::Outcome,
    report::format::bar,
    topology::Service,
};

pub(super) fn judge(measured: &Measured, service: &Service, outcome: &Outcome) -> Check {
    let prediction = expectation::predict(service);
    let check = |status, details| Check {
        id: if service.port == 443 {
            "distribution-https"
        } else {
            "distribution"
        },
        status,
        title: title(service, prediction),
        details,
    };
    if outcome.answers.is_empty() {
        // As it must be when all were to fail.
        let right =
            service.expectation.failed > 0 && outcome.failed() == service.expectation.failed;
        return check(passed(right), vec!["nobody answered".into()]);
    }
    let got = outcome.per_server();
    if let Some(stranger) = got
        .keys()
        .find(|name| !service.servers.iter().any(|server| server.name == **name))
    {
        let details = vec![format!(
            "the pages do not begin with the server's name but with {stranger:?}, so who answered is unknown"
        )];
        return check(Status::Skipped, details);
    }
    let counts: Vec<usize> = service
        .servers
        .iter()
        .map(|server| got.get(server.name.as_str()).copied().unwrap_or(0))
        .collect();
    let expected: Option<Vec<usize>> = match prediction {
        Prediction::Sequence => Some(expectation::counts(service, outcome.answers.len())),
        Prediction::Counts { servers, .. } => {
            let of = |name: &str| servers.iter().find(|(named, _)| named == name);
            let count = |name: &str| of(name).map_or(0, |(_, count)| *count);
            Some(
                service
                    .servers
                    .iter()
                    .map(|server| count(&server.name))
                    .collect(),
            )
        }
        Prediction::OneServer | Prediction::Unknown => None,
    };
    let tolerance = match prediction {
        Prediction::Counts { tolerance, .. } => tolerance,
        _ => 0,
    };
    let mut right = match &expected {
        Some(expected) => counts
            .iter()
            .zip(expected)
            .all(|(count, expected)| count.abs_diff(*expected) <= tolerance),
        None => prediction == Prediction::Unknown || got.len() == 1,
    };
    let most = counts.iter().chain(expected.iter().flatten()).max();
    let most = most.copied().unwrap_or(0);
    let mut details = Vec::new();
    for (position, (server, count)) in service.servers.iter().zip(&counts).enumerate() {
        let row = format!(
            "{:<5} {:<10} {count:>5}",
            server.name,
            bar(*count, most, 10)
        );
        let expected = expected
            .as_ref()
            .and_then(|expected| expected.get(position));
        details.push(match expected {
            Some(expected) => format!("{row}   expected {expected:>5}"),
            None => row.trim_end().to_owned(),
        });
    }
    // With one request at a time the answers come in the order in which the scheduler chose.
    let in_order = (prediction == Prediction::Sequence
        && outcome.failed() == 0
        && at_once(measured, service) == 1)
        .then(|| {
            expectation::names(service)
                .zip(&outcome.answers)
                .all(|(name, answer)| name == answer.server)
        });
    right &= in_order != Some(false);
    details.push(match in_order {
        Some(true) => "by the names on the pages, in the scheduler's order (newest first)".into(),
        Some(false) => {
            "by the names on the pages, NOT in the scheduler's order (newest first)".into()
        }
        None => "by the names on the pages".into(),
    });
    check(passed(right), details)
}

fn title(service: &Service, prediction: Prediction<'_>) -> String {
    let (port, scheduler) = (service.port, service.scheduler);
    match prediction {
        Prediction::Sequence => {
            format!("distribution on port {port} as {scheduler} must give it, exactly")
        }
        Prediction::OneServer if service.persistence.is_some() => {
            format!("port {port} is persistent: one server answers the client")
        }
        Prediction::OneServer => format!("one server answers the client on port {port}"),
        Prediction::Counts { tolerance: 0, .. } => {
            format!("distribution on port {port} as the file expects it, exactly")
        }
        Prediction::Counts { tolerance, .. } => {
            format!("distribution on port {port} as the file expects it, give or take {tolerance}")
        }
        Prediction::Unknown => {
            format!("real servers answer on port {port}, as {scheduler} chose them")
        }
    }
}
