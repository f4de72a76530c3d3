//! Files with one mistake each, and what is said about it.

use std::net::Ipv4Addr;

use super::*;
use crate::{
    preset::Preset,
    topology::{Expectation, Method, Persistence, Share, Tunnel, TunnelKind},
};

/// A file without a mistake.
const GOOD: &str = r#"
[networks]
front = "192.168.56.0/24"
back = "10.0.0.0/24"

[[machine]]
name = "client"
role = "client"
addresses = ["192.168.56.1"]
gateway = "192.168.56.10"

[[machine]]
name = "director"
role = "director"
addresses = ["192.168.56.10", "10.0.0.1"]

[[machine]]
name = "rs1"
role = "server"
addresses = ["10.0.0.10"]
gateway = "10.0.0.1"
weight = 3

[[machine]]
name = "rs2"
role = "server"
addresses = ["10.0.0.20"]
gateway = "10.0.0.1"

[[service]]
address = "192.168.56.50"
ports = [80]
scheduler = "wrr"
method = "masq"
"#;

fn parse(text: &str) -> Result<Topology> {
    Topology::parse("my.toml", "my", text, &Choices::default())
}

/// The one line that is said about a file with one mistake.
fn complaint(text: &str) -> String {
    match parse(text) {
        Err(Error::File { problems, .. }) => {
            assert_eq!(problems.len(), 1, "{problems:#?}");
            problems[0].to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// What is said when a piece of the good file is replaced.
fn spoiled(piece: &str, by: &str) -> String {
    assert!(GOOD.contains(piece), "{piece}");
    complaint(&GOOD.replacen(piece, by, 1))
}

/// The good file's only service with more keys.
fn service_with(keys: &str) -> crate::Service {
    parse(&format!("{GOOD}{keys}\n"))
        .unwrap()
        .services
        .remove(0)
}

#[test]
fn a_good_file_is_read_whole() {
    let topology = parse(GOOD).unwrap();
    assert_eq!(topology.name, "my");
    assert_eq!(
        topology.commands(),
        [
            "ip addr add 192.168.56.50 label eth0-lvsvip dev eth0",
            "ipvsadm -A -t 192.168.56.50:80 -s wrr",
            "ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.10 -m -w 3",
            "ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.20 -m",
        ]
    );
    let director = topology.machine("director").unwrap();
    assert_eq!(director.interfaces[1].name, "eth1");
    assert_eq!(director.interfaces[1].network, "back");
}

#[test]
fn every_key_of_a_service_is_heard() {
    let service = service_with(
        "persistent = 60\nnetmask = \"255.255.255.0\"\nservers = [\"rs2\"]\nrequests = 40\n\
         concurrency = 4\nupload = 1_000\ndownload = 0x10\nflags = [\"sh-port\"]\n\
         expect = { servers = { rs2 = 39 }, failed = 1 }",
    );
    assert_eq!(
        service.persistence,
        Some(Persistence {
            seconds: 60,
            netmask: Ipv4Addr::new(255, 255, 255, 0)
        })
    );
    assert_eq!(service.servers.len(), 1);
    assert_eq!(service.traffic.requests, Some(40));
    assert_eq!(service.traffic.concurrency, Some(4));
    assert_eq!(service.traffic.upload, Some(1000));
    assert_eq!(service.traffic.download, Some(16));
    assert_eq!(
        service.expectation,
        Expectation {
            share: Share::Counts {
                servers: vec![("rs2".into(), 39)],
                tolerance: 0
            },
            failed: 1
        }
    );
    let topology = parse(&format!(
        "{GOOD}persistent = 60\nnetmask = \"255.255.0.0\"\n"
    ))
    .unwrap();
    assert_eq!(
        topology.commands()[1],
        "ipvsadm -A -t 192.168.56.50:80 -s wrr -p 60 -M 255.255.0.0"
    );
}

#[test]
fn tunnels_have_a_kind_and_gue_a_port() {
    let tunnel = |keys: &str| {
        let text = GOOD.replace("method = \"masq\"", &format!("method = \"tunnel\"\n{keys}"));
        parse(&text).unwrap().services[0].method
    };
    let of = |kind, port| Method::Tunnel(Tunnel { kind, port });
    assert_eq!(tunnel(""), of(TunnelKind::Ipip, 6080));
    assert_eq!(tunnel("tunnel = \"gre\""), of(TunnelKind::Gre, 6080));
    assert_eq!(
        tunnel("tunnel = \"gue\"\ntunnel-port = 5555"),
        of(TunnelKind::Gue, 5555)
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    assert_eq!(
        spoiled("gateway = \"10.0.0.1\"", "gatway = \"10.0.0.1\""),
        "line 21: [[machine]] has no key \"gatway\": did you mean gateway?"
    );
    assert_eq!(
        spoiled("[networks]", "colour = 7\n[networks]"),
        "line 2: the file has no key \"colour\": the file knows name, about, networks, machine, service"
    );
    assert!(complaint(&format!("{GOOD}expect = {{ sservers = {{}} }}")).contains("mean servers?"));
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once_in_order() {
    let text = GOOD
        .replace("scheduler = \"wrr\"", "scheduler = \"wr\"")
        .replace("ports = [80]", "ports = [80, 70000]")
        .replace("addresses = [\"10.0.0.20\"]", "addresses = [\"10.1.0.20\"]")
        .replace("role = \"client\"", "role = \"asker\"");
    let Err(error) = parse(&text) else {
        panic!("was taken")
    };
    let said = error.to_string();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "my.toml has 4 mistakes");
    let starts = [
        "  line 8: role is \"asker\": there are client, director, router and server",
        "  line 27: addresses has 10.1.0.20, which is in none of the networks: take one of front, back",
        "  line 32: ports is 70000: it can be 1 to 65535",
        "  line 33: scheduler is \"wr\": there are rr, wrr,",
    ];
    for (line, start) in lines[1..].iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn each_mistake_has_its_line_its_cause_and_a_remedy() {
    for (piece, by, said) in [
        (
            "front = \"192.168.56.0/24\"",
            "front = \"192.168.56.7/24\"",
            "line 3: front is \"192.168.56.7/24\": the network begins at 192.168.56.0/24",
        ),
        (
            "back = \"10.0.0.0/24\"",
            "back = \"192.168.0.0/16\"",
            "line 4: back overlaps front",
        ),
        (
            "addresses = [\"192.168.56.1\"]",
            "addresses = [\"fd00::1\"]",
            "addresses is \"fd00::1\": the director balances IPv4 alone so far",
        ),
        (
            "addresses = [\"192.168.56.1\"]",
            "addresses = [\"192.168.56.0\"]",
            "first or last address of front",
        ),
        (
            "addresses = [\"192.168.56.1\"]",
            "addresses = \"192.168.56.1\"",
            "addresses is a text, not a list: write it in brackets",
        ),
        (
            "gateway = \"192.168.56.10\"",
            "gateway = \"192.168.56.9\"",
            "client sends to 192.168.56.9, and no machine has that address",
        ),
        (
            "name = \"rs2\"",
            "name = \"rs1\"",
            "two machines are called \"rs1\"",
        ),
        (
            "name = \"rs2\"",
            "name = \"switch\"",
            "two machines are called \"switch\"",
        ),
        (
            "name = \"rs2\"\n",
            "",
            "[[machine]] has no name: add name = \"rs1\"",
        ),
        (
            "weight = 3",
            "weight = 65536",
            "weight is 65536: it can be 0 to 65535",
        ),
        (
            "weight = 3",
            "weight = \"3\"",
            "weight is a text, not a whole number",
        ),
        (
            "address = \"192.168.56.50\"",
            "address = \"10.9.9.9\"",
            "address 10.9.9.9 is in none of the director's networks",
        ),
        (
            "address = \"192.168.56.50\"",
            "address = \"192.168.56.1\"",
            "address 192.168.56.1 is the own address of client",
        ),
        (
            "ports = [80]",
            "ports = [80, 80]",
            "192.168.56.50:80 is there twice",
        ),
        (
            "method = \"masq\"",
            "method = \"fullnat\"",
            "the director has no full NAT yet: there are masq, gateway, tunnel",
        ),
        (
            "method = \"masq\"",
            "method = \"masq\"\ntunnel = \"gre\"",
            "tunnel is for method tunnel: leave it out",
        ),
        (
            "method = \"masq\"",
            "method = \"tunnel\"\ntunnel = \"vxlan\"",
            "there are ipip, gue, gre",
        ),
        (
            "method = \"masq\"",
            "method = \"masq\"\nservers = [\"rs9\"]",
            "servers names \"rs9\", which is no server: there are rs1, rs2",
        ),
        (
            "method = \"masq\"",
            "method = \"masq\"\nnetmask = \"255.255.255.0\"",
            "netmask is without persistent",
        ),
        (
            "method = \"masq\"",
            "method = \"masq\"\nexpect = \"best\"",
            "expect is \"best\": write \"scheduler\", \"one server\"",
        ),
        (
            "method = \"masq\"",
            "method = \"masq\"\nrequests = 9\nexpect = { servers = { rs1 = 5, rs2 = 5 } }",
            "expect adds up to 10 of 9 requests",
        ),
        (
            "weight = 3",
            "weight = 3\n[machine.sysctls]\n\"kernel.hostname\" = \"x\"",
            "\"kernel.hostname\" is no setting that a machine has of its own",
        ),
        (
            "role = \"director\"",
            "role = \"router\"",
            "no machine is a director: add a [[machine]] with role = \"director\"",
        ),
    ] {
        let text = GOOD.replacen(piece, by, 1);
        let Err(error) = parse(&text) else {
            panic!("was taken: {by}")
        };
        assert!(error.to_string().contains(said), "{said}\n{error}");
    }
}

#[test]
fn a_server_behind_a_router_cannot_be_had_by_direct_routing() {
    let text = GOOD
        .replace(
            "addresses = [\"192.168.56.10\", \"10.0.0.1\"]",
            "addresses = [\"192.168.56.10\"]",
        )
        .replace("gateway = \"10.0.0.1\"\n", "")
        .replace("method = \"masq\"", "method = \"gateway\"");
    let said = parse(&text).unwrap_err().to_string();
    assert!(
        said.contains("rs2 is in none of the director's networks"),
        "{said}"
    );
}

#[test]
fn what_is_no_toml_is_refused_where_it_breaks() {
    let said = spoiled("role = \"client\"", "role = \"client");
    assert!(said.starts_with("line 8: "), "{said}");
    assert!(parse("\u{0}\u{feff}[[[").is_err());
    assert!(parse("").is_err());
}

#[test]
fn any_cut_of_a_preset_is_an_answer_and_no_panic() {
    for preset in Preset::all() {
        for length in (0..preset.text.len()).filter(|length| preset.text.is_char_boundary(*length))
        {
            let _ = parse(&preset.text[..length]);
        }
    }
}

#[test]
fn weights_from_the_command_line_need_a_machine_that_stands_for_several() {
    let choices = Choices {
        weights: Some(vec![1, 1]),
        scheduler: None,
    };
    let error = Topology::parse("my.toml", "my", GOOD, &choices).unwrap_err();
    assert!(error.to_string().contains("weights = [1, 1]"), "{error}");
}
