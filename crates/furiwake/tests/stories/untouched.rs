//! Everything that is no virtual service behaves as if no director were there.

use std::{
    io::{self, Read as _, Write as _},
    net::Ipv4Addr,
    thread,
};

use furiwake_lab::{
    Hook, Lab, Nat,
    load::{ping, ping_with},
};

use crate::support::{ask, client, connect, director, listen, nat, ok, reason};

const RS1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

#[test]
fn the_host_stays_itself_with_xdp() {
    the_host_stays_itself(&nat("self-xdp", Hook::Xdp));
}

#[test]
fn the_host_stays_itself_with_tc() {
    the_host_stays_itself(&nat("self-tc", Hook::Tc));
}

fn the_host_stays_itself(lab: &Lab) {
    let (client, director, server) = (client(lab), director(lab), lab.node("rs1").unwrap());
    for address in [Nat::VIP, Nat::DIRECTOR, Nat::INNER] {
        assert_eq!(ping(&client, address, 2).unwrap(), 2, "{address}");
        // In fragments both ways.
        let large = vec![7; 4000];
        assert_eq!(
            ping_with(&client, address, 2, &large).unwrap(),
            2,
            "{address}"
        );
    }
    assert_eq!(ping(&server, Nat::INNER, 1).unwrap(), 1);
    assert_eq!(ping(&server, Nat::VIP, 1).unwrap(), 1);

    // A daemon of the director's own, on every address of it.
    let listener = listen(&director, 22);
    for address in [Nat::VIP, Nat::DIRECTOR] {
        thread::scope(|scope| {
            scope.spawn(|| {
                listener
                    .accept()
                    .unwrap()
                    .0
                    .write_all(b"SSH-2.0-here")
                    .unwrap()
            });
            let mut greeting = String::new();
            let mut stream = connect(&client, address, 22).unwrap();
            stream.read_to_string(&mut greeting).unwrap();
            assert_eq!(greeting, "SSH-2.0-here");
        });
    }
    let refused = connect(&client, Nat::VIP, 23).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    // Routing through the director, to what is also a real server, and back.
    assert_eq!(ping(&client, RS1, 2).unwrap(), 2);
    assert_eq!(ping(&server, Nat::CLIENT, 2).unwrap(), 2);
    assert_eq!(
        ok(&client, "curl -sS --max-time 20 http://10.0.0.10/"),
        "rs1\n"
    );
    assert_eq!(
        ok(
            &client,
            "curl -sS --max-time 20 http://10.0.0.10/bytes/300000 | wc -c"
        )
        .trim(),
        "300000"
    );
    // The director's own connection to a server.
    assert_eq!(
        ok(&director, "curl -sS --max-time 20 http://10.0.0.10/"),
        "rs1\n"
    );

    assert_eq!(ask(lab, 2), ["rs2", "rs1"]);
    // Requests for port 22 and for 23, at least with SYN, ACK and FIN of the former.
    assert!(reason(lab, "no_service") >= 4);
    assert_eq!(reason(lab, "inconsistent"), 0);
}

#[test]
fn two_labs_with_the_same_addresses_do_not_see_each_other() {
    let (one, other) = (nat("twin", Hook::Xdp), nat("twin", Hook::Tc));
    assert_eq!(ask(&one, 3), ["rs2", "rs1", "rs2"]);
    assert_eq!(ask(&other, 2), ["rs2", "rs1"]);
    assert_eq!(ask(&one, 1), ["rs1"]);
    for (lab, requests) in [(&one, 4), (&other, 2)] {
        let logged: usize = ["rs1", "rs2"]
            .iter()
            .map(|server| {
                let log = lab.node(server).unwrap().folder().join("access.log");
                std::fs::read_to_string(log).unwrap().lines().count()
            })
            .sum();
        assert_eq!(logged, requests);
    }
    drop(one);
    assert_eq!(ask(&other, 2), ["rs2", "rs1"]);
}
