//! `furiwake lab …` as typed, with a director that only routes. Run as root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};

/// A lab that `lab up` keeps, taken down with the value.
struct Kept {
    name: String,
}

impl Kept {
    fn up(name: &str, more: &[&str]) -> Self {
        let kept = Self {
            name: format!("{name}-{}", std::process::id()),
        };
        let mut words = vec!["up", "nat", "--no-director", "--name", &kept.name];
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
    succeeded(&kept.lab("break", &["rs3"]));
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
