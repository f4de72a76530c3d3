//! Made-up runs, each wrong in one way, and what is said about them.

use super::{
    example::{good_run, run_of},
    *,
};
use crate::topology::{Nat, Scheduler};

/// The checks that did not pass.
fn complaints(measured: &Measured) -> Vec<(&'static str, Status)> {
    judge(measured)
        .into_iter()
        .filter(|check| check.status != Status::Passed)
        .map(|check| (check.id, check.status))
        .collect()
}

#[test]
fn a_run_without_fault_passes_every_check() {
    assert_eq!(complaints(&good_run()), []);
    assert_eq!(
        complaints(&run_of(
            &Nat {
                weights: vec![3, 1, 2],
                scheduler: Scheduler::Wrr
            },
            101
        )),
        []
    );
}

#[test]
fn right_counts_in_the_wrong_order_are_not_round_robin() {
    let mut run = good_run();
    let answers = &mut run.load[0].1.answers;
    let (one, two) = (answers[0].server.clone(), answers[1].server.clone());
    (answers[0].server, answers[1].server) = (two, one);
    assert_eq!(
        complaints(&run),
        [
            ("distribution", Status::Failed),
            ("connections", Status::Failed)
        ]
    );
}

#[test]
fn one_answer_too_many_from_a_server_is_seen() {
    let mut run = good_run();
    run.effort.concurrency = 8;
    run.load[0].1.answers[0].server = "rs1".into();
    let complaints = complaints(&run);
    assert!(complaints.contains(&("distribution", Status::Failed)));
    assert!(complaints.contains(&("statistics", Status::Failed)));
}

#[test]
fn a_request_without_answer_fails_the_run() {
    let mut run = good_run();
    run.load[0]
        .1
        .failures
        .insert("Connection refused".into(), 2);
    assert_eq!(complaints(&run), [("http", Status::Failed)]);
}

#[test]
fn a_packet_straight_from_a_server_is_seen() {
    let mut run = good_run();
    run.sources.insert([10, 0, 0, 20].into(), 1);
    assert_eq!(complaints(&run), [("source-rewritten", Status::Failed)]);
}

#[test]
fn a_director_that_hides_the_client_is_seen() {
    let mut run = good_run();
    run.logged.get_mut("rs1").unwrap()[3] = "10.0.0.1".into();
    assert_eq!(complaints(&run), [("client-address", Status::Failed)]);
}

#[test]
fn what_could_not_be_measured_is_skipped_and_said() {
    let mut run = good_run();
    run.logged.clear();
    let (service, _) = run.load.pop().unwrap();
    run.not_asked
        .push((service, "not every real server listens on port 443".into()));
    assert_eq!(
        complaints(&run),
        [
            ("https", Status::Skipped),
            ("client-address", Status::Skipped),
            ("listing", Status::Failed)
        ]
    );
}

#[test]
fn listings_that_miss_a_service_or_miscount_are_seen() {
    let mut run = good_run();
    run.listing = run
        .listing
        .replace("192.168.56.50:443 rr", "192.168.56.50:443 wlc");
    run.stats = run
        .stats
        .replace("-> 10.0.0.10:80 50", "-> 10.0.0.10:80 49");
    assert_eq!(
        complaints(&run),
        [("listing", Status::Failed), ("statistics", Status::Failed)]
    );
    run.listing.clear();
    run.connections.clear();
    assert_eq!(complaints(&run).len(), 3);
}

#[test]
fn a_director_that_refuses_everything_passes_nothing_about_answers() {
    let mut run = good_run();
    for (_, outcome) in &mut run.load {
        let refused = outcome.answers.len();
        outcome.answers.clear();
        outcome
            .failures
            .insert("Connection refused".into(), refused);
    }
    let failed: Vec<&str> = complaints(&run).iter().map(|(id, _)| *id).collect();
    assert_eq!(
        failed,
        [
            "http",
            "distribution",
            "https",
            "distribution-https",
            "source-rewritten"
        ]
    );
}
