//! A daemon that dies: forwarding goes on, and whoever comes after takes over everything.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use furiwake_lab::{Hook, Lab, Nat, load::Load};

use crate::support::{
    ask, client, connect, director, eventually, ipvsadm, listen, nat, ok, programs, read_body,
    send_body, status,
};

#[test]
fn a_killed_daemon_is_not_noticed_under_load_with_xdp() {
    killed_under_load(&nat("kill-xdp", Hook::Xdp));
}

#[test]
fn a_killed_daemon_is_not_noticed_under_load_with_tc() {
    killed_under_load(&nat("kill-tc", Hook::Tc));
}

fn killed_under_load(lab: &Lab) {
    ipvsadm(lab, "-A -t 192.168.56.50:8080 -s rr");
    ipvsadm(lab, "-a -t 192.168.56.50:8080 -r 10.0.0.10 -m");
    let listener = listen(&lab.node("rs1").unwrap(), 8080);
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let more = |requests: usize| {
        let before = done.load(Ordering::Relaxed);
        eventually("requests go on", || {
            (done.load(Ordering::Relaxed) >= before + requests).then_some(())
        });
    };
    thread::scope(|scope| {
        // The download goes on until the end is told to the sender.
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut sent = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                send_body(&mut stream, 1 << 20).unwrap();
                sent += 1 << 20;
            }
            sent
        });
        let download = scope.spawn(|| {
            let stream = connect(&client(lab), Nat::VIP, 8080).unwrap();
            read_bodies(stream)
        });
        let load = scope.spawn(|| {
            let mut failures = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let load = Load {
                    address: Nat::VIP,
                    port: 80,
                    certificate: None,
                    requests: 50,
                    concurrency: 2,
                };
                let outcome = load
                    .run(&client(lab), |_| {
                        done.fetch_add(1, Ordering::Relaxed);
                    })
                    .unwrap();
                failures.extend(outcome.failures);
            }
            failures
        });
        for _ in 0..2 {
            more(100);
            lab.break_node("director").unwrap();
            more(100);
            lab.mend_node("director").unwrap();
            more(100);
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(load.join().unwrap(), []);
        assert!(download.join().unwrap() > 0);
    });
    let status = status(lab);
    assert_eq!(status["adopted"], true);
    // Every request was one connection, and none is counted twice or forgotten.
    let listing = ipvsadm(lab, "-Ln --stats --exact");
    let row = listing
        .lines()
        .find(|line| line.starts_with("TCP  192.168.56.50:80 "));
    let connections: usize = row
        .unwrap()
        .split_whitespace()
        .nth(2)
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(connections, done.load(Ordering::Relaxed));
}

/// Reads bodies of one mebibyte each until the end.
fn read_bodies(mut stream: std::net::TcpStream) -> u64 {
    use std::io::Read as _;
    let mut bodies = 0;
    loop {
        match read_body((&mut stream).take(1 << 20)).unwrap() {
            0 => return bodies,
            length => assert_eq!(length, 1 << 20),
        }
        bodies += 1;
    }
}

#[test]
fn the_next_daemon_finds_everything_as_it_was() {
    let lab = nat("adopt", Hook::Xdp);
    ipvsadm(&lab, "-A -t 192.168.56.50:81 -s wrr");
    ipvsadm(&lab, "-a -t 192.168.56.50:81 -r 10.0.0.10:80 -m -w 3");
    ipvsadm(&lab, "-a -t 192.168.56.50:81 -r 10.0.0.20:80 -m -w 0");
    ipvsadm(&lab, "-A -u 192.168.56.50:7 -s rr");
    ipvsadm(&lab, "-a -u 192.168.56.50:7 -r 10.0.0.20 -m");
    ipvsadm(&lab, "--set 800 100 200");
    assert_eq!(ask(&lab, 3), ["rs2", "rs1", "rs2"]);
    let held = connect(&client(&lab), Nat::VIP, 81).unwrap();
    let before = picture(&lab);
    let reasons = status(&lab)["reasons"].clone();
    assert!(before.contains("ESTABLISHED"), "{before}");
    for signal in [
        nix::sys::signal::Signal::SIGKILL,
        nix::sys::signal::Signal::SIGTERM,
    ] {
        lab.signal("director", signal).unwrap();
        eventually("the daemon ends", || {
            (lab.is_running("director") == Some(false)).then_some(())
        });
        lab.mend_node("director").unwrap();
        assert_eq!(status(&lab)["adopted"], true);
        assert_eq!(picture(&lab), before);
    }
    // Neighbours and link-local chatter are counted in there, but nothing starts anew.
    let after = status(&lab)["reasons"].clone();
    for (before, after) in reasons
        .as_array()
        .unwrap()
        .iter()
        .zip(after.as_array().unwrap())
    {
        assert!(after["packets"].as_u64() >= before["packets"].as_u64());
    }
    // The next in turn is whoever it would have been.
    assert_eq!(ask(&lab, 3), ["rs1", "rs2", "rs1"]);
    drop(held);
}

/// Everything that ipvsadm shows, without the time that is left to connections.
fn picture(lab: &Lab) -> String {
    let connections = ipvsadm(lab, "-Lnc");
    let mut connections: Vec<String> = connections
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            [&fields[..1], &fields[2..]].concat().join(" ")
        })
        .collect();
    connections.sort();
    [
        ipvsadm(lab, "-Ln"),
        ipvsadm(lab, "-Ln --stats --exact"),
        ipvsadm(lab, "-L --timeout"),
        ipvsadm(lab, "-S -n"),
        connections.join("\n"),
    ]
    .join("\n")
}

#[test]
fn without_a_daemon_connections_are_balanced_and_expire() {
    let lab = nat("away", Hook::Tc);
    ipvsadm(&lab, "-A -u 192.168.56.50:7 -s rr");
    ipvsadm(&lab, "-a -u 192.168.56.50:7 -r 10.0.0.10 -m");
    ipvsadm(&lab, "-a -u 192.168.56.50:7 -r 10.0.0.20 -m");
    ipvsadm(&lab, "-A -u 192.168.56.50:9 -s rr");
    ipvsadm(&lab, "-a -u 192.168.56.50:9 -r 10.0.0.10 -m");
    ipvsadm(&lab, "-a -u 192.168.56.50:9 -r 10.0.0.20 -m");
    let servers = ["rs1", "rs2"].map(|name| {
        let server = lab.node(name).unwrap();
        let server = server.run(|| UdpSocket::bind("0.0.0.0:9"));
        let server = server.unwrap().unwrap();
        server.set_nonblocking(true).unwrap();
        server
    });
    let sender = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((Nat::VIP, 9)).unwrap();
        socket
    };
    // Which server a datagram of this sender comes to.
    let taken_by = |sender: &UdpSocket| {
        sender.send(b"!").unwrap();
        let mut arrived = |server: &UdpSocket| server.recv(&mut [0; 4]).is_ok();
        eventually("the datagram arrives", || {
            servers.iter().position(&mut arrived)
        })
    };
    ipvsadm(&lab, "--set 900 120 2");
    // What has been seen to vanish afterwards must have been there.
    let held = connect(&client(&lab), Nat::VIP, 80).unwrap();
    lab.signal("director", nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    eventually("the daemon ends", || {
        (lab.is_running("director") == Some(false)).then_some(())
    });
    assert_eq!(ask(&lab, 4), ["rs1", "rs2", "rs1", "rs2"]);
    let echo = || {
        for _ in 0..10 {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((Nat::VIP, 7)).unwrap();
            socket
                .set_read_timeout(Some(crate::support::PATIENCE))
                .unwrap();
            socket.send(b"!").unwrap();
            assert_eq!(socket.recv(&mut [0; 4]).unwrap(), 1);
        }
    };
    client(&lab).run(echo).unwrap();
    // The table itself is beyond our reach without a daemon. But a datagram of a connection that lives goes to
    // its server, and one of a connection that has expired is scheduled anew. Asking keeps a connection alive:
    // each is asked once only, and only those whose server's turn it is not.
    let senders: Vec<_> = (0..128)
        .map(|_| client(&lab).run(sender).unwrap())
        .collect();
    let first: Vec<_> = senders.iter().map(taken_by).collect();
    let last = first[127];
    let waiting = senders.iter().zip(&first);
    let mut waiting = waiting.filter(|(_, server)| **server == last);
    assert_eq!(taken_by(&senders[127]), last, "it has just been made");
    eventually("a connection expires without a daemon", || {
        let (sender, _) = waiting.next().expect("enough to ask");
        thread::sleep(Duration::from_millis(100));
        (taken_by(sender) != last).then_some(())
    });
    lab.mend_node("director").unwrap();
    let listing = ipvsadm(&lab, "-Ln --stats --exact -u 192.168.56.50:7");
    assert!(
        listing.contains("UDP  192.168.56.50:7                    10"),
        "{listing}"
    );
    eventually("all have expired", || {
        (!ipvsadm(&lab, "-Lnc").contains("UDP")).then_some(())
    });
    let listing = ipvsadm(&lab, "-Ln -u 192.168.56.50:7");
    for server in ["10.0.0.10:7", "10.0.0.20:7"] {
        let row = listing.lines().find(|line| line.contains(server)).unwrap();
        assert!(row.trim_end().ends_with("0          0"), "{listing}");
    }
    assert!(ipvsadm(&lab, "-Lnc").contains("ESTABLISHED"));
    drop(held);
}

#[test]
fn down_removes_every_trace_and_the_host_takes_over() {
    let lab = nat("down", Hook::Xdp);
    let director = director(&lab);
    assert_eq!(ask(&lab, 1), ["rs2"]);
    let attached = programs(&director);
    assert!(attached.contains(&"eth0 xdp".into()), "{attached:?}");
    assert!(attached.len() >= 4, "{attached:?}");
    assert!(ok(&director, "ls /sys/fs/bpf").contains("furiwake"));
    let second = director.shell("furiwake run").unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = crate::support::stderr(&second);
    assert!(
        said.contains("another director runs in this network namespace"),
        "{said}"
    );
    assert!(said.contains("furiwake down"), "{said}");
    assert_eq!(ask(&lab, 1), ["rs1"]);

    ok(&director, "furiwake down");
    eventually("its process is gone", || {
        (lab.is_running("director") == Some(false)).then_some(())
    });
    assert!(programs(&director).is_empty());
    assert!(!ok(&director, "ls /sys/fs/bpf").contains("furiwake"));
    let socket = lab.folder().join("control.sock");
    assert!(!socket.exists() && !socket.with_extension("sock.lock").exists());
    assert_eq!(
        ok(&director, "furiwake down"),
        "no director here: nothing to remove\n"
    );

    // Nobody listens on the director itself.
    let refused = connect(&client(&lab), Nat::VIP, 80).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    lab.mend_node("director").unwrap();
    assert_eq!(status(&lab)["adopted"], false);
    assert_eq!(ipvsadm(&lab, "-S -n"), "");
}

#[test]
fn the_next_daemon_finds_interfaces_that_came_and_went_meanwhile() {
    let lab = nat("meanwhile", Hook::Xdp);
    let director = director(&lab);
    let add = |name: &str| {
        let line = format!(
            "ip link add {name} type veth peer name {name}-end && ip link set {name} up && ip link set {name}-end up"
        );
        ok(&director, &line);
    };
    let listening_on = |wanted: &[&str]| {
        eventually("it listens where it should", || {
            let status = status(&lab);
            let interfaces = status["interfaces"].as_array()?;
            let names: Vec<&str> = interfaces
                .iter()
                .filter_map(|one| one["name"].as_str())
                .collect();
            (names == wanted).then_some(())
        });
    };
    add("gone");
    listening_on(&["eth0", "eth1", "gone-end", "gone"]);
    lab.break_node("director").unwrap();
    ok(&director, "ip link del gone");
    add("new");
    ok(&director, "ip link set eth0 name wan");
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
    lab.mend_node("director").unwrap();
    listening_on(&["wan", "eth1", "new-end", "new"]);
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
    assert_eq!(
        ok(
            &director,
            "ls /sys/fs/bpf/furiwake/*/layout-*/links | wc -l"
        )
        .trim(),
        "8"
    );
}
