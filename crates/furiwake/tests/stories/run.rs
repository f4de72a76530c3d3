//! `furiwake run` where it cannot, and where there is another already.

use std::process::Output;

use furiwake_lab::{Hook, Lab, Nat, Node, Options, WebServer};

use crate::support::{director, eventually, ok, options, programs, stderr, up};

/// A network whose director does not run.
fn quiet(name: &str) -> Lab {
    let options = Options {
        director: false,
        services: false,
        server: WebServer::None,
        ..options(name, Hook::Tc)
    };
    up(&Nat::equal(1).topology().unwrap(), &options)
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} in {said}");
    }
}

fn leaves_nothing(node: &Node) {
    assert!(programs(node).is_empty());
    assert_eq!(
        ok(
            node,
            "find /sys/fs/bpf -name '*furiwake*' -o -name 'netns-*'"
        ),
        ""
    );
}

#[test]
fn a_director_that_cannot_run_says_where_why_and_what_to_do() {
    let lab = quiet("cannot");
    let node = director(&lab);
    let run = |line: &str| node.shell(line).unwrap();

    let output =
        run("setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all furiwake run");
    refused(&output, 1, &["must run as root", "CAP_NET_ADMIN", "sudo"]);
    let output = run("setpriv --bounding-set=-bpf,-sys_admin --inh-caps=-all furiwake run");
    refused(&output, 1, &["lacks CAP_BPF", "container"]);

    let output = run("furiwake run --interface eth7");
    refused(&output, 1, &["eth7", "eth0", "eth1"]);
    let output = run("furiwake run --hook eth7=xdp");
    refused(&output, 1, &["eth7", "eth0", "eth1"]);
    let output = run("furiwake run --hook fast");
    refused(&output, 2, &["fast", "auto", "tc", "xdp", "xdp-generic"]);
    let output = run("furiwake run --interface lo");
    refused(&output, 1, &["lo"]);

    let output = run("furiwake run --pins /tmp");
    refused(&output, 1, &["/tmp", "bpffs", "mount -t bpf"]);
    let output = run("furiwake run --socket /proc/nowhere/control.sock");
    refused(&output, 1, &["/proc/nowhere"]);

    // A place where no bpffs can be mounted: /sys without the folder for it.
    let output = run("unshare -m sh -c 'mount -t tmpfs none /sys/fs && furiwake run'");
    refused(&output, 1, &["/sys/fs/bpf", "mount -t bpf bpf /sys/fs/bpf"]);
    let output = run("unshare -m sh -c 'mount -t tmpfs none /sys/kernel && furiwake run'");
    refused(
        &output,
        1,
        &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"],
    );
    leaves_nothing(&node);
}

#[test]
fn pins_of_another_layout_are_refused_and_taken_away_by_down() {
    let lab = quiet("stale");
    let node = director(&lab);
    let mut running = start(&node, "exec furiwake run");
    let pid = eventually("the director runs", || {
        let status = node.shell("furiwake status --json").unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        Some(status["status"]["pid"].clone())
    });
    ok(&node, &format!("kill -9 {pid}"));
    running.wait().unwrap();
    ok(
        &node,
        "mv /sys/fs/bpf/furiwake/netns-*/layout-* $(echo /sys/fs/bpf/furiwake/netns-*)/layout-999",
    );
    let output = node.shell("furiwake run").unwrap();
    refused(&output, 1, &["layout", "furiwake down"]);
    ok(&node, "furiwake down");
    leaves_nothing(&node);
}

#[test]
fn two_namespaces_have_a_director_each() {
    let lab = quiet("neighbours");
    let node = director(&lab);
    let first = start(&node, "exec furiwake run");
    // The other namespace has the same mounts, hence the same bpffs.
    let second = start(
        &node,
        "exec unshare -n sh -c 'ip link set lo up; ip link add eth0 type veth peer name eth1; \
         exec furiwake run --socket /run/second.sock'",
    );
    let answers = |socket: &str| {
        eventually(&format!("{socket} answers"), || {
            let status = node
                .shell(&format!("{socket} furiwake status --json"))
                .unwrap();
            status.status.success().then_some(())
        });
    };
    let other = "FURIWAKE_SOCKET=/run/second.sock";
    answers("");
    answers(other);
    assert_eq!(ok(&node, "ls /sys/fs/bpf/furiwake").lines().count(), 2);
    ok(&node, "ipvsadm -A -t 192.168.56.50:80 -s rr");
    ok(
        &node,
        &format!("{other} ipvsadm -A -t 192.168.56.50:81 -s wrr"),
    );
    assert_eq!(ok(&node, "ipvsadm -S -n"), "-A -t 192.168.56.50:80 -s rr\n");
    assert_eq!(
        ok(&node, &format!("{other} ipvsadm -S -n")),
        "-A -t 192.168.56.50:81 -s wrr\n"
    );
    // One socket is not for two, even from another namespace.
    let output = node.shell("unshare -n furiwake run").unwrap();
    refused(&output, 1, &["socket", "--socket"]);

    ok(&node, "furiwake down");
    assert_eq!(ok(&node, "ls /sys/fs/bpf/furiwake").lines().count(), 1);
    answers(other);
    ok(
        &node,
        &format!("{other} curl -sS --unix-socket /run/second.sock -X POST http://d/api/v1/stop"),
    );
    for mut process in [first, second] {
        process.wait().unwrap();
    }
}

fn start(node: &Node, line: &str) -> std::process::Child {
    let log = std::fs::File::create(node.folder().join("started.log")).unwrap();
    node.command("/bin/sh")
        .args(["-c", line])
        .stderr(log)
        .spawn()
        .unwrap()
}
