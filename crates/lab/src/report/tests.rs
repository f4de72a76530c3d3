//! Whole reports against recorded ones; `UPDATE=1` records them anew.

use std::{fs, path::Path};

use super::{format::WIDTH, *};
use crate::{
    check::example::{good_run, run_of},
    topology::{Nat, Scheduler},
};

fn same_as_recorded(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/report/recorded")
        .join(name);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, text).unwrap();
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        recorded == text,
        "{name} is recorded as\n{recorded}\nand now is\n{text}"
    );
}

#[test]
fn a_good_run_reads_as_recorded() {
    let report = Report::new(good_run());
    same_as_recorded("good.txt", &text(&report, Paint::PLAIN));
    same_as_recorded("good.md", &markdown(&report));
    same_as_recorded("good.json", &json(&report));
}

#[test]
fn a_bad_run_says_what_is_wrong() {
    let mut run = run_of(
        &Nat {
            weights: vec![3, 1],
            scheduler: Scheduler::Wrr,
        },
        40,
    );
    run.load[0].1.answers.truncate(38);
    run.load[0]
        .1
        .failures
        .insert("connection timed out".into(), 2);
    run.sources.insert([10, 0, 0, 20].into(), 7);
    run.load.truncate(1);
    run.not_asked.push((
        run.topology.services[1].clone(),
        "not every real server listens on port 443".into(),
    ));
    same_as_recorded("bad.txt", &text(&Report::new(run), Paint::PLAIN));
}

#[test]
fn every_line_fits_the_page_with_many_servers_and_many_requests() {
    let report = Report::new(run_of(&Nat::equal(50), 20_000));
    let text = text(&report, Paint::PLAIN)
        + &next_steps(
            &report.measured.topology,
            "twelve-chars",
            true,
            Paint::PLAIN,
        );
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
}
