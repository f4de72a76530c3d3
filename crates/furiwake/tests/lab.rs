//! `furiwake lab …` as typed, with a director that only routes. Run as root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};

use furiwake_lab::{Lab, Nat};

/// A lab that `lab up` keeps, taken down with the value.
struct Kept {
    name: String,
}

impl Kept {
    fn up(name: &str, more: &[&str]) -> Self {
        Self::of("nat", name, more)
    }

    fn of(what: &str, name: &str, more: &[&str]) -> Self {
        let kept = Self {
            name: format!("{name}-{}", std::process::id()),
        };
        let mut words = vec!["up", what, "--no-director", "--name", &kept.name];
        words.extend(more);
        succeeded(&lab(&words));
        kept
    }

    /// `furiwake lab VERB --name NAME WORDS`.
    fn lab(&self, verb: &str, words: &[&str]) -> Output {
        lab(&[&[verb, "--name", &self.name], words].concat())
    }

    fn folder(&self) -> String {
        format!("/run/furiwake/lab/{}", self.name)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.lab("down", &[]);
    }
}

fn lab(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_furiwake"))
        .arg("lab")
        .args(words)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_lab_is_kept_entered_broken_mended_and_taken_down() {
    let kept = Kept::up("cli", &["--servers", "3"]);
    assert_eq!(
        succeeded(&kept.lab("exec", &["rs3", "--", "hostname"])),
        "rs3\n"
    );
    assert_eq!(
        kept.lab("exec", &["client", "--", "sh", "-c", "exit 42"])
            .status
            .code(),
        Some(42)
    );

    let page = [
        "client",
        "--",
        "curl",
        "-s",
        "--max-time",
        "5",
        "http://10.0.0.30/",
    ];
    assert_eq!(succeeded(&kept.lab("exec", &page)), "rs3\n");
    let broken = succeeded(&kept.lab("break", &["rs3"]));
    let mend = format!("furiwake lab mend --name {} rs3 starts it again", kept.name);
    assert!(broken.contains(&mend), "{broken}");
    assert!(!kept.lab("exec", &page).status.success());
    let status = succeeded(&kept.lab("status", &[]));
    assert!(
        status
            .lines()
            .any(|line| line.starts_with("rs3 ") && line.contains("BROKEN")),
        "{status}"
    );
    succeeded(&kept.lab("mend", &["rs3"]));
    assert_eq!(succeeded(&kept.lab("exec", &page)), "rs3\n");

    let listed = succeeded(&lab(&["list", "--json"]));
    assert!(listed.contains(&format!("\"name\": \"{}\"", kept.name)));
    assert!(complaint(&kept.lab("enter", &["rs4"])).contains(
        "no node is called \"rs4\"; this lab has client, director, rs1, rs2, rs3, switch"
    ));
    succeeded(&kept.lab("down", &[]));
    assert!(!Path::new(&kept.folder()).exists());
    assert!(complaint(&kept.lab("status", &[])).contains("no lab called"));
}

#[test]
fn a_name_is_taken_once_and_a_failed_start_leaves_nothing() {
    let kept = Kept::up("once", &[]);
    let again = lab(&["up", "nat", "--no-director", "--name", &kept.name]);
    assert!(complaint(&again).contains("is running already"));
    succeeded(&kept.lab("exec", &["client", "--", "true"]));

    let name = format!("failing-{}", std::process::id());
    let failed = lab(&[
        "up",
        "nat",
        "--no-director",
        "--name",
        &name,
        "--server-cmd",
        "echo no web server here; exit 3",
    ]);
    let said = complaint(&failed);
    assert!(
        said.contains("ended before it was ready (exit status: 3)")
            && said.contains("  no web server here\n"),
        "{said}"
    );
    assert!(!Path::new(&format!("/run/furiwake/lab/{name}")).exists());
}

#[test]
fn a_preset_is_printed_and_a_file_like_it_is_built() {
    let listed = succeeded(&lab(&["presets"]));
    for preset in ["nat", "dr", "tun-ipip", "tun-gue", "tun-gre"] {
        assert!(
            listed.contains(&format!("\n{preset} ")) || listed.starts_with(preset),
            "{listed}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let text = succeeded(&lab(&["show", "nat"])).replace("10.0.0.", "10.7.0.");
    fs::write(&file, text).unwrap();
    let kept = Kept::of(file.to_str().unwrap(), "file", &["--servers", "2"]);
    let page = [
        "client",
        "--",
        "curl",
        "-s",
        "--max-time",
        "5",
        "http://10.7.0.20/",
    ];
    assert_eq!(succeeded(&kept.lab("exec", &page)), "rs2\n");
}

#[test]
fn a_file_with_mistakes_is_refused_with_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    let text = succeeded(&lab(&["show", "dr"]))
        .replace("method = \"gateway\"", "method = \"fullnat\"")
        .replace("weights = [1, 1]", "wieghts = [1, 1]");
    fs::write(&file, text).unwrap();
    let output = lab(&["run", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = complaint(&output);
    assert!(said.contains("bad.toml has 2 mistakes\n"), "{said}");
    assert!(said.contains("did you mean weights?"), "{said}");
    assert!(said.contains("the director has no full NAT yet"), "{said}");
    assert!(complaint(&lab(&["run", "nta"])).contains("choose nat, dr, tun-ipip"));
    assert!(complaint(&lab(&["show", "nta"])).contains("choose nat, dr, tun-ipip"));
    assert!(complaint(&lab(&["run", "./none.toml"])).contains("read ./none.toml"));
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_anything_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no/such/folder/report.md");
    let output = lab(&["run", "nat", "--report", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(complaint(&output).contains("for the report (nothing was run)"));

    // And none is left of a run that could not be.
    let file = folder.path().join("report.md");
    let words = ["run", "nat", "--report", file.to_str().unwrap()];
    let failing = ["--server-cmd", "exit 3"];
    complaint(&lab(&[&words[..], &failing[..]].concat()));
    assert!(!file.exists());
}

#[test]
fn a_lab_of_another_program_is_not_taken_down_but_told_how_to_be() {
    let options = furiwake_lab::Options {
        name: Some(format!("foreground-{}", std::process::id())),
        server: furiwake_lab::WebServer::None,
        director: false,
        ..furiwake_lab::Options::new(env!("CARGO_BIN_EXE_furiwake"))
    };
    let here = Lab::up(&Nat::equal(1).topology().unwrap(), &options).unwrap();
    let said = complaint(&lab(&["down", "--name", here.name()]));
    let kill = format!("`kill {}`", std::process::id());
    assert!(said.contains(&kill), "{said}");
    assert!(here.folder().exists());
}

#[test]
fn files_of_a_killed_lab_go_when_its_name_is_used_or_another_starts() {
    for sweeper in ["status", "up"] {
        let kept = Kept::up(&format!("killed-{sweeper}"), &[]);
        let status = succeeded(&kept.lab("status", &["--json"]));
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let keeper = status["supervisor"].as_i64().unwrap() as i32;
        let keeper = nix::unistd::Pid::from_raw(keeper);
        nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL).unwrap();
        let gone = || {
            nix::sys::signal::kill(keeper, None).is_err() || {
                let stat = fs::read_to_string(format!("/proc/{keeper}/stat"));
                stat.is_ok_and(|stat| stat.contains(") Z "))
            }
        };
        while !gone() {
            std::thread::yield_now();
        }
        if sweeper == "status" {
            complaint(&kept.lab("status", &[]));
        } else {
            drop(Kept::up("sweeper", &[]));
        }
        assert!(!Path::new(&kept.folder()).exists(), "{sweeper}");
    }
}

#[test]
fn without_root_the_line_to_type_is_printed() {
    let output = Command::new(env!("CARGO_BIN_EXE_furiwake"))
        .args(["lab", "run", "nat", "--server-cmd", "apache2 -D FOREGROUND"])
        .uid(65534)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(75));
    let said = complaint(&output);
    assert!(
        said.contains("\ntype: sudo ")
            && said.ends_with(" lab run nat --server-cmd 'apache2 -D FOREGROUND'\n"),
        "{said}"
    );
}
