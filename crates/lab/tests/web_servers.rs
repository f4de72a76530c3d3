//! Apache httpd and nginx as real servers, each with a small configuration. Run as root;
//! `./test` installs them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{path::Path, process::Command};

use furiwake_lab::{Hook, Lab, Nat, Options, WebServer, load::Load};

fn configuration(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/servers")
        .join(file)
        .display()
        .to_string()
}

fn require(program: &str) {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .unwrap();
    assert!(
        found.status.success(),
        "program {program} is missing: ./test installs it"
    );
}

/// Whichever way the director works, a server must say its own name, log its client, stop when it is broken
/// and come back when it is mended.
fn serves_as_a_real_server(program: &str, command: String) {
    require(program);
    let options = Options {
        name: Some(format!("{program}-{}", std::process::id())),
        program: env!("CARGO_BIN_EXE_furiwake-lab-server").into(),
        hook: Hook::Tc,
        server: WebServer::Command(command),
        director: false,
        services: false,
    };
    let lab = Lab::up(&Nat::equal(1).topology().unwrap(), &options).unwrap();
    let (client, server) = (lab.node("client").unwrap(), lab.node("rs1").unwrap());
    let load = |port, certificate| Load {
        address: [10, 0, 0, 10].into(),
        port,
        certificate,
        requests: 5,
        concurrency: 1,
    };
    let http = load(80, None).run(&client, |_| {}).unwrap();
    let https = load(443, Some(lab.certificate().unwrap()))
        .run(&client, |_| {})
        .unwrap();
    for outcome in [&http, &https] {
        assert_eq!(
            outcome.per_server(),
            [("rs1", 5)].into(),
            "{:?}",
            outcome.failures
        );
    }
    let log = std::fs::read_to_string(server.folder().join("access.log")).unwrap();
    assert_eq!(
        log.lines()
            .filter(|line| line.starts_with("192.168.56.1 "))
            .count(),
        10,
        "{log}"
    );

    lab.break_node("rs1").unwrap();
    assert_eq!(load(80, None).run(&client, |_| {}).unwrap().failed(), 5);
    lab.mend_node("rs1").unwrap();
    assert_eq!(load(80, None).run(&client, |_| {}).unwrap().failed(), 0);
}

#[test]
fn apache_serves_as_a_real_server() {
    let file = configuration("apache.conf");
    serves_as_a_real_server("apache2", format!("apache2 -D FOREGROUND -f {file}"));
}

#[test]
fn nginx_serves_as_a_real_server() {
    let file = configuration("nginx.conf");
    let command =
        format!("cp {file} \"$SERVER_DIR\" && exec nginx -p \"$SERVER_DIR\" -c nginx.conf");
    serves_as_a_real_server("nginx", command);
}
