//! Servers that cannot be reached.

use std::{io, time::Duration};

use furiwake_lab::{Hook, Lab, Nat};

use crate::support::{ask, await_next_hop, client, eventually, ipvsadm, nat, reason};

#[test]
fn a_server_without_a_route_harms_only_its_own_connections_with_xdp() {
    no_route(&nat("noroute-xdp", Hook::Xdp));
}

#[test]
fn a_server_without_a_route_harms_only_its_own_connections_with_tc() {
    no_route(&nat("noroute-tc", Hook::Tc));
}

fn no_route(lab: &Lab) {
    ipvsadm(lab, "-a -t 192.168.56.50:80 -r 10.99.0.1 -m");
    await_next_hop(lab, "10.99.0.1", "state", "no route");
    let outcomes = attempts(lab, 6);
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        4,
        "{outcomes:?}"
    );
    assert!(reason(lab, "no_route_to_server") >= 2);
    // It heals by itself.
    ipvsadm(lab, "-d -t 192.168.56.50:80 -r 10.99.0.1");
    assert_eq!(
        attempts(lab, 4)
            .iter()
            .filter(|outcome| outcome.is_ok())
            .count(),
        4
    );
}

#[test]
fn a_server_that_does_not_answer_arp_harms_only_its_own_connections() {
    let lab = nat("noarp", Hook::Xdp);
    ipvsadm(&lab, "-a -t 192.168.56.50:80 -r 10.0.0.99 -m");
    await_next_hop(
        &lab,
        "10.0.0.99",
        "state",
        "does not answer ARP yet: left to the host's stack",
    );
    let outcomes = attempts(&lab, 6);
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        4,
        "{outcomes:?}"
    );
}

#[test]
fn a_killed_server_refuses_by_itself_and_serves_again_once_mended() {
    let lab = nat("killed", Hook::Tc);
    lab.break_node("rs1").unwrap();
    let outcomes = attempts(&lab, 6);
    let refused = outcomes
        .iter()
        .filter(|outcome| **outcome == Err(io::ErrorKind::ConnectionRefused));
    assert_eq!(refused.count(), 3, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    lab.mend_node("rs1").unwrap();
    let mut answers = ask(&lab, 4);
    answers.sort();
    assert_eq!(answers, ["rs1", "rs1", "rs2", "rs2"]);
}

#[test]
fn a_service_without_servers_refuses_at_once() {
    let lab = nat("noserver", Hook::Xdp);
    ipvsadm(&lab, "-d -t 192.168.56.50:80 -r 10.0.0.10");
    ipvsadm(&lab, "-d -t 192.168.56.50:80 -r 10.0.0.20");
    // ICMP port unreachable.
    assert_eq!(
        attempts(&lab, 2),
        [Err(io::ErrorKind::ConnectionRefused); 2]
    );
    eventually("it is counted", || {
        (reason(&lab, "no_server") >= 2).then_some(())
    });
    ipvsadm(&lab, "-a -t 192.168.56.50:80 -r 10.0.0.10 -m");
    assert_eq!(ask(&lab, 2), ["rs1", "rs1"]);
}

/// Connects to the service so often, and does not wait long for each.
fn attempts(lab: &Lab, times: u32) -> Vec<Result<(), io::ErrorKind>> {
    let address = std::net::SocketAddr::from((Nat::VIP, 80));
    let connect = || {
        (0..times)
            .map(|_| {
                std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500))
                    .map(drop)
                    .map_err(|error| error.kind())
            })
            .collect()
    };
    client(lab).run(connect).unwrap()
}
