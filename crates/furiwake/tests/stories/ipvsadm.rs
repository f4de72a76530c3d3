//! ipvsadm against a director that forwards: what is refused changes nothing, what is done shows in the traffic.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use furiwake_lab::{Hook, Lab, Nat};

use crate::support::{
    ask, bare, client, connect, director, eventually, ipvsadm, nat, ok, reason, stderr,
};

#[test]
fn what_cannot_be_done_yet_is_refused_and_changes_nothing() {
    let lab = nat("refused", Hook::Tc);
    let before = ipvsadm(&lab, "-S -n");
    let refused = [
        ("-A -t [2001:db8::1]:80 -s rr", "IPv6"),
        ("-A -f 1 -s rr", "firewall mark"),
        ("-A --sctp-service 192.168.56.51:80 -s rr", "SCTP"),
        (
            "-A -u 192.168.56.51:5060 -s rr -p 60 --pe sip",
            "persistence engine",
        ),
        ("-a -t 192.168.56.50:80 -r [2001:db8::1]:80 -i", "IPv6"),
    ];
    for (words, about) in refused {
        let output = director(&lab).shell(&format!("ipvsadm {words}")).unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(255), "{words}: {said}");
        assert!(
            said.starts_with("This build of furiwake cannot do this yet: "),
            "{words}: {said}"
        );
        assert!(said.contains(about), "{words}: {said}");
    }
    let impossible = [
        ("-A -t 192.168.56.50:80 -s rr", "Service already exists\n"),
        ("-E -t 192.168.56.51:80 -s rr", "No such service\n"),
        ("-D -t 192.168.56.51:80", "No such service\n"),
        (
            "-a -t 192.168.56.50:80 -r 10.0.0.10 -m",
            "Destination already exists\n",
        ),
        (
            "-e -t 192.168.56.50:80 -r 10.0.0.30 -m",
            "No such destination\n",
        ),
        (
            "-d -t 192.168.56.50:80 -r 10.0.0.30",
            "No such destination\n",
        ),
        ("-Z -t 192.168.56.51:80", "No such service\n"),
    ];
    for (words, said) in impossible {
        let output = director(&lab).shell(&format!("ipvsadm {words}")).unwrap();
        assert_eq!(
            (output.status.code(), stderr(&output)),
            (Some(255), said.to_owned()),
            "{words}"
        );
    }
    assert_eq!(ipvsadm(&lab, "-S -n"), before);
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
}

#[test]
fn a_new_weight_or_scheduler_moves_no_connection() {
    let lab = nat("weights", Hook::Xdp);
    let held = connect(&client(&lab), Nat::VIP, 80).unwrap();
    assert!(ipvsadm(&lab, "-Lnc").contains("10.0.0.20:80"));
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.20 -m -w 0");
    assert_eq!(ask(&lab, 3), ["rs1", "rs1", "rs1"]);
    ipvsadm(&lab, "-E -t 192.168.56.50:80 -s wrr");
    assert_eq!(finish(held), "rs2");
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.20 -m -w 1");
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.10 -m -w 3");
    let mut answers = ask(&lab, 8);
    answers.sort();
    assert_eq!(
        answers,
        ["rs1", "rs1", "rs1", "rs1", "rs1", "rs1", "rs2", "rs2"]
    );
}

#[test]
fn a_removed_server_silences_its_connections_and_revives_them_when_it_is_back() {
    let lab = nat("revive", Hook::Xdp);
    let held = connect(&client(&lab), Nat::VIP, 80).unwrap();
    assert!(ipvsadm(&lab, "-Lnc").contains("10.0.0.20:80"));
    ipvsadm(&lab, "-d -t 192.168.56.50:80 -r 10.0.0.20");
    assert_eq!(ask(&lab, 2), ["rs1", "rs1"]);
    (&held).write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    eventually("the request is dropped", || {
        (reason(&lab, "server_removed") > 0).then_some(())
    });
    held.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    assert!((&held).read(&mut [0]).is_err(), "nobody answers");

    ipvsadm(&lab, "-a -t 192.168.56.50:80 -r 10.0.0.20 -m");
    let row = ipvsadm(&lab, "-Ln -t 192.168.56.50:80");
    let row = row
        .lines()
        .find(|line| line.contains("10.0.0.20:80"))
        .unwrap();
    assert!(row.trim_end().ends_with("1      1          0"), "{row}");
    held.set_read_timeout(Some(crate::support::PATIENCE))
        .unwrap();
    // The client sends its request again by itself.
    assert_eq!(page(held), "rs2");
}

#[test]
fn a_removed_service_leaves_its_port_to_the_host() {
    let lab = nat("removed", Hook::Tc);
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
    ipvsadm(&lab, "-D -t 192.168.56.50:80");
    let refused = connect(&client(&lab), Nat::VIP, 80).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(ipvsadm(&lab, "-Ln").contains("192.168.56.50:443"));
    ipvsadm(&lab, "-C");
    assert_eq!(ipvsadm(&lab, "-S -n"), "");
    ipvsadm(&lab, "-A -t 192.168.56.50:80 -s rr");
    ipvsadm(&lab, "-a -t 192.168.56.50:80 -r 10.0.0.10 -m");
    assert_eq!(ask(&lab, 2), ["rs1", "rs1"]);
}

#[test]
fn counters_are_set_to_zero_for_one_service_or_all() {
    let lab = nat("zero", Hook::Xdp);
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
    ipvsadm(&lab, "-A -t 192.168.56.50:81 -s rr");
    ipvsadm(&lab, "-a -t 192.168.56.50:81 -r 10.0.0.10:80 -m");
    ok(
        &client(&lab),
        "curl -sS --max-time 20 http://192.168.56.50:81/",
    );
    ipvsadm(&lab, "-Z -t 192.168.56.50:80");
    assert_eq!(conns(&lab, "192.168.56.50:80"), 0);
    assert_eq!(conns(&lab, "192.168.56.50:81"), 1);
    assert_eq!(conns(&lab, "10.0.0.20:80"), 0);
    ask(&lab, 1);
    assert_eq!(conns(&lab, "192.168.56.50:80"), 1);
    ipvsadm(&lab, "-Z");
    assert_eq!(
        conns(&lab, "192.168.56.50:80") + conns(&lab, "192.168.56.50:81"),
        0
    );
    // The connections themselves are still there.
    assert!(ipvsadm(&lab, "-Lnc").contains("192.168.56.50:81"));
}

fn conns(lab: &Lab, name: &str) -> u64 {
    let listing = ipvsadm(lab, "-Ln --stats --exact");
    let row = listing
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(name))
        .unwrap_or_else(|| panic!("{name} in\n{listing}"));
    row.split_whitespace().nth(2).unwrap().parse().unwrap()
}

#[test]
fn what_was_saved_can_be_restored() {
    let lab = nat("saved", Hook::Tc);
    ipvsadm(&lab, "-A -u 192.168.56.50:53 -s wrr");
    ipvsadm(&lab, "-a -u 192.168.56.50:53 -r 10.0.0.10 -m -w 7");
    ipvsadm(&lab, "-a -u 192.168.56.50:53 -r 10.0.0.20:5353 -m -w 0");
    let saved = ipvsadm(&lab, "-S -n");
    ok(
        &director(&lab),
        "ipvsadm-save -n > /tmp/saved && ipvsadm -C && ipvsadm-restore < /tmp/saved",
    );
    assert_eq!(ipvsadm(&lab, "-S -n"), saved);
    ok(
        &director(&lab),
        "ipvsadm -C && ipvsadm -R < /tmp/saved && rm /tmp/saved",
    );
    assert_eq!(ipvsadm(&lab, "-S -n"), saved);
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
}

#[test]
fn two_thousand_lines_are_restored_at_once() {
    let lab = bare("restore", Hook::Tc);
    let mut rules = String::new();
    for port in 1000..1400 {
        writeln!(rules, "-A -t 192.168.56.50:{port} -s rr").unwrap();
        for server in [10, 11, 12, 13] {
            writeln!(
                rules,
                "-a -t 192.168.56.50:{port} -r 10.0.0.{server}:{port} -m -w 1"
            )
            .unwrap();
        }
    }
    assert_eq!(rules.lines().count(), 2000);
    let file = lab.folder().join("rules");
    std::fs::write(&file, &rules).unwrap();
    ok(
        &director(&lab),
        &format!("ipvsadm-restore < {}", file.display()),
    );
    let mut saved: Vec<String> = ipvsadm(&lab, "-S -n").lines().map(str::to_owned).collect();
    let mut wanted: Vec<&str> = rules.lines().collect();
    saved.sort();
    wanted.sort_unstable();
    assert_eq!(saved, wanted);
}

#[test]
fn timeouts_are_set_one_by_one() {
    let lab = bare("set", Hook::Tc);
    let timeouts = || ipvsadm(&lab, "-L --timeout");
    assert_eq!(timeouts(), "Timeout (tcp tcpfin udp): 900 120 300\n");
    ipvsadm(&lab, "--set 0 60 0");
    assert_eq!(timeouts(), "Timeout (tcp tcpfin udp): 900 60 300\n");
    ipvsadm(&lab, "--set 100 0 5");
    assert_eq!(timeouts(), "Timeout (tcp tcpfin udp): 100 60 5\n");
}

/// Asks on a connection that is open already; gives the server's name.
fn finish(mut stream: TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    page(stream)
}

fn page(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().last().unwrap().to_owned()
}
