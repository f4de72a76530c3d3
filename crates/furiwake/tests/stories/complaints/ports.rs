//! Ports that are used again, ports that nobody asked for, and services without a server.

use std::{io::ErrorKind, net::SocketAddrV4};

use furiwake_lab::{Hook, Nat};
use nix::sys::socket::{setsockopt, sockopt};

use crate::support::{
    Packet, Wire, ask_from, client, connect, connect_from, director, ipvsadm, listen, nat, ok, set,
};

const PORT: SocketAddrV4 = SocketAddrV4::new(Nat::CLIENT, 40_000);

#[test]
fn w1_reused_source_ports_connect_at_once() {
    let lab = nat("w1", Hook::Tc);
    let wire = Wire::tap(&client(&lab));
    let mut asked = 0;
    let mut attempts = 0;
    let mut count = || {
        attempts += wire.ip(|packet| packet.sent && packet.is_syn()).len();
    };
    // The server says goodbye, and the director has TIME_WAIT.
    for _ in 0..1000 {
        for server in ["rs2", "rs1"] {
            assert_eq!(ask_from(&lab, PORT), server, "each is scheduled anew");
        }
        asked += 2;
        count();
    }
    // The client resets, and the director has CLOSE.
    for _ in 0..1000 {
        let stream = connect_from(&lab, PORT, 80).unwrap();
        let reset = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&stream, sockopt::Linger, &reset).unwrap();
        asked += 1;
        count();
    }
    // One that was dropped would have been sent again a second later.
    assert_eq!(attempts, asked);
    assert_eq!(
        ipvsadm(&lab, "-Lnc").matches("192.168.56.1:40000").count(),
        1
    );
}

#[test]
fn w2_a_reused_port_leaves_a_quiesced_or_removed_server() {
    let lab = nat("w2", Hook::Xdp);
    assert_eq!(ask_from(&lab, PORT), "rs2");
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.20 -m -w 0");
    assert_eq!(ask_from(&lab, PORT), "rs1");
    // The old way: it sticks to a server that is to get nothing new.
    set(&lab, "conn_reuse_mode 0");
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.20 -m -w 1");
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.10 -m -w 0");
    assert_eq!(ask_from(&lab, PORT), "rs1");
    set(&lab, "conn_reuse_mode 1");
    ipvsadm(&lab, "-d -t 192.168.56.50:80 -r 10.0.0.10");
    assert_eq!(ask_from(&lab, PORT), "rs2");
}

#[test]
fn w13_ports_of_the_host_are_not_reachable_at_an_address_that_it_does_not_have() {
    let lab = nat("w13", Hook::Tc);
    // The address is routed here and on no interface.
    ok(
        &client(&lab),
        "ip route add 203.0.113.5/32 via 192.168.56.10",
    );
    ipvsadm(&lab, "-A -t 203.0.113.5:80 -s rr");
    ipvsadm(&lab, "-a -t 203.0.113.5:80 -r 10.0.0.10 -m");
    let listener = listen(&director(&lab), 8081);
    drop(connect(&client(&lab), Nat::DIRECTOR, 8081).unwrap());
    listener.accept().unwrap();
    let page = ok(&client(&lab), "curl -sS --max-time 20 http://203.0.113.5/");
    assert_eq!(page, "rs1\n");
    let error = connect(&client(&lab), [203, 0, 113, 5].into(), 8081).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn w25_a_client_without_a_server_is_reset_if_asked() {
    let lab = nat("w25", Hook::Tc);
    for server in ["10.0.0.10", "10.0.0.20"] {
        ipvsadm(&lab, &format!("-e -t 192.168.56.50:80 -r {server} -m -w 0"));
    }
    const RST: u8 = 4;
    let is_reset = |packet: &Packet| packet.protocol() == 6 && packet.payload()[13] & RST != 0;
    for (setting, resets, errors) in [(0, 0, 1), (1, 1, 0), (0, 0, 1)] {
        set(&lab, &format!("reset_without_server {setting}"));
        let wire = Wire::tap(&client(&lab));
        let error = connect(&client(&lab), Nat::VIP, 80).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let heard = wire.ip(|packet| !packet.sent && packet.source() == "192.168.56.50");
        let port_unreachable = |packet: &Packet| matches!(packet.icmp(), Some((3, 3, ..)));
        let count = |is: &dyn Fn(&Packet) -> bool| heard.iter().filter(|packet| is(packet)).count();
        assert_eq!(
            (count(&is_reset), count(&port_unreachable)),
            (resets, errors),
            "{heard:?}"
        );
    }
}
