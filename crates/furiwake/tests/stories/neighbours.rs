//! Neighbours that are not known, or not who they were.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, UdpSocket},
    thread,
};

use furiwake_lab::{Hook, Lab, Nat, Node};

use crate::support::{
    PATIENCE, Wire, ask, await_next_hop, bare, client, connect, director, eventually, ipvsadm,
    listen, nat, next_hop, ok, options, up,
};

const ARP: u16 = 0x0806;

#[test]
fn no_packet_is_lost_while_the_server_is_being_resolved_with_xdp() {
    first_packet_waits_for_the_server(&bare("arp-xdp", Hook::Xdp));
}

#[test]
fn no_packet_is_lost_while_the_server_is_being_resolved_with_tc() {
    first_packet_waits_for_the_server(&bare("arp-tc", Hook::Tc));
}

fn first_packet_waits_for_the_server(lab: &Lab) {
    ipvsadm(lab, "-A -t 192.168.56.50:8080 -s rr");
    ipvsadm(lab, "-a -t 192.168.56.50:8080 -r 10.0.0.10 -m");
    await_next_hop(lab, "10.0.0.10", "state", "reachable");
    let (director, server) = (director(lab), lab.node("rs1").unwrap());
    let listener = listen(&server, 8080);
    be_patient(&director, "eth1");
    answer_arp(&server, false);
    ok(&director, "ip neigh flush all dev eth1");
    await_unresolved(lab, "10.0.0.10");

    let (at_client, at_server) = (Wire::tap(&client(lab)), Wire::tap(&server));
    thread::scope(|scope| {
        let asking = scope.spawn(|| converse(connect(&client(lab), Nat::VIP, 8080).unwrap()));
        let mut sent = Vec::new();
        eventually("the client asks", || {
            sent.extend(at_client.ip(|packet| packet.sent && packet.is_syn()));
            (!sent.is_empty()).then_some(())
        });
        await_arp(&at_server);
        answer_arp(&server, true);
        converse(listener.accept().unwrap().0);
        asking.join().unwrap();
        sent.extend(at_client.ip(|packet| packet.sent && packet.is_syn()));
        // More than one only if this machine was so slow that the client asked again.
        let arrived = at_server.ip(|packet| !packet.sent && packet.is_syn());
        assert_eq!(arrived.len(), sent.len());
    });
    await_next_hop(lab, "10.0.0.10", "state", "reachable");
}

#[test]
fn no_packet_is_lost_while_the_client_is_being_resolved_with_xdp() {
    first_answer_waits_for_the_client(&bare("arpback-xdp", Hook::Xdp));
}

#[test]
fn no_packet_is_lost_while_the_client_is_being_resolved_with_tc() {
    first_answer_waits_for_the_client(&bare("arpback-tc", Hook::Tc));
}

/// A datagram is never sent again: if the answer arrives, nothing was lost.
fn first_answer_waits_for_the_client(lab: &Lab) {
    ipvsadm(lab, "-A -u 192.168.56.50:5353 -s rr");
    ipvsadm(lab, "-a -u 192.168.56.50:5353 -r 10.0.0.10 -m");
    await_next_hop(lab, "10.0.0.10", "state", "reachable");
    let bind = |node: &Node, port| {
        let socket = node.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
        let socket = socket.unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (client, director) = (client(lab), director(lab));
    let server = bind(&lab.node("rs1").unwrap(), 5353);
    let asking = bind(&client, 0);
    be_patient(&director, "eth0");
    for round in 0..3_u8 {
        asking.send_to(&[round], (Nat::VIP, 5353)).unwrap();
        let mut datagram = [0; 16];
        let (_, from) = server.recv_from(&mut datagram).unwrap();
        answer_arp(&client, false);
        ok(&director, "ip neigh flush all dev eth0");
        let wire = Wire::tap(&client);
        server.send_to(&[round, 1], from).unwrap();
        server.send_to(&[round, 2], from).unwrap();
        await_arp(&wire);
        answer_arp(&client, true);
        for number in [1, 2] {
            let (length, from) = asking.recv_from(&mut datagram).unwrap();
            assert_eq!(datagram[..length], [round, number]);
            assert_eq!(from, (Nat::VIP, 5353).into());
        }
    }
}

#[test]
fn a_server_that_changes_its_mac_address_is_followed() {
    let lab = nat("mac", Hook::Tc);
    let server = lab.node("rs1").unwrap();
    let held = connect(&client(&lab), Nat::VIP, 80).unwrap();
    let held_by = holder_of_the_connection(&lab);
    assert_eq!(ask(&lab, 2), ["rs1", "rs2"]);
    ok(
        &lab.node(held_by).unwrap(),
        "sysctl -q net.ipv4.conf.eth0.arp_notify=1 && ip link set eth0 address 02:00:00:00:00:99",
    );
    let address = if held_by == "rs1" {
        "10.0.0.10"
    } else {
        "10.0.0.20"
    };
    await_next_hop(&lab, address, "mac", "02:00:00:00:00:99");
    let mut page = String::new();
    let mut held = held;
    held.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    held.read_to_string(&mut page).unwrap();
    assert!(page.ends_with(&format!("{held_by}\n")), "{page}");
    assert_eq!(ask(&lab, 2), ["rs1", "rs2"]);
    drop(server);
}

/// The server of the only connection.
fn holder_of_the_connection(lab: &Lab) -> &'static str {
    let connections = ipvsadm(lab, "-Lnc");
    if connections.contains("10.0.0.10:80") {
        "rs1"
    } else {
        "rs2"
    }
}

#[test]
fn a_client_that_changes_its_mac_address_is_followed() {
    let lab = nat("clientmac", Hook::Xdp);
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
    ok(
        &client(&lab),
        "sysctl -q net.ipv4.conf.eth0.arp_notify=1 && ip link set eth0 address 02:00:00:00:00:98",
    );
    eventually("the director hears of it", || {
        let neighbours = ok(&director(&lab), "ip neigh show dev eth0");
        neighbours.contains("02:00:00:00:00:98").then_some(())
    });
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
}

#[test]
fn a_route_that_moves_to_another_interface_takes_the_traffic_with_it() {
    let mut topology = Nat::equal(2).topology().unwrap();
    topology.networks.push(furiwake_lab::Network {
        name: "side".into(),
        address: [10, 0, 2, 0].into(),
        prefix: 24,
    });
    for (machine, name, address) in [
        ("director", "eth2", [10, 0, 2, 1]),
        ("rs1", "eth1", [10, 0, 2, 10]),
    ] {
        let machine = topology.nodes.iter_mut().find(|node| node.name == machine);
        machine.unwrap().interfaces.push(furiwake_lab::Interface {
            name: name.into(),
            network: "side".into(),
            address: address.into(),
        });
    }
    let lab = up(&topology, &options("side", Hook::Xdp));
    let server = lab.node("rs1").unwrap();
    // The server hears its address on the side as well, and may answer by the usual way.
    ok(
        &server,
        "sysctl -q net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0",
    );
    let by_the_side = || {
        let before = received(&server, "eth1");
        let mut answers = ask(&lab, 2);
        answers.sort();
        assert_eq!(answers, ["rs1", "rs2"]);
        received(&server, "eth1") - before >= 4
    };
    await_next_hop(&lab, "10.0.0.10", "state", "reachable");
    assert!(!by_the_side());
    ok(
        &director(&lab),
        "ip route add 10.0.0.10 via 10.0.2.10 dev eth2",
    );
    await_next_hop(&lab, "10.0.0.10", "interface", "eth2");
    await_next_hop(&lab, "10.0.0.10", "state", "reachable");
    assert!(by_the_side());
    // Without the interface the route is gone, too.
    ok(&director(&lab), "ip link set eth2 down");
    await_next_hop(&lab, "10.0.0.10", "interface", "eth1");
    await_next_hop(&lab, "10.0.0.10", "state", "reachable");
    assert!(!by_the_side());
}

/// Packets that an interface has received.
fn received(node: &Node, interface: &str) -> u64 {
    let file = format!("cat /sys/class/net/{interface}/statistics/rx_packets");
    ok(node, &file).trim().parse().unwrap()
}

/// Makes a node ask ten times a second, and not give up.
fn be_patient(node: &Node, interface: &str) {
    ok(
        node,
        &format!(
            "sysctl -q net.ipv4.neigh.{interface}.retrans_time_ms=100 net.ipv4.neigh.{interface}.mcast_solicit=200"
        ),
    );
}

fn answer_arp(node: &Node, answer: bool) {
    let ignore = if answer { 0 } else { 8 };
    ok(
        node,
        &format!("sysctl -q net.ipv4.conf.eth0.arp_ignore={ignore}"),
    );
}

fn await_unresolved(lab: &Lab, server: &str) {
    eventually("the next hop is not known any more", || {
        let hop = next_hop(lab, server)?;
        hop["mac"].is_null().then_some(())
    });
}

/// Waits for an ARP request to arrive.
fn await_arp(wire: &Wire) {
    eventually("somebody is looked for", || {
        let packets = wire.packets();
        packets
            .iter()
            .any(|packet| packet.kind == ARP && !packet.sent && packet.bytes[7] == 1)
            .then_some(())
    });
}

/// Says something and hears something.
fn converse(mut stream: std::net::TcpStream) {
    stream.write_all(b"!").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}
