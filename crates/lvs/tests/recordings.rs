//! Replays the recordings of the real ipvsadm through a director that is only a table: every command of
//! every case, its output, its complaints and its exit code.
//!
//! `golden/ipvsadm.jsonl` is the project's recording, `golden/ipvsadm-doubts.jsonl` answers of the same
//! machine to questions that came up while this was written.

// The helpers below are tests as well.
#![allow(clippy::unwrap_used)]

mod recordings {
    pub(crate) mod names;
    pub(crate) mod shell;
}

use std::{collections::BTreeMap, fmt::Write as _};

use recordings::shell::Shell;
use serde::Deserialize;

/// Commands that say something about the kernel or its files, and so nothing about ipvsadm.
const NOT_REPLAYED: &[(&str, &[u32], &str)] = &[
    (
        "bare-namespace",
        &[2],
        "refused because lo is down: the host's addresses are not the table's business",
    ),
    (
        "proc-files",
        &[11],
        "reads /proc/net/ip_vs_stats_percpu: a view does not tell processors apart",
    ),
];

/// Commands where we differ on purpose.
const DIFFERENT: &[(&str, &[u32], &str)] = &[
    (
        "doubts-grammar",
        &[41],
        "-S writes a negative mark and an empty -b, which -R cannot read",
    ),
    (
        "doubts-sorting-and-restore",
        &[21],
        "-S writes negative marks, which -R cannot read",
    ),
];

#[derive(Deserialize)]
struct Step {
    case: String,
    n: u32,
    cmd: String,
    rc: i32,
    out: String,
    err: String,
}

fn replay(recording: &str) -> (usize, usize) {
    let mut cases: BTreeMap<String, Vec<Step>> = BTreeMap::new();
    for line in recording.lines() {
        // The first line tells of the machine.
        if let Ok(step) = serde_json::from_str::<Step>(line) {
            cases.entry(step.case.clone()).or_default().push(step);
        }
    }
    let mut replayed = 0;
    let mut skipped = 0;
    let mut differences = String::new();
    for (case, steps) in &cases {
        let mut shell = Shell::default();
        for step in steps {
            if listed(NOT_REPLAYED, case, step.n) {
                skipped += 1;
                continue;
            }
            let result = shell.run(&step.cmd);
            replayed += 1;
            let expected = (step.rc, step.out.as_str(), step.err.as_str());
            let got = (result.code, result.stdout.as_str(), result.stderr.as_str());
            if (expected == got) == listed(DIFFERENT, case, step.n) {
                let _ = writeln!(
                    differences,
                    "{case} {}: {}\n  expected {expected:?}\n  got      {got:?}",
                    step.n, step.cmd
                );
            }
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
    (replayed, skipped)
}

fn listed(list: &[(&str, &[u32], &str)], case: &str, n: u32) -> bool {
    list.iter()
        .any(|(name, steps, _)| *name == case && steps.contains(&n))
}

#[test]
fn every_recorded_command_answers_as_the_real_one_did() {
    let (replayed, skipped) = replay(include_str!("golden/ipvsadm.jsonl"));
    println!("replayed {replayed} commands, {skipped} not");
    assert_eq!((replayed, skipped), (675, 2));
}

#[test]
fn doubts_are_settled_as_the_real_one_settled_them() {
    let (replayed, skipped) = replay(include_str!("golden/ipvsadm-doubts.jsonl"));
    println!("replayed {replayed} commands, {skipped} not");
    assert_eq!((replayed, skipped), (280, 0));
}
