//! Servers behind a router, at the end of every kind of tunnel.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
};

use furiwake_lab::{Choices, Hook, Lab, Nat, Preset, Topology};

use crate::support::{
    Wire, ask, client, connect, director, ipvsadm, kill, listen, ok, options, read_body, send_body,
    stats, up,
};

/// Options of ipvsadm, protocol of the outer packets, bytes that they are longer.
const KINDS: [(&str, u8, u16); 5] = [
    ("--tun-type ipip", 4, 20),
    ("--tun-type gue --tun-port 6080 --tun-nocsum", 17, 32),
    ("--tun-type gue --tun-port 6080 --tun-csum", 17, 32),
    ("--tun-type gre --tun-nocsum", 47, 24),
    ("--tun-type gre --tun-csum", 47, 28),
];
const SERVERS: [&str; 2] = ["10.9.0.10", "10.9.0.20"];
const LENGTH: u64 = 100 << 20;

#[test]
fn w10_large_transfers_pass_through_every_tunnel_with_xdp() {
    large_transfers_pass(&tunnelled("tunnels-xdp", Hook::Xdp));
}

#[test]
fn w10_large_transfers_pass_through_every_tunnel_with_tc() {
    large_transfers_pass(&tunnelled("tunnels-tc", Hook::Tc));
}

fn large_transfers_pass(lab: &Lab) {
    ipvsadm(lab, "-A -t 192.168.56.50:8080 -s rr");
    ipvsadm(lab, "-a -t 192.168.56.50:8080 -r 10.9.0.10 -i");
    for (kind, protocol, overhead) in KINDS {
        for server in SERVERS {
            ipvsadm(
                lab,
                &format!("-e -t 192.168.56.50:80 -r {server} -i {kind}"),
            );
        }
        ipvsadm(
            lab,
            &format!("-e -t 192.168.56.50:8080 -r 10.9.0.10 -i {kind}"),
        );
        // What was learned of the way is forgotten: it has to be learned through this tunnel.
        ok(&client(lab), "ip route flush cache");
        let at_client = Wire::tap(&client(lab));
        let at_server = Wire::tap(&lab.node("rs1").unwrap());
        assert_eq!(ask(lab, 4), ["rs2", "rs1", "rs2", "rs1"], "{kind}");
        let outer = at_server.ip(|packet| !packet.sent && packet.protocol() == protocol);
        assert!(outer.len() >= 2 * 4, "{kind}: {}", outer.len());
        assert!(
            outer
                .iter()
                .all(|packet| packet.source() == "192.168.56.10")
        );
        transfer(lab);
        let told: Vec<u16> = at_client
            .ip(|packet| !packet.sent && packet.protocol() == 1)
            .iter()
            .filter(|packet| packet.payload()[..2] == [3, 4])
            .map(|packet| u16::from_be_bytes([packet.payload()[6], packet.payload()[7]]))
            .collect();
        assert!(!told.is_empty(), "{kind}: nobody told the client");
        assert!(
            told.iter().all(|mtu| *mtu == 1500 - overhead),
            "{kind}: {told:?}"
        );
    }
    for server in SERVERS {
        let row = stats(lab, &format!("{server}:80"));
        assert_eq!((row[0], row[2]), (10, 0), "{row:?}");
    }
    kill(lab);
    assert_eq!(ask(lab, 2), ["rs2", "rs1"]);
}

/// One connection that takes as much as it gives, with every byte compared.
fn transfer(lab: &Lab) {
    let listener = listen(&lab.node("rs1").unwrap(), 8080);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = listener.accept().unwrap().0;
            assert_eq!(read_body(&mut stream).unwrap(), LENGTH);
            send_body(&mut stream, LENGTH).unwrap();
        });
        let mut stream: TcpStream = connect(&client(lab), Nat::VIP, 8080).unwrap();
        send_body(&mut stream, LENGTH).unwrap();
        stream.flush().unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_body(&mut stream).unwrap(), LENGTH);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
}

/// The preset of tunnels, with servers that take packets out of all kinds.
fn tunnelled(name: &str, hook: Hook) -> Lab {
    let preset = Preset::named("tun-ipip").unwrap();
    let mut text = preset.text.to_owned();
    for (port, kind) in [(81, "gue"), (82, "gre")] {
        text += &format!(
            "\n[[service]]\naddress = \"192.168.56.50\"\nports = [{port}]\nscheduler = \"rr\"\n\
             method = \"tunnel\"\ntunnel = \"{kind}\"\n"
        );
    }
    let topology = Topology::parse(name, name, &text, &Choices::default()).unwrap();
    let lab = up(&topology, &options(name, hook));
    assert!(ok(&director(&lab), "ipvsadm -Ln").contains("Tunnel"));
    lab
}
