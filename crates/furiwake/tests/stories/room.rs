//! A connection table that is too small.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use furiwake_lab::{Hook, Lab, Nat, Options, WebServer, raise_open_files};
use nix::sys::socket::Backlog;

use crate::support::{
    client, director, eventually, ipvsadm, listen, ok, options, reason, status, up,
};

#[test]
fn a_full_table_refuses_newcomers_and_keeps_who_is_there() {
    raise_open_files();
    let options = Options {
        director: false,
        services: false,
        server: WebServer::None,
        ..options("full", Hook::Tc)
    };
    let lab = up(&Nat::equal(2).topology().unwrap(), &options);
    let log = std::fs::File::create(lab.folder().join("by-hand.log")).unwrap();
    let mut running = director(&lab)
        .command("furiwake")
        .args(["run", "--connections", "64"])
        .stderr(log)
        .spawn()
        .unwrap();
    eventually("the director answers", || {
        let output = director(&lab).shell("furiwake status").unwrap();
        output.status.success().then_some(())
    });
    ok(
        &director(&lab),
        "ip addr add 192.168.56.50 label eth0-lvsvip dev eth0",
    );
    ipvsadm(&lab, "-A -t 192.168.56.50:80 -s rr");
    ipvsadm(&lab, "-a -t 192.168.56.50:80 -r 10.0.0.10 -m");
    // A server that has room for all of them.
    let listener = listen(&lab.node("rs1").unwrap(), 80);
    nix::sys::socket::listen(&listener, Backlog::new(4096).unwrap()).unwrap();
    let room = status(&lab)["connections"]["room"].as_u64().unwrap() as usize;
    assert!((64..=4096).contains(&room), "{room}");

    let mut held = Vec::new();
    let refused = (0..2 * room).find_map(|_| match attempt(&lab) {
        Ok(stream) => {
            held.push(stream);
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!(refused, Some(io::ErrorKind::TimedOut));
    assert!(reason(&lab, "table_full") > 0);
    assert!(held.len() >= room * 3 / 4, "{} of {room}", held.len());
    assert_eq!(
        ipvsadm(&lab, "-Lnc").matches("ESTABLISHED").count(),
        held.len()
    );

    // Those that were first still talk.
    let (mut served, _) = listener.accept().unwrap();
    let mut first = held.swap_remove(0);
    for word in [*b"ping", *b"pong"] {
        first.write_all(&word).unwrap();
        let mut heard = [0; 4];
        served.read_exact(&mut heard).unwrap();
        assert_eq!(heard, word);
    }

    // Room that is given back can be used.
    ipvsadm(&lab, "--set 1 1 1");
    for stream in held.drain(..) {
        // Sent under the new timeout: the entry goes a second later.
        (&stream).write_all(b"!").unwrap();
    }
    eventually("there is room again", || attempt(&lab).ok());
    ok(
        &director(&lab),
        "curl -sS --unix-socket $FURIWAKE_SOCKET -X POST http://director/api/v1/stop",
    );
    running.wait().unwrap();
}

fn attempt(lab: &Lab) -> Result<TcpStream, io::ErrorKind> {
    let address = SocketAddr::from((Nat::VIP, 80));
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500));
    client(lab)
        .run(connect)
        .unwrap()
        .map_err(|error| error.kind())
}
