//! Numbers that must be true: packets, bytes, connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    thread,
};

use furiwake_lab::{Hook, Lab, Nat, load::Load};

use crate::support::{
    PATIENCE, Wire, bare, client, connect, eventually, ipvsadm, listen, nat, ok, read_body,
    send_body,
};

#[test]
fn packets_and_bytes_are_those_on_the_wire_with_xdp() {
    counted_as_on_the_wire(&bare("wire-xdp", Hook::Xdp));
}

#[test]
fn packets_and_bytes_are_those_on_the_wire_with_tc() {
    let lab = bare("wire-tc", Hook::Tc);
    // Super-packets are counted as one, by us and by the capture alike, but are no packets of the wire.
    for (node, interface) in [
        ("client", "eth0"),
        ("rs1", "eth0"),
        ("director", "eth0"),
        ("director", "eth1"),
    ] {
        ok(
            &lab.node(node).unwrap(),
            &format!("ethtool -K {interface} tso off gso off gro off"),
        );
    }
    counted_as_on_the_wire(&lab);
}

fn counted_as_on_the_wire(lab: &Lab) {
    const PORT: u16 = 8080;
    ipvsadm(lab, "-A -t 192.168.56.50:8080 -s rr");
    ipvsadm(lab, "-a -t 192.168.56.50:8080 -r 10.0.0.10 -m");
    let server = lab.node("rs1").unwrap();
    let listener = listen(&server, PORT);
    // Each end as it sends: on the way to the receiver, packets may be merged.
    let (at_client, at_server) = (Wire::tap(&client(lab)), Wire::tap(&server));
    thread::scope(|scope| {
        scope.spawn(|| {
            send_body(listener.accept().unwrap().0, 3_000_000).unwrap();
            assert_eq!(read_body(listener.accept().unwrap().0).unwrap(), 2_000_000);
        });
        let stream = connect(&client(lab), Nat::VIP, PORT).unwrap();
        assert_eq!(read_body(stream).unwrap(), 3_000_000);
        let stream = connect(&client(lab), Nat::VIP, PORT).unwrap();
        send_body(stream, 2_000_000).unwrap();
    });
    // Both ends have said that they are done once both connections linger.
    eventually("the connections are over", || {
        let connections = ipvsadm(lab, "-Lnc");
        (connections.matches("TIME_WAIT").count() == 2).then_some(())
    });
    let (mut asked, mut answered) = ((0, 0), (0, 0));
    eventually("the counters are those of the wire", || {
        for (wire, counted) in [(&at_client, &mut asked), (&at_server, &mut answered)] {
            for packet in wire.ip(|packet| packet.sent && packet.protocol() == 6) {
                counted.0 += 1;
                counted.1 += packet.length();
            }
        }
        let listing = ipvsadm(lab, "-Ln --stats --exact");
        let row = |name: &str| -> Vec<u64> {
            let row = listing.lines().find(|line| line.contains(name)).unwrap();
            let fields = row.split_whitespace().skip(2);
            fields.map(|field| field.parse().unwrap()).collect()
        };
        let on_the_wire = [2, asked.0, answered.0, asked.1, answered.1];
        (row("192.168.56.50:8080") == on_the_wire && row("10.0.0.10:8080") == on_the_wire)
            .then_some(())
    });
    assert!(asked.1 > 2_000_000 && answered.1 > 3_000_000);
    assert!(asked.0 > 2_000_000 / 1500 && answered.0 > 3_000_000 / 1500);
}

#[test]
fn active_and_inactive_are_the_entries_of_the_table_with_xdp() {
    counts_are_entries(&nat("counts-xdp", Hook::Xdp));
}

#[test]
fn active_and_inactive_are_the_entries_of_the_table_with_tc() {
    counts_are_entries(&nat("counts-tc", Hook::Tc));
}

fn counts_are_entries(lab: &Lab) {
    ipvsadm(lab, "-A -u 192.168.56.50:7 -s rr");
    for server in ["10.0.0.10", "10.0.0.20"] {
        ipvsadm(lab, &format!("-a -u 192.168.56.50:7 -r {server} -m"));
    }
    let load = Load {
        address: Nat::VIP,
        port: 80,
        certificate: None,
        requests: 2000,
        concurrency: 16,
    };
    let (held, sockets, outcome) = thread::scope(|scope| {
        let datagrams = scope.spawn(|| datagrams(lab, 300));
        let held: Vec<TcpStream> = (0..50)
            .map(|_| connect(&client(lab), Nat::VIP, 80).unwrap())
            .collect();
        let outcome = load.run(&client(lab), |_| {}).unwrap();
        (held, datagrams.join().unwrap(), outcome)
    });
    assert_eq!(outcome.failures, BTreeMap::new());
    // The kernel may use a port again, and the director then the entry.
    let ports: BTreeSet<SocketAddr> = outcome.answers.iter().map(|answer| answer.local).collect();
    eventually("every request's connection lingers", || {
        (ipvsadm(lab, "-Lnc").matches("TIME_WAIT").count() == ports.len()).then_some(())
    });
    let entries = entries(lab);
    assert_eq!(entries, counts(lab));
    let active: u64 = entries.values().map(|(active, _)| active).sum();
    let inactive: u64 = entries.values().map(|(_, inactive)| inactive).sum();
    assert_eq!(
        (active, inactive),
        (50, (ports.len() + sockets.len()) as u64)
    );
    drop((held, sockets));
}

#[test]
fn counts_return_to_zero_when_connections_expire() {
    let lab = nat("expire", Hook::Xdp);
    ipvsadm(&lab, "-A -u 192.168.56.50:7 -s rr");
    ipvsadm(&lab, "-a -u 192.168.56.50:7 -r 10.0.0.10 -m");
    ipvsadm(&lab, "--set 2 2 2");
    let held: Vec<TcpStream> = (0..50)
        .map(|_| connect(&client(&lab), Nat::VIP, 80).unwrap())
        .collect();
    drop(datagrams(&lab, 100));
    assert_ne!(counts(&lab), BTreeMap::new());
    eventually("they expire", || counts(&lab).is_empty().then_some(()));
    assert_eq!(entries(&lab), BTreeMap::new());
    assert!(
        ipvsadm(&lab, "-Ln --stats --exact").contains("UDP  192.168.56.50:7                   100")
    );
    drop(held);
}

/// Entries of the connection table for each server: active and other.
fn entries(lab: &Lab) -> BTreeMap<String, (u64, u64)> {
    let mut entries = BTreeMap::new();
    for line in ipvsadm(lab, "-Lnc").lines().skip(2) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let entry: &mut (u64, u64) = entries.entry(fields[5].to_owned()).or_default();
        if fields[2] == "ESTABLISHED" {
            entry.0 += 1;
        } else {
            entry.1 += 1;
        }
    }
    entries
}

/// ActiveConn and InActConn of each server that has any.
fn counts(lab: &Lab) -> BTreeMap<String, (u64, u64)> {
    let listing = ipvsadm(lab, "-Ln");
    let servers = listing
        .lines()
        .skip(3)
        .filter(|line| line.starts_with("  ->"));
    let counts = servers.map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |field: &str| field.parse().unwrap();
        (fields[1].to_owned(), (number(fields[4]), number(fields[5])))
    });
    counts.filter(|(_, counts)| *counts != (0, 0)).collect()
}

/// So many echoes, each from a socket of its own.
fn datagrams(lab: &Lab, count: u32) -> Vec<UdpSocket> {
    let echo = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.connect(SocketAddrV4::new(Nat::VIP, 7)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"!").unwrap();
        assert_eq!(socket.recv(&mut [0; 4]).unwrap(), 1);
        socket
    };
    client(lab)
        .run(|| (0..count).map(|_| echo()).collect())
        .unwrap()
}
