//! The cables of a lab as its switch sees them, with a plain router in the director's place. Run as root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::net::Ipv4Addr;

use furiwake_lab::{
    Choices, Hook, Lab, Nat, Options, Preset, WebServer,
    load::{Load, Way, ping},
    wire::{Payload, Wire},
};

const SERVER: &str = env!("CARGO_BIN_EXE_furiwake-lab-server");

/// A preset with one server, whose director only routes.
fn up(preset: &str, name: &str) -> Lab {
    let choices = Choices {
        weights: Some(vec![1]),
        scheduler: None,
    };
    let topology = Preset::named(preset).unwrap().topology(&choices).unwrap();
    let options = Options {
        name: Some(format!("{name}-{}", std::process::id())),
        program: SERVER.into(),
        hook: Hook::Tc,
        server: WebServer::BuiltIn(vec![SERVER.into()]),
        director: false,
        services: false,
    };
    Lab::up(&topology, &options).unwrap_or_else(|error| panic!("{error}"))
}

fn ok(lab: &Lab, node: &str, line: &str) {
    let output = lab.node(node).unwrap().shell(line).unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}

#[test]
fn who_sent_what_is_told_by_machine_and_hardware_address() {
    let lab = up("dr", "wire-senders");
    let mac = |node: &str| lab.node(node).unwrap().mac("eth0").unwrap();
    // Direct routing to one server is a route by way of it.
    ok(
        &lab,
        "director",
        "ip route add 192.168.56.50 via 192.168.56.110",
    );
    ok(
        &lab,
        "director",
        "sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0",
    );
    let entry = format!(
        "ip neigh replace 192.168.56.50 lladdr {} dev eth0",
        mac("director")
    );
    ok(&lab, "client", &entry);
    let client = lab.node("client").unwrap();
    assert_eq!(client.neighbour(Nat::VIP), Some(mac("director")));

    let wire = Wire::watch(&lab).unwrap();
    let load = Load {
        address: Nat::VIP,
        port: 80,
        certificate: None,
        requests: 3,
        concurrency: 1,
    };
    let outcome = load.run(&client, |_| {}).unwrap();
    assert_eq!(outcome.failed(), 0, "{:?}", outcome.failures);
    for way in [Way::Up, Way::Down] {
        let transfer = load.transfer(&client, way, 300_000).unwrap();
        assert!(transfer.outcome.is_ok(), "{transfer:?}");
    }
    let sightings = wire.finish().unwrap();

    let sent = |source: Ipv4Addr, destination: Ipv4Addr| -> Vec<(String, String, String)> {
        let of_tcp = sightings.keys().filter_map(|sighting| {
            let Payload::Ip(packet) = &sighting.frame.payload else {
                return None;
            };
            let wanted =
                packet.is_tcp() && (packet.source, packet.destination) == (source, destination);
            let frame = &sighting.frame;
            wanted.then(|| {
                let machine = sighting.machine.clone();
                (
                    machine,
                    frame.source.to_string(),
                    frame.destination.to_string(),
                )
            })
        });
        of_tcp.collect()
    };
    let row = |machine: &str, to: &str| (machine.to_owned(), mac(machine), mac(to));
    assert_eq!(sent(Nat::VIP, Nat::CLIENT), [row("rs1", "client")]);
    assert_eq!(
        sent(Nat::CLIENT, Nat::VIP),
        [row("client", "director"), row("director", "rs1")]
    );
    assert!(
        sightings
            .values()
            .all(|tally| tally.frames > 0 && tally.longest >= 42)
    );
}

#[test]
fn servers_of_direct_routing_do_not_tell_that_they_have_the_virtual_address() {
    let lab = up("dr", "wire-hidden");
    let client = lab.node("client").unwrap();
    let wire = Wire::watch(&lab).unwrap();
    // Nobody has it who would say so.
    assert_eq!(ping(&client, Nat::VIP, 1).unwrap(), 0);
    let sightings = wire.finish().unwrap();
    let mut asked = false;
    for sighting in sightings.keys() {
        if let Payload::Arp(arp) = &sighting.frame.payload {
            asked |= arp.target == Nat::VIP && sighting.machine == "client";
            assert_ne!(arp.sender, Nat::VIP, "{sighting:?}");
        }
    }
    assert!(asked, "{sightings:?}");
}

#[test]
fn a_router_joins_the_networks_of_a_tunnel() {
    let lab = up("tun", "wire-router");
    let client = lab.node("client").unwrap();
    let load = Load {
        address: Ipv4Addr::new(10, 9, 0, 10),
        port: 80,
        certificate: None,
        requests: 1,
        concurrency: 1,
    };
    let outcome = load.run(&client, |_| {}).unwrap();
    assert_eq!(outcome.answers.len(), 1, "{:?}", outcome.failures);
    assert_eq!(lab.is_running("router"), None);
}

#[test]
fn requests_that_nobody_answers_are_given_up_and_counted() {
    let lab = up("tun", "wire-silence");
    let client = lab.node("client").unwrap();
    // The server's answers stay with the server.
    ok(
        &lab,
        "rs1",
        "ip route del default && ip route add blackhole default",
    );
    let load = Load {
        address: Ipv4Addr::new(10, 9, 0, 10),
        port: 80,
        certificate: None,
        requests: 1000,
        concurrency: 4,
    };
    let outcome = load.run(&client, |_| {}).unwrap();
    assert_eq!(outcome.failed(), 1000, "{:?}", outcome.failures);
    let given_up = outcome
        .failures
        .keys()
        .any(|reason| reason.starts_with("not tried"));
    assert!(given_up, "{:?}", outcome.failures);
}
