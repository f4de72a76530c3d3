//! Errors on the way: told to whom they concern, in words he understands.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    thread,
};

use furiwake_lab::{
    Hook, Interface, Lab, Machine, Nat, Network, Options, Role, Topology, WebServer,
};

use crate::support::{
    PATIENCE, Wire, await_next_hop, bare, client, connect, director, ipvsadm, listen, ok, options,
    read_body, reason, send_body, up,
};

const UNREACHABLE: u8 = 3;
const PORT_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;

#[test]
fn a_client_learns_that_the_servers_port_is_closed_with_xdp() {
    client_learns_of_a_closed_port(&bare("closed-xdp", Hook::Xdp));
}

#[test]
fn a_client_learns_that_the_servers_port_is_closed_with_tc() {
    client_learns_of_a_closed_port(&bare("closed-tc", Hook::Tc));
}

fn client_learns_of_a_closed_port(lab: &Lab) {
    service(lab, "-u", 5353, "10.0.0.10");
    let wire = Wire::tap(&client(lab));
    let socket = socket(lab, "client", Some((Nat::VIP, 5353)));
    socket.send(b"anyone there?").unwrap();
    let error = socket.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let messages: Vec<_> = wire
        .ip(|packet| !packet.sent)
        .iter()
        .filter_map(|packet| Some((packet.source(), packet.icmp()?)))
        .collect();
    // It is about the packet that the client sent, not about the one that the server got.
    let about = ("192.168.56.1".into(), "192.168.56.50".into());
    assert_eq!(
        messages,
        [(
            "192.168.56.50".into(),
            (UNREACHABLE, PORT_UNREACHABLE, about.0, about.1)
        )]
    );
}

#[test]
fn a_server_learns_that_the_client_is_gone_with_xdp() {
    server_learns_of_a_gone_client(&bare("gone-xdp", Hook::Xdp));
}

#[test]
fn a_server_learns_that_the_client_is_gone_with_tc() {
    server_learns_of_a_gone_client(&bare("gone-tc", Hook::Tc));
}

fn server_learns_of_a_gone_client(lab: &Lab) {
    service(lab, "-u", 5353, "10.0.0.10");
    let server = lab.node("rs1").unwrap();
    let listening = server.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5353)));
    let listening = listening.unwrap().unwrap();
    listening.set_read_timeout(Some(PATIENCE)).unwrap();
    let asking = socket(lab, "client", Some((Nat::VIP, 5353)));
    asking.send(b"a question").unwrap();
    let (_, from) = listening.recv_from(&mut [0; 16]).unwrap();
    assert_eq!(from.ip(), Nat::CLIENT);
    drop(asking);
    let wire = Wire::tap(&server);
    listening.connect(from).unwrap();
    listening.send(b"an answer").unwrap();
    let error = listening.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let messages: Vec<_> = wire
        .ip(|packet| !packet.sent)
        .iter()
        .filter_map(|packet| Some((packet.source(), packet.icmp()?)))
        .collect();
    let about = ("10.0.0.10".into(), "192.168.56.1".into());
    assert_eq!(
        messages,
        [(
            "192.168.56.1".into(),
            (UNREACHABLE, PORT_UNREACHABLE, about.0, about.1)
        )]
    );
}

#[test]
fn a_narrow_way_behind_the_director_is_found_out_with_xdp() {
    narrow_way_to_the_server(&far("far-xdp", Hook::Xdp));
}

#[test]
fn a_narrow_way_behind_the_director_is_found_out_with_tc() {
    narrow_way_to_the_server(&far("far-tc", Hook::Tc));
}

/// The router behind the director complains about packets to the server; the client must understand it.
fn narrow_way_to_the_server(lab: &Lab) {
    let router = lab.node("back-router").unwrap();
    ok(&router, "ip link set eth1 mtu 1200");
    let wire = Wire::tap(&client(lab));
    upload(lab, 1 << 20);
    let messages = needs_fragmentation(&wire);
    let about = ("192.168.57.1".into(), "192.168.56.50".into());
    assert!(messages.contains(&about), "{messages:?}");
    assert!(messages.iter().all(|message| *message == about));
    download(lab, 1 << 20);
}

#[test]
fn a_narrow_way_before_the_director_is_found_out_with_xdp() {
    narrow_way_to_the_client(&far("before-xdp", Hook::Xdp));
}

#[test]
fn a_narrow_way_before_the_director_is_found_out_with_tc() {
    narrow_way_to_the_client(&far("before-tc", Hook::Tc));
}

/// The router before the director complains about the virtual address's packets; the server must understand it.
fn narrow_way_to_the_client(lab: &Lab) {
    let router = lab.node("front-router").unwrap();
    ok(&router, "ip link set eth0 mtu 1200");
    let wire = Wire::tap(&lab.node("rs1").unwrap());
    download(lab, 1 << 20);
    let messages = needs_fragmentation(&wire);
    let about = ("10.0.1.10".into(), "192.168.57.1".into());
    assert!(messages.contains(&about), "{messages:?}");
    assert!(messages.iter().all(|message| *message == about));
    upload(lab, 1 << 20);
}

#[test]
fn the_directors_own_narrow_interfaces_are_found_out_with_xdp() {
    narrow_director(&far("narrow-xdp", Hook::Xdp));
}

#[test]
fn the_directors_own_narrow_interfaces_are_found_out_with_tc() {
    narrow_director(&far("narrow-tc", Hook::Tc));
}

/// Nobody else can complain then: the director has to.
fn narrow_director(lab: &Lab) {
    let director = director(lab);
    ok(&director, "ip link set eth1 mtu 1200");
    await_mtu(lab, 1200);
    let wire = Wire::tap(&client(lab));
    upload(lab, 1 << 20);
    let about = ("192.168.57.1".into(), "192.168.56.50".into());
    let messages = needs_fragmentation(&wire);
    assert!(messages.contains(&about), "{messages:?}");
    assert!(reason(lab, "too_long") > 0);

    ok(
        &director,
        "ip link set eth1 mtu 1500; ip link set eth0 mtu 1200",
    );
    await_mtu(lab, 1500);
    // Or else it asks for small packets from the start.
    ok(&client(lab), "ip route flush cache");
    let wire = Wire::tap(&lab.node("rs1").unwrap());
    download(lab, 1 << 20);
    let about = ("10.0.1.10".into(), "192.168.57.1".into());
    let messages = needs_fragmentation(&wire);
    assert!(messages.contains(&about), "{messages:?}");
}

fn await_mtu(lab: &Lab, mtu: u64) {
    crate::support::eventually("the director knows the MTU", || {
        let hop = crate::support::next_hop(lab, "10.0.1.10")?;
        (hop["mtu"] == mtu).then_some(())
    });
}

/// What the "fragmentation needed" messages that a node received are about.
fn needs_fragmentation(wire: &Wire) -> Vec<(String, String)> {
    wire.ip(|packet| !packet.sent)
        .iter()
        .filter_map(crate::support::Packet::icmp)
        .filter(|(kind, code, ..)| (*kind, *code) == (UNREACHABLE, FRAGMENTATION_NEEDED))
        .map(|(_, _, source, destination)| (source, destination))
        .collect()
}

/// Client, router, director, router, server: room for ways that are narrower than their ends.
fn far(name: &str, hook: Hook) -> Lab {
    let network = |name: &str, address: [u8; 4]| Network {
        name: name.into(),
        address: address.into(),
        prefix: 24,
    };
    let machine = |name: &str, role, interfaces: &[(&str, [u8; 4])], gateway: Option<[u8; 4]>| {
        let interfaces = interfaces.iter().enumerate();
        Machine {
            name: name.into(),
            role,
            interfaces: interfaces
                .map(|(number, (network, address))| Interface {
                    name: format!("eth{number}"),
                    network: (*network).into(),
                    address: (*address).into(),
                })
                .collect(),
            gateway: gateway.map(Ipv4Addr::from),
            ..Machine::default()
        }
    };
    let topology = Topology {
        name: "far".into(),
        nodes: vec![
            machine(
                "client",
                Role::Client,
                &[("outer", [192, 168, 57, 1])],
                Some([192, 168, 57, 2]),
            ),
            machine(
                "front-router",
                Role::Client,
                &[("outer", [192, 168, 57, 2]), ("front", [192, 168, 56, 2])],
                None,
            ),
            machine(
                "director",
                Role::Director,
                &[("front", [192, 168, 56, 10]), ("back", [10, 0, 0, 1])],
                Some([192, 168, 56, 2]),
            ),
            machine(
                "back-router",
                Role::Client,
                &[("back", [10, 0, 0, 2]), ("inner", [10, 0, 1, 1])],
                Some([10, 0, 0, 1]),
            ),
            machine(
                "rs1",
                Role::Server,
                &[("inner", [10, 0, 1, 10])],
                Some([10, 0, 1, 1]),
            ),
        ],
        networks: vec![
            network("outer", [192, 168, 57, 0]),
            network("front", [192, 168, 56, 0]),
            network("back", [10, 0, 0, 0]),
            network("inner", [10, 0, 1, 0]),
        ],
        services: Vec::new(),
    };
    let lab = up(
        &topology,
        &Options {
            server: WebServer::None,
            ..options(name, hook)
        },
    );
    for router in ["front-router", "back-router"] {
        ok(
            &lab.node(router).unwrap(),
            "sysctl -q net.ipv4.ip_forward=1",
        );
    }
    ok(
        &director(&lab),
        "ip addr add 192.168.56.50 label eth0-lvsvip dev eth0 && ip route add 10.0.1.0/24 via 10.0.0.2",
    );
    service(&lab, "-t", 8080, "10.0.1.10");
    await_next_hop(&lab, "10.0.1.10", "gateway", "10.0.0.2");
    lab
}

fn service(lab: &Lab, protocol: &str, port: u16, server: &str) {
    ipvsadm(lab, &format!("-A {protocol} 192.168.56.50:{port} -s rr"));
    ipvsadm(
        lab,
        &format!("-a {protocol} 192.168.56.50:{port} -r {server} -m"),
    );
}

fn download(lab: &Lab, length: u64) {
    let listener = listen(&lab.node("rs1").unwrap(), 8080);
    thread::scope(|scope| {
        scope.spawn(|| send_body(listener.accept().unwrap().0, length).unwrap());
        let stream = connect(&client(lab), Nat::VIP, 8080).unwrap();
        assert_eq!(read_body(stream).unwrap(), length);
    });
}

fn upload(lab: &Lab, length: u64) {
    let listener = listen(&lab.node("rs1").unwrap(), 8080);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = listener.accept().unwrap().0;
            assert_eq!(read_body(&mut stream).unwrap(), length);
            stream.write_all(b"!").unwrap();
        });
        let mut stream = connect(&client(lab), Nat::VIP, 8080).unwrap();
        send_body(&mut stream, length).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    });
}

fn socket(lab: &Lab, node: &str, peer: Option<(Ipv4Addr, u16)>) -> UdpSocket {
    let made = lab.node(node).unwrap().run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        if let Some((address, port)) = peer {
            socket.connect(SocketAddrV4::new(address, port))?;
        }
        Ok::<_, io::Error>(socket)
    });
    let socket = made.unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}
