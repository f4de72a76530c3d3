//! `furiwake lab run`, the first thing a stranger types, and a kept lab with a director.

use std::{
    fs,
    process::{Command, Output},
};

use crate::support::{eventually, stderr, stdout};

fn lab(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_furiwake"))
        .arg("lab")
        .args(words)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

#[test]
fn the_exercise_passes_as_a_stranger_runs_it() {
    let output = lab(&["run", "nat", "--name", &name("stranger")]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    assert!(said.contains("PASS"), "{said}");
    assert!(said.contains("data plane: tc"), "{said}");
    let widest = said.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 80, "{said}");
}

#[test]
fn weights_concurrency_and_xdp_pass_and_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.md");
    let output = lab(&[
        "run",
        "nat",
        "--name",
        &name("weighted"),
        "--hook",
        "xdp",
        "--servers",
        "3",
        "--weights",
        "3,1,2",
        "--requests",
        "60",
        "--concurrency",
        "4",
        "--json",
        "--report",
        report.to_str().unwrap(),
    ]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["verdict"], "pass");
    let attached = document["attached"].as_array().unwrap();
    let hooks: Vec<&str> = attached
        .iter()
        .map(|one| one["place"].as_str().unwrap())
        .collect();
    assert!(
        hooks.iter().all(|hook| hook.starts_with("xdp")) && hooks.len() == 2,
        "{attached:?}"
    );
    let servers = document["services"][0]["servers"].as_array().unwrap();
    let answered: Vec<u64> = servers
        .iter()
        .map(|one| one["answered"].as_u64().unwrap())
        .collect();
    assert_eq!(answered, [30, 10, 20]);
    let report = fs::read_to_string(report).unwrap();
    assert!(report.contains("Verdict: **PASS**"), "{report}");
}

#[test]
fn a_kept_lab_shows_its_director_and_what_breaks() {
    let name = name("kept");
    let up = lab(&["up", "nat", "--name", &name, "--hook", "tc"]);
    assert!(up.status.success(), "{}", stderr(&up));
    let exec =
        |node: &str, line: &str| lab(&["exec", "--name", &name, node, "--", "sh", "-c", line]);
    let status = stdout(&lab(&["status", "--name", &name]));
    let page = "for i in 1 2 3 4; do curl -s --max-time 5 http://192.168.56.50/; done";
    let all = stdout(&exec("client", page));
    lab(&["break", "--name", &name, "rs1"]);
    let half = stdout(&exec("client", page));
    // The director's daemon can be broken just the same, and forwarding goes on.
    lab(&["break", "--name", &name, "director"]);
    let still = stdout(&exec("client", page));
    let mend = lab(&["mend", "--name", &name, "director"]);
    lab(&["mend", "--name", &name, "rs1"]);
    let mended = stdout(&exec("client", page));
    let down = lab(&["down", "--name", &name]);
    assert!(status.contains("tc"), "{status}");
    assert_eq!(all, "rs2\nrs1\nrs2\nrs1\n");
    assert_eq!(half, "rs2\nrs2\n");
    assert_eq!(still, "rs2\nrs2\n");
    assert!(mend.status.success(), "{}", stderr(&mend));
    assert_eq!(mended, "rs2\nrs1\nrs2\nrs1\n");
    assert!(down.status.success(), "{}", stderr(&down));
    eventually("nothing is left", || {
        (!fs::exists(format!("/run/furiwake/lab/{name}")).unwrap()).then_some(())
    });
}

fn name(story: &str) -> String {
    format!("{story}-{}", std::process::id())
}
