//! The lab's network with a plain router for a director. Run as root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use furiwake_lab::{Attached, Error, Hook, Lab, Nat, Options, WebServer, load::ping};
use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{SigSet, Signal},
};

const SERVER: &str = env!("CARGO_BIN_EXE_furiwake-lab-server");

/// A lab whose director only routes.
fn options(name: &str) -> Options {
    Options {
        name: Some(format!("{name}-{}", std::process::id())),
        program: SERVER.into(),
        hook: Hook::Tc,
        server: WebServer::BuiltIn(vec![SERVER.into()]),
        director: false,
        services: true,
    }
}

fn up(name: &str, servers: usize) -> Lab {
    Lab::up(&Nat::equal(servers).topology().unwrap(), &options(name)).unwrap()
}

/// One request from the client, as bytes.
fn get(lab: &Lab, address: &str, path: &str) -> String {
    let question = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut stream = lab
        .node("client")
        .unwrap()
        .run(|| TcpStream::connect((address, 80)))
        .unwrap()
        .unwrap();
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_client_reaches_every_server_through_the_director_and_each_says_its_own_name() {
    let lab = up("reach", 3);
    for (address, name) in [
        ("10.0.0.10", "rs1"),
        ("10.0.0.20", "rs2"),
        ("10.0.0.30", "rs3"),
    ] {
        assert!(get(&lab, address, "/").ends_with(&format!("\r\n\r\n{name}\n")));
        let log = fs::read_to_string(lab.node(name).unwrap().folder().join("access.log")).unwrap();
        assert!(log.starts_with("192.168.56.1 - - "), "{log}");
    }
}

#[test]
fn a_node_sees_its_own_name_devices_processes_and_nothing_of_other_nodes() {
    let lab = up("view", 1);
    let shell = |node: &str, line: &str| {
        let output = lab.node(node).unwrap().shell(line).unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(shell("rs1", "hostname"), "rs1\n");
    assert_eq!(shell("rs1", "ls /sys/class/net"), "eth0\nlo\n");
    assert_eq!(shell("director", "ls /sys/class/net"), "eth0\neth1\nlo\n");
    assert_eq!(
        shell("director", "cat /proc/sys/net/ipv4/ip_forward"),
        "1\n"
    );
    assert_eq!(shell("client", "cat /proc/sys/net/ipv4/ip_forward"), "0\n");
    assert_eq!(shell("client", "ls /run"), "furiwake\n");
    assert_eq!(shell("client", "cat /proc/1/comm"), "lab:client\n");
    assert!(shell("switch", "ls /sys/class/net").contains("br-front\n"));
    assert!(shell("rs1", "command -v ipvsadm").contains("/bin/ipvsadm"));
}

#[test]
fn the_exercises_own_line_adds_the_virtual_address() {
    let options = Options {
        services: false,
        ..options("byhand")
    };
    let lab = Lab::up(&Nat::equal(2).topology().unwrap(), &options).unwrap();
    let director = lab.director().unwrap();
    let line = "ip addr add 192.168.56.50 label eth0-lvsvip dev eth0";
    assert!(director.node().shell(line).unwrap().status.success());
    let client = lab.node("client").unwrap();
    assert_eq!(ping(&client, Nat::VIP, 3).unwrap(), 3);
}

#[test]
fn the_virtual_address_carries_its_label_when_the_lab_adds_it() {
    let lab = up("label", 2);
    let shown = lab
        .director()
        .unwrap()
        .node()
        .shell("ip -o addr show dev eth0")
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("inet 192.168.56.50/32 scope global eth0-lvsvip"),
        "{shown}"
    );
}

#[test]
fn programs_end_as_they_ended_inside_and_go_when_they_are_killed() {
    let lab = up("ends", 1);
    let client = lab.node("client").unwrap();
    assert_eq!(client.shell("exit 7").unwrap().status.code(), Some(7));
    assert_eq!(
        client.shell("kill -TERM $$").unwrap().status.signal(),
        Some(15)
    );
    assert!(client.command("no-such-program").spawn().is_err());

    let mut child = client
        .command("sh")
        .args(["-c", "echo here; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "here\n");
    child.kill().unwrap();
    child.wait().unwrap();
    // The pipe closes when the program inside is gone.
    output.read_to_string(&mut line).unwrap();
}

#[test]
fn signals_that_the_lab_blocks_reach_its_programs() {
    let lab = up("signals", 1);
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block().unwrap();
    let shown = lab
        .node("rs1")
        .unwrap()
        .shell("grep SigBlk /proc/self/status")
        .unwrap();
    assert_eq!(
        String::from_utf8(shown.stdout).unwrap(),
        "SigBlk:\t0000000000000000\n"
    );
    lab.break_node("rs1").unwrap();
    lab.mend_node("rs1").unwrap();
    lab.signal("rs1", Signal::SIGTERM).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while lab.is_running("rs1") == Some(true) {
        assert!(Instant::now() < deadline, "the program outlived SIGTERM");
        std::thread::yield_now();
    }
}

#[test]
fn a_broken_server_refuses_until_it_is_mended() {
    let lab = up("broken", 2);
    assert_eq!(lab.is_running("rs1"), Some(true));
    lab.break_node("rs1").unwrap();
    assert_eq!(lab.is_running("rs1"), Some(false));
    let refused = lab
        .node("client")
        .unwrap()
        .run(|| TcpStream::connect(("10.0.0.10", 80)))
        .unwrap();
    assert_eq!(
        refused.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    lab.mend_node("rs1").unwrap();
    assert!(get(&lab, "10.0.0.10", "/").ends_with("rs1\n"));
    assert!(matches!(lab.break_node("client"), Err(Error::Invalid(_))));
    assert!(matches!(
        lab.break_node("rs9"),
        Err(Error::UnknownNode { .. })
    ));
}

/// What nginx and Apache are when their first process alone was killed: its workers go on serving.
fn with_a_worker_that_outlived_its_master(name: &str) -> Lab {
    let options = Options {
        server: WebServer::Command(format!("{SERVER} & wait")),
        ..options(name)
    };
    let lab = Lab::up(&Nat::equal(1).topology().unwrap(), &options).unwrap();
    lab.signal("rs1", Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while lab.is_running("rs1") == Some(true) {
        assert!(Instant::now() < deadline, "the master outlived SIGKILL");
        std::thread::yield_now();
    }
    assert!(get(&lab, "10.0.0.10", "/").ends_with("rs1\n"));
    lab
}

fn refuses(lab: &Lab) -> bool {
    let client = lab.node("client").unwrap();
    let answer = client.run(|| TcpStream::connect(("10.0.0.10", 80)));
    answer
        .unwrap()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[test]
fn workers_that_outlived_their_master_go_when_the_server_is_broken() {
    let lab = with_a_worker_that_outlived_its_master("orphans-break");
    lab.break_node("rs1").unwrap();
    assert!(refuses(&lab));
    lab.mend_node("rs1").unwrap();
    assert!(get(&lab, "10.0.0.10", "/").ends_with("rs1\n"));
}

#[test]
fn workers_that_outlived_their_master_make_room_when_the_server_is_mended() {
    let lab = with_a_worker_that_outlived_its_master("orphans-mend");
    lab.mend_node("rs1").unwrap();
    assert_eq!(lab.is_running("rs1"), Some(true));
    assert!(get(&lab, "10.0.0.10", "/").ends_with("rs1\n"));
    lab.break_node("rs1").unwrap();
    assert!(refuses(&lab));
}

#[test]
fn two_labs_live_side_by_side_and_a_name_is_taken_only_once() {
    let (one, two) = (up("one", 1), up("two", 1));
    one.break_node("rs1").unwrap();
    assert!(get(&two, "10.0.0.10", "/").ends_with("rs1\n"));
    let again = Lab::up(
        one.topology(),
        &Options {
            name: Some(one.name().to_owned()),
            ..options("x")
        },
    );
    assert!(matches!(again, Err(Error::NameTaken { .. })));
    let attached = Attached::open(two.name()).unwrap();
    assert_eq!(
        attached.node("rs1").unwrap().holder(),
        two.node("rs1").unwrap().holder()
    );
}

#[test]
fn the_host_is_as_it_was_while_a_lab_runs_and_after() {
    // A network and mounts that only this thread can change stand in for the host's, which others may change.
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    let host = || {
        let shown = |program: &str, arguments: &[&str]| {
            Command::new(program)
                .args(arguments)
                .output()
                .unwrap()
                .stdout
        };
        let sysctls = shown(
            "sh",
            &[
                "-c",
                "cat /proc/sys/net/ipv4/conf/*/* /proc/sys/net/ipv4/ip_forward 2>/dev/null",
            ],
        );
        let mounts = fs::read("/proc/thread-self/mountinfo").unwrap();
        (
            shown("ip", &["link"]),
            shown("ip", &["address"]),
            shown("ip", &["route", "show", "table", "all"]),
            sysctls,
            mounts,
        )
    };
    let before = host();
    let lab = up("host", 2);
    assert!(host() == before);
    let folder = lab.folder().to_owned();
    drop(lab);
    assert!(host() == before);
    assert!(!folder.exists());
}

#[test]
fn a_killed_supervisor_takes_every_node_and_program_with_it() {
    // This test, run again as the supervisor, waits to be killed.
    if std::env::var_os("SUPERVISE").is_some() {
        let lab = up("victim", 2);
        println!("lab {}", lab.name());
        std::io::stdout().flush().unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_killed_supervisor_takes_every_node_and_program_with_it",
            "--nocapture",
        ])
        .env("SUPERVISE", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.contains("lab victim"))
        .unwrap();
    let name = line.split_whitespace().last().unwrap();
    let lab = Attached::open(name).unwrap();
    let holders: Vec<i32> = ["client", "rs1", "switch"]
        .map(|node| lab.node(node).unwrap().holder())
        .to_vec();
    let namespace = fs::read_link(format!("/proc/{}/ns/net", holders[1])).unwrap();
    // Something that ran away from the supervisor's family must go too.
    let daemon = lab
        .node("rs1")
        .unwrap()
        .shell("setsid sleep 1000 >/dev/null 2>&1 & exit 0")
        .unwrap();
    assert!(daemon.status.success());
    assert!(processes_in(&namespace) >= 3);

    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while processes_in(&namespace) > 0 || holders.iter().any(|pid| lives(*pid)) {
        assert!(
            Instant::now() < deadline,
            "processes of the lab outlived it"
        );
        std::thread::yield_now();
    }
    let folder = lab.folder();
    assert!(matches!(Attached::open(name), Err(Error::NoSuchLab { .. })));
    furiwake_lab::list().unwrap();
    assert!(
        !folder.exists(),
        "the next list sweeps away what the dead lab wrote"
    );
}

/// Whether a process runs; one that only waits to be reaped does not.
fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// How many processes are in a network namespace.
fn processes_in(namespace: &Path) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| {
            fs::read_link(entry.path().join("ns/net")).is_ok_and(|link| link == namespace)
        })
        .count()
}
