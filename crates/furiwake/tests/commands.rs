//! The binary as people call it, where no director runs.

use std::{
    os::unix::fs::symlink,
    process::{Command, Output, Stdio},
};

const BINARY: &str = env!("CARGO_BIN_EXE_furiwake");

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env("FURIWAKE_SOCKET", "/nowhere/control.sock")
        .stdin(Stdio::null())
        .output()
        .expect("runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_name_we_are_called_by_decides_what_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let called = |name: &str, arguments: &[&str]| {
        let link = folder.path().join(name);
        symlink(BINARY, &link).expect("a link");
        run(link.to_str().expect("a path"), arguments)
    };
    let version = called("ipvsadm", &["-v"]);
    assert!(stdout(&version).starts_with("ipvsadm v1.31"), "{version:?}");
    let save = called("ipvsadm-save", &["--wrong"]);
    assert!(
        stderr(&save).starts_with("ipvsadm-save: Script to save"),
        "{save:?}"
    );
    let restore = called("ipvsadm-restore", &[]);
    assert!(
        stderr(&restore).starts_with("Can't initialize ipvs:"),
        "{restore:?}"
    );
    let ours = called("furiwake", &["--version"]);
    assert!(stdout(&ours).starts_with("furiwake "), "{ours:?}");
}

#[test]
fn the_subcommand_passes_everything_on_untouched() {
    let version = run(BINARY, &["ipvsadm", "-v"]);
    assert!(stdout(&version).starts_with("ipvsadm v1.31"), "{version:?}");
    let help = run(BINARY, &["ipvsadm", "-h"]);
    assert!(stdout(&help).contains("-A|E virtual-service"), "{help:?}");
    let wrong = run(BINARY, &["ipvsadm", "--no-such-option"]);
    assert_eq!(wrong.status.code(), Some(255), "{wrong:?}");
}

#[test]
fn ipvsadm_without_a_director_says_so_in_its_own_way() {
    let list = run(BINARY, &["ipvsadm", "-Ln"]);
    assert_eq!(list.status.code(), Some(2));
    assert_eq!(
        stderr(&list),
        "Can't initialize ipvs: no director answers on /nowhere/control.sock: there is no such socket\n\
         Is a director running? Start one with `furiwake run`, or name its socket by FURIWAKE_SOCKET.\n"
    );
}

#[test]
fn our_commands_name_the_socket_the_reason_and_the_remedy() {
    let status = run(BINARY, &["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert_eq!(
        stderr(&status),
        "furiwake: no director answers on /nowhere/control.sock: there is no such socket\n\
         start one with `furiwake run`, or name its socket by --socket or FURIWAKE_SOCKET\n"
    );
}

#[test]
fn wrong_usage_ends_with_two() {
    for arguments in [&["no-such-command"][..], &["run", "--hook", "fast"], &[]] {
        let output = run(BINARY, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut help = Command::new(BINARY)
        .args(["ipvsadm", "-h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    drop(help.stdout.take());
    let output = help.wait_with_output().expect("ends");
    assert_eq!(stderr(&output), "");
}
