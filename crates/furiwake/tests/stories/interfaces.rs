//! Interfaces that come, go and change their names while a director runs.

use std::process::Command;

use furiwake_lab::{Hook, Lab};

use crate::support::{ask, client, director, eventually, nat, ok, status};

#[test]
fn an_interface_added_later_is_listened_on_with_tc() {
    interfaces_come_and_go("later-tc", Hook::Tc);
}

#[test]
fn an_interface_added_later_is_listened_on_with_xdp() {
    interfaces_come_and_go("later-xdp", Hook::Xdp);
}

fn interfaces_come_and_go(name: &str, hook: Hook) {
    let lab = nat(name, hook);
    // The second time is another interface with the same name.
    for _ in 0..2 {
        plug_in(&lab, hook);
        let hook_there = await_interface(&lab, "eth2");
        assert_eq!(hook_there.starts_with("xdp"), hook.is_xdp(), "{hook_there}");
        balanced_by_eth2(&lab, "eth2");
        // A name is only a name.
        ok(&director(&lab), "ip link set eth2 name lan9");
        await_interface(&lab, "lan9");
        balanced_by_eth2(&lab, "lan9");
        ok(&director(&lab), "ip link del lan9");
        eventually("the interface is forgotten", || {
            let known = interfaces(&lab);
            (known.len() == 2).then_some(())
        });
    }
    // By the old way nothing has changed.
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
}

/// A cable from the client straight into a new interface of the director, and the way to the service over it.
fn plug_in(lab: &Lab, hook: Hook) {
    let namespace = |node: &str| format!("/proc/{}/ns/net", lab.node(node).unwrap().holder());
    let (director_net, client_net) = (namespace("director"), namespace("client"));
    let status = Command::new("nsenter")
        .arg(format!("--net={director_net}"))
        .args([
            "ip", "link", "add", "eth2", "type", "veth", "peer", "name", "eth1", "netns",
        ])
        .arg(&client_net)
        .status()
        .unwrap();
    assert!(status.success());
    if hook.is_xdp() {
        // As the lab does for its own cables.
        ok(
            &client(lab),
            "ethtool -K eth1 tx off tso off gso off gro on",
        );
        ok(&director(lab), "ethtool -K eth2 tx off tso off gso off");
    }
    ok(
        &director(lab),
        "ip addr add 192.168.99.1/24 dev eth2 && ip link set eth2 up",
    );
    ok(
        &client(lab),
        "ip addr add 192.168.99.2/24 dev eth1 && ip link set eth1 up && \
         ip route add 192.168.56.50 via 192.168.99.1 src 192.168.99.2",
    );
}

fn balanced_by_eth2(lab: &Lab, name: &str) {
    let statistics = format!("cat /sys/class/net/{name}/statistics/rx_packets");
    let received = || {
        ok(&director(lab), &statistics)
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    let before = received();
    assert_eq!(ask(lab, 2), ["rs2", "rs1"]);
    assert!(received() - before >= 8);
    let log = lab.node("rs1").unwrap().folder().join("access.log");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.lines().last().unwrap().starts_with("192.168.99.2 "),
        "{log}"
    );
}

/// Waits until the director listens on an interface; gives the hook.
fn await_interface(lab: &Lab, name: &str) -> String {
    eventually(&format!("listening on {name}"), || {
        let found = interfaces(lab).into_iter().find(|(known, _)| known == name);
        found.map(|(_, hook)| hook)
    })
}

fn interfaces(lab: &Lab) -> Vec<(String, String)> {
    let status = status(lab);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let interfaces = status["interfaces"].as_array().unwrap();
    interfaces
        .iter()
        .map(|interface| (text(&interface["name"]), text(&interface["hook"])))
        .collect()
}
