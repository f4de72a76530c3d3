//! A lab that a keeper looks after, asked from outside as the commands do. Run as root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    thread,
};

use furiwake_lab::{
    Attached, Error, Hook, Lab, Nat, Options, WebServer, open,
    supervisor::{Request, Response, Supervisor},
};

fn up(name: &str, hook: Hook) -> Lab {
    let server = env!("CARGO_BIN_EXE_furiwake-lab-server");
    let options = Options {
        name: Some(format!("{name}-{}", std::process::id())),
        program: server.into(),
        hook,
        server: WebServer::BuiltIn(vec![server.into()]),
        director: false,
        services: true,
    };
    Lab::up(&Nat::equal(2).topology().unwrap(), &options).unwrap()
}

#[test]
fn the_keeper_breaks_mends_tells_and_ends() {
    let supervisor = Supervisor::new(up("keeper", Hook::Tc)).unwrap();
    let lab = Attached::open(supervisor.lab().name()).unwrap();
    let folder = supervisor.lab().folder().to_owned();
    let keeper = thread::spawn(|| supervisor.run());
    let running = |lab: &Attached| match lab.ask(&Request::Status).unwrap() {
        Response::Status(status) => status.nodes["rs1"].running,
        other => panic!("{other:?}"),
    };

    assert_eq!(running(&lab), Some(true));
    assert_eq!(
        lab.ask(&Request::Break("rs1".into())).unwrap(),
        Response::Done
    );
    assert_eq!(running(&lab), Some(false));
    assert_eq!(
        lab.ask(&Request::Mend("rs1".into())).unwrap(),
        Response::Done
    );
    assert_eq!(running(&lab), Some(true));
    let unknown = lab.ask(&Request::Break("rs9".into())).unwrap_err();
    assert!(
        unknown
            .to_string()
            .contains("this lab has client, director, rs1, rs2, switch"),
        "{unknown}"
    );

    let mut noise = UnixStream::connect(folder.join("supervisor.sock")).unwrap();
    noise.write_all(b"\xff{]\n").unwrap();
    let mut answer = String::new();
    noise.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("{\"refused\":"), "{answer}");

    assert_eq!(lab.ask(&Request::Down).unwrap(), Response::Done);
    keeper.join().unwrap().unwrap();
    assert!(!folder.exists());
    assert!(matches!(
        Attached::open(lab.name()),
        Err(Error::NoSuchLab { .. })
    ));
}

#[test]
fn a_door_on_the_host_leads_to_what_the_client_sees() {
    let lab = up("door", Hook::Tc);
    let client = lab.node("client").unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let door = listener.local_addr().unwrap();
    thread::spawn(move || open::serve(&listener, &client, ([10, 0, 0, 20], 80).into()));
    let mut visitor = TcpStream::connect(door).unwrap();
    visitor
        .write_all(b"GET /bytes/300000 HTTP/1.1\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    visitor.read_to_end(&mut answer).unwrap();
    let body = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap()
        + 4;
    let expected: Vec<u8> = (0..300_000)
        .map(furiwake_lab::server::download_byte)
        .collect();
    assert!(answer[body..] == expected);
}

#[test]
fn with_xdp_hosts_finish_their_packets_and_ports_of_the_director_poll() {
    let features = |lab: &Lab, node: &str, interface: &str| {
        let output = lab
            .node(node)
            .unwrap()
            .shell(&format!("ethtool -k {interface}"))
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let lab = up("xdp", Hook::Xdp);
    let found = lab
        .node("client")
        .unwrap()
        .shell("command -v ethtool")
        .unwrap();
    assert!(
        found.status.success(),
        "program ethtool is missing: ./test installs it"
    );
    for (node, interface) in [
        ("client", "eth0"),
        ("rs1", "eth0"),
        ("director", "eth0"),
        ("director", "eth1"),
    ] {
        let features = features(&lab, node, interface);
        for off in [
            "tx-checksumming: off",
            "tx-tcp-segmentation: off",
            "generic-segmentation-offload: off",
        ] {
            assert!(
                features.contains(off),
                "{node} {interface}: {off} not in {features}"
            );
        }
    }
    for port in ["director.0", "director.1"] {
        assert!(features(&lab, "switch", port).contains("generic-receive-offload: on"));
    }
    let plain = up("tc", Hook::Tc);
    assert!(features(&plain, "rs1", "eth0").contains("tx-checksumming: on"));
}
