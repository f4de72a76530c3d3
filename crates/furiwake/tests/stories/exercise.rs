//! The exercise, typed as it is written down, with servers that people run.

use std::{fs, path::Path};

use furiwake_lab::{Hook, Lab, Nat, Options, WebServer};

use crate::support::{client, director, ipvsadm, ok, options, up};

const EXERCISE: [&str; 7] = [
    "ip addr add 192.168.56.50 label eth0-lvsvip dev eth0",
    "ipvsadm -A -t 192.168.56.50:80 -s rr",
    "ipvsadm -A -t 192.168.56.50:443 -s rr",
    "ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.10 -m",
    "ipvsadm -a -t 192.168.56.50:443 -r 10.0.0.10 -m",
    "ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.20 -m",
    "ipvsadm -a -t 192.168.56.50:443 -r 10.0.0.20 -m",
];

const LISTING: &str = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.56.50:80 rr
  -> 10.0.0.10:80                 Masq    1      0          0         
  -> 10.0.0.20:80                 Masq    1      0          0         
TCP  192.168.56.50:443 rr
  -> 10.0.0.10:443                Masq    1      0          0         
  -> 10.0.0.20:443                Masq    1      0          0         
";

#[test]
fn the_exercise_works_as_typed_with_apache_and_xdp() {
    the_exercise_works("apache-xdp", Hook::Xdp, apache());
}

#[test]
fn the_exercise_works_as_typed_with_apache_and_tc() {
    the_exercise_works("apache-tc", Hook::Tc, apache());
}

#[test]
fn the_exercise_works_as_typed_with_nginx_and_xdp() {
    the_exercise_works("nginx-xdp", Hook::Xdp, nginx());
}

#[test]
fn the_exercise_works_as_typed_with_nginx_and_tc() {
    the_exercise_works("nginx-tc", Hook::Tc, nginx());
}

fn the_exercise_works(name: &str, hook: Hook, server: String) {
    let options = Options {
        server: WebServer::Command(server),
        services: false,
        ..options(name, hook)
    };
    let lab = up(&Nat::equal(2).topology().unwrap(), &options);
    for line in EXERCISE {
        assert_eq!(ok(&director(&lab), line), "", "{line}");
    }
    let listing = ok(&director(&lab), "ipvsadm -ln");
    let (title, table) = listing.split_once('\n').unwrap();
    assert!(
        title.starts_with("IP Virtual Server version 1.2.1 (size="),
        "{title}"
    );
    assert_eq!(table, LISTING);

    let answers = curl(&lab, 100, "http://192.168.56.50/");
    let alternating: Vec<&str> = ["rs2", "rs1"].into_iter().cycle().take(100).collect();
    assert_eq!(answers, alternating);
    assert_eq!(access_logs(&lab), [["192.168.56.1"; 50]; 2]);

    let secure = format!(
        "--cacert {}/certificate.pem https://192.168.56.50/",
        lab.folder().display()
    );
    assert_eq!(curl(&lab, 4, &secure), ["rs2", "rs1", "rs2", "rs1"]);

    the_listings_agree(&lab);
}

/// What `-L`, `-Lc` and `-L --stats` say about a hundred requests and four secure ones.
fn the_listings_agree(lab: &Lab) {
    let connections = ipvsadm(lab, "-Lnc");
    for (server, expected) in [
        ("10.0.0.10:80", 50),
        ("10.0.0.20:80", 50),
        ("10.0.0.10:443", 2),
        ("10.0.0.20:443", 2),
    ] {
        let port = server.split_once(':').unwrap().1;
        let virtual_end = format!("192.168.56.50:{port}");
        let of_server: Vec<Vec<&str>> = connections
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| fields.last() == Some(&server))
            .collect();
        for fields in &of_server {
            assert_eq!(fields[0], "TCP", "{fields:?}");
            assert!(fields[3].starts_with("192.168.56.1:"), "{fields:?}");
            assert_eq!(fields[4], virtual_end, "{fields:?}");
        }
        assert_eq!(of_server.len(), expected, "{server}:\n{connections}");
        let (active, inactive) = counts(&ipvsadm(lab, "-Ln"), server);
        assert_eq!(active + inactive, expected as u64, "{server}");
        let row = row(&ipvsadm(lab, "-Ln --stats --exact"), server);
        assert_eq!(row[0], expected as u64, "connections of {server}");
        // A request and its answer take at least this many packets each way.
        let least = 4 * expected as u64;
        assert!(row[1] >= least && row[2] >= least, "{server}: {row:?}");
    }
    assert_eq!(
        row(&ipvsadm(lab, "-Ln --stats --exact"), "192.168.56.50:80")[0],
        100
    );
}

fn curl(lab: &Lab, times: u32, what: &str) -> Vec<String> {
    let line = format!("for i in $(seq {times}); do curl -sS --max-time 20 {what} || exit 1; done");
    ok(&client(lab), &line).lines().map(str::to_owned).collect()
}

/// The clients that each server has logged.
fn access_logs(lab: &Lab) -> [Vec<String>; 2] {
    ["rs1", "rs2"].map(|server| {
        let log = lab.node(server).unwrap().folder().join("access.log");
        let text = fs::read_to_string(log).unwrap();
        text.lines()
            .map(|line| line.split_whitespace().next().unwrap().to_owned())
            .collect()
    })
}

/// Active and inactive connections of a server.
fn counts(listing: &str, server: &str) -> (u64, u64) {
    let fields = row_of(listing, server);
    let number = |text: &String| text.parse().unwrap();
    (number(&fields[3]), number(&fields[4]))
}

/// The numbers behind a name.
fn row(listing: &str, name: &str) -> Vec<u64> {
    let fields = row_of(listing, name);
    fields[1..]
        .iter()
        .map(|field| field.parse().unwrap())
        .collect()
}

fn row_of(listing: &str, name: &str) -> Vec<String> {
    let line = listing
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(name))
        .unwrap_or_else(|| panic!("{name} in\n{listing}"));
    line.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn apache() -> String {
    format!(
        "exec apache2 -D FOREGROUND -f {}",
        configuration("apache.conf")
    )
}

fn nginx() -> String {
    format!(
        "cp {} \"$SERVER_DIR\" && exec nginx -p \"$SERVER_DIR\" -c nginx.conf",
        configuration("nginx.conf")
    )
}

fn configuration(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../lab/tests/servers")
        .join(file)
        .display()
        .to_string()
}
