//! Where packets are taken: one way, another, several at once, and another than before.

use std::{process::Child, thread};

use furiwake_lab::{Hook, Lab, Nat, Options};

use crate::support::{
    ask, client, connect, director, eventually, ipvsadm, listen, nat, ok, options, programs,
    read_body, send_body, status, up,
};

#[test]
fn generic_xdp_does_all_that_the_others_do() {
    let lab = nat("generic", Hook::XdpGeneric);
    assert_eq!(hooks(&lab), ["xdp-generic+tcx", "xdp-generic+tcx"]);
    assert_eq!(ask(&lab, 4), ["rs2", "rs1", "rs2", "rs1"]);
    transfer(&lab);
}

#[test]
fn left_to_itself_a_director_takes_tc_on_veth_and_says_why() {
    let lab = nat("auto", Hook::Auto);
    for interface in status(&lab)["interfaces"].as_array().unwrap() {
        assert!(
            !interface["hook"].as_str().unwrap().contains("xdp"),
            "{interface}"
        );
        assert!(interface["reason"].is_string(), "{interface}");
    }
    transfer(&lab);
}

#[test]
fn two_interfaces_can_have_two_hooks() {
    // Offloads are on, and no NAPI runs at the switch's end of the cables: XDP may not send there.
    let lab = without_daemon("mixed", Hook::Tc);
    let mut running = run(&lab, &["--hook", "tc", "--hook", "eth0=xdp"]);
    assert_eq!(hooks(&lab), ["xdp+tcx", "tcx"]);
    services(&lab);
    assert_eq!(ask(&lab, 4), ["rs2", "rs1", "rs2", "rs1"]);
    transfer(&lab);
    end(&lab, &mut running);

    running = run(&lab, &["--hook", "tc", "--hook", "eth1=xdp"]);
    assert_eq!(hooks(&lab), ["tcx", "xdp+tcx"]);
    assert_eq!(ask(&lab, 4), ["rs2", "rs1", "rs2", "rs1"]);
    transfer(&lab);
    end(&lab, &mut running);
}

#[test]
fn a_director_can_be_moved_to_other_hooks_and_fewer_interfaces_while_it_forwards() {
    let lab = without_daemon("moved", Hook::Xdp);
    let mut running = run(&lab, &["--hook", "tc"]);
    services(&lab);
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
    let held = connect(&client(&lab), Nat::VIP, 80).unwrap();
    for hook in ["xdp", "xdp-generic"] {
        end(&lab, &mut running);
        running = run(&lab, &["--hook", hook]);
        assert_eq!(hooks(&lab), [format!("{hook}+tcx"), format!("{hook}+tcx")]);
        assert_eq!(ask(&lab, 2), ["rs1", "rs2"], "{hook}");
    }
    end(&lab, &mut running);
    running = run(&lab, &["--hook", "tc", "--interface", "eth0"]);
    assert_eq!(programs(&director(&lab)), ["eth0 tcx"]);
    end(&lab, &mut running);
    running = run(&lab, &["--hook", "tc"]);
    assert_eq!(ask(&lab, 2), ["rs1", "rs2"]);
    assert!(ipvsadm(&lab, "-Lnc").contains("ESTABLISHED"));
    end(&lab, &mut running);
    drop(held);
}

/// A lab with web servers, wired for a hook, whose director is started by hand.
fn without_daemon(name: &str, wired_for: Hook) -> Lab {
    let options = Options {
        director: false,
        services: false,
        ..options(name, wired_for)
    };
    up(&Nat::equal(2).topology().unwrap(), &options)
}

fn run(lab: &Lab, words: &[&str]) -> Child {
    let log = std::fs::File::create(lab.folder().join("by-hand.log")).unwrap();
    let running = director(lab)
        .command("furiwake")
        .arg("run")
        .args(words)
        .stderr(log)
        .spawn()
        .unwrap();
    eventually("the director answers", || {
        let output = director(lab).shell("furiwake status").unwrap();
        output.status.success().then_some(())
    });
    running
}

/// Ends the daemon; forwarding goes on.
fn end(lab: &Lab, running: &mut Child) {
    ok(
        &director(lab),
        "curl -sS --unix-socket $FURIWAKE_SOCKET -X POST http://director/api/v1/stop",
    );
    running.wait().unwrap();
}

fn services(lab: &Lab) {
    ok(
        &director(lab),
        "ip addr add 192.168.56.50 label eth0-lvsvip dev eth0",
    );
    ipvsadm(lab, "-A -t 192.168.56.50:80 -s rr");
    for server in ["10.0.0.10", "10.0.0.20"] {
        ipvsadm(lab, &format!("-a -t 192.168.56.50:80 -r {server} -m"));
    }
}

fn hooks(lab: &Lab) -> Vec<String> {
    let status = status(lab);
    let interfaces = status["interfaces"].as_array().unwrap();
    let hook = |interface: &serde_json::Value| interface["hook"].as_str().unwrap().to_owned();
    interfaces.iter().map(hook).collect()
}

/// Thirty-two mebibytes down and up.
fn transfer(lab: &Lab) {
    const LENGTH: u64 = 32 << 20;
    if !ipvsadm(lab, "-Ln").contains("192.168.56.50:8080") {
        ipvsadm(lab, "-A -t 192.168.56.50:8080 -s rr");
        ipvsadm(lab, "-a -t 192.168.56.50:8080 -r 10.0.0.10 -m");
    }
    let listener = listen(&lab.node("rs1").unwrap(), 8080);
    thread::scope(|scope| {
        scope.spawn(|| {
            send_body(listener.accept().unwrap().0, LENGTH).unwrap();
            assert_eq!(read_body(listener.accept().unwrap().0).unwrap(), LENGTH);
        });
        let stream = connect(&client(lab), Nat::VIP, 8080).unwrap();
        assert_eq!(read_body(stream).unwrap(), LENGTH);
        let stream = connect(&client(lab), Nat::VIP, 8080).unwrap();
        send_body(stream, LENGTH).unwrap();
    });
}
