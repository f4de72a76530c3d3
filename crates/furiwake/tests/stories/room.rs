//! A connection table that is too small.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use furiwake_lab::{Hook, Lab, Nat, Options};

use crate::support::{client, director, eventually, ipvsadm, ok, options, reason, status, up};

#[test]
fn a_full_table_refuses_newcomers_and_keeps_who_is_there() {
    let options = Options {
        director: false,
        services: false,
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
    let room = status(&lab)["connections"]["room"].as_u64().unwrap() as usize;
    assert!((64..=4096).contains(&room), "{room}");

    let mut held = Vec::new();
    eventually("the table is full", || match attempt(&lab) {
        Ok(stream) => {
            held.push(stream);
            None
        }
        Err(error) => {
            assert_eq!(error, io::ErrorKind::TimedOut);
            // The server's own queue of newcomers may be full as well.
            (reason(&lab, "table_full") > 0).then_some(())
        }
    });
    assert!(held.len() >= room * 3 / 4, "{} of {room}", held.len());
    assert_eq!(
        ipvsadm(&lab, "-Lnc").matches("ESTABLISHED").count(),
        held.len()
    );

    // Those that were first still talk.
    let mut first = held.swap_remove(0);
    first.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("rs1\n"), "{answer}");

    // Room that is given back can be used.
    ipvsadm(&lab, "--set 1 1 1");
    for stream in held.drain(..) {
        // Sent after the new timeout: the entry goes a second later.
        (&stream).write_all(b"GET / HTTP/1.0\r\n").unwrap();
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
