//! Made-up runs by direct routing and through tunnels, each wrong in one way.

use super::*;
use crate::{
    check::{example::run_through, judge::judge},
    file::Choices,
    load::{Transfer, Way},
    preset::Preset,
    topology::Nat,
    wire::{Frame, Ip, Mac, Sighting, Tally},
};

const RS1: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 110);

/// A run of a preset in which everything went its way.
fn good(preset: &str) -> Measured {
    let topology = Preset::named(preset).unwrap();
    let topology = topology.topology(&Choices::default()).unwrap();
    let mut measured = run_through(&topology, 100);
    let mut ways = Ways {
        sightings: Default::default(),
        macs: topology
            .nodes
            .iter()
            .map(|machine| (machine.name.clone(), vec![mac(&machine.name).to_string()]))
            .collect(),
        neighbours: [(Nat::VIP, mac("director").to_string())].into(),
    };
    for server in ["rs1", "rs2"] {
        add(
            &mut ways,
            server,
            server,
            "client",
            ip(Nat::VIP, Nat::CLIENT),
        );
    }
    let arp = Arp {
        reply: true,
        sender: Nat::VIP,
        target: Nat::CLIENT,
    };
    match topology.services[0].method {
        Method::Masq => {}
        Method::Gateway => {
            add(
                &mut ways,
                "director",
                "director",
                "client",
                Payload::Arp(arp),
            );
            for server in ["rs1", "rs2"] {
                add(
                    &mut ways,
                    "director",
                    "director",
                    server,
                    ip(Nat::CLIENT, Nat::VIP),
                );
            }
        }
        Method::Tunnel(tunnel) => {
            let packet = in_tunnel(tunnel.kind);
            add(
                &mut ways,
                "director",
                "director",
                "router",
                Payload::Tunnel(packet),
            );
        }
    }
    measured.ways = Some(ways);
    let transfer = Transfer {
        way: Way::Up,
        bytes: 1_000_000,
        outcome: Ok(std::time::Duration::from_millis(10)),
    };
    measured.transfers = vec![(topology.services[0].clone(), transfer)];
    measured
}

/// A hardware address made of a name.
fn mac(machine: &str) -> Mac {
    let mut bytes = [2; 6];
    for (byte, letter) in bytes.iter_mut().skip(1).zip(machine.bytes().rev()) {
        *byte = letter;
    }
    Mac(bytes)
}

fn add(ways: &mut Ways, machine: &str, from: &str, to: &str, payload: Payload) {
    let sighting = Sighting {
        machine: machine.into(),
        frame: Frame {
            source: mac(from),
            destination: mac(to),
            payload,
        },
    };
    let tally = Tally {
        frames: 300,
        longest: 1514,
    };
    ways.sightings.insert(sighting, tally);
}

fn packet(source: Ipv4Addr, destination: Ipv4Addr) -> Ip {
    Ip {
        source,
        destination,
        protocol: 6,
        icmp: None,
    }
}

fn ip(source: Ipv4Addr, destination: Ipv4Addr) -> Payload {
    Payload::Ip(packet(source, destination))
}

fn in_tunnel(kind: TunnelKind) -> Encapsulated {
    Encapsulated {
        kind,
        outer: packet(Nat::DIRECTOR, Ipv4Addr::new(10, 9, 0, 10)),
        inner: packet(Nat::CLIENT, Nat::VIP),
        overhead: kind.overhead(),
        lengths_agree: true,
    }
}

/// The checks that failed after a change of what was seen.
fn failed(preset: &str, change: impl FnOnce(&mut Ways)) -> Vec<&'static str> {
    let mut measured = good(preset);
    change(measured.ways.as_mut().unwrap());
    judge(&measured)
        .iter()
        .filter(|check| check.status != Status::Passed)
        .map(|check| check.id)
        .collect()
}

#[test]
fn a_run_without_fault_passes_by_every_method() {
    for preset in ["dr", "tun-ipip", "tun-gue", "tun-gre"] {
        assert_eq!(failed(preset, |_| {}), Vec::<&str>::new(), "{preset}");
    }
    let ids: Vec<&str> = judge(&good("dr")).iter().map(|check| check.id).collect();
    for id in ["replies-direct", "requests-unchanged", "arp", "upload"] {
        assert!(ids.contains(&id), "{ids:?}");
    }
    assert!(!ids.contains(&"source-rewritten"));
}

#[test]
fn an_answer_by_the_director_or_in_a_foreign_name_is_seen() {
    let by = |machine: &'static str, from: &'static str| {
        failed("dr", |ways| {
            add(ways, machine, from, "client", ip(Nat::VIP, Nat::CLIENT))
        })
    };
    assert_eq!(by("director", "director"), ["replies-direct"]);
    assert_eq!(by("rs1", "director"), ["replies-direct"]);
    assert_eq!(
        failed("tun-gre", |ways| {
            ways.sightings
                .retain(|sighting, _| !sighting.machine.starts_with("rs"));
        }),
        ["replies-direct"]
    );
}

#[test]
fn a_rewritten_request_is_seen() {
    let rewritten = |ways: &mut Ways| {
        add(ways, "director", "director", "rs1", ip(Nat::CLIENT, RS1));
    };
    assert_eq!(failed("dr", rewritten), ["requests-unchanged"]);
}

#[test]
fn a_server_that_speaks_for_the_virtual_address_is_seen() {
    for reply in [true, false] {
        let arp = Arp {
            reply,
            sender: Nat::VIP,
            target: Nat::CLIENT,
        };
        let spoke = |ways: &mut Ways| add(ways, "rs1", "rs1", "client", Payload::Arp(arp));
        assert_eq!(failed("dr", spoke), ["arp"]);
    }
    let taken = |ways: &mut Ways| {
        ways.neighbours.insert(Nat::VIP, mac("rs2").to_string());
    };
    assert_eq!(failed("dr", taken), ["arp"]);
}

#[test]
fn a_wrong_tunnel_is_seen() {
    let wrong: [fn(&mut Encapsulated); 5] = [
        |packet| packet.kind = TunnelKind::Gre,
        |packet| packet.overhead += 4,
        |packet| packet.lengths_agree = false,
        |packet| packet.outer.source = Nat::CLIENT,
        |packet| packet.inner.destination = RS1,
    ];
    for change in wrong {
        let mut packet = in_tunnel(TunnelKind::Ipip);
        change(&mut packet);
        let seen = |ways: &mut Ways| {
            add(
                ways,
                "director",
                "director",
                "router",
                Payload::Tunnel(packet),
            );
        };
        assert_eq!(failed("tun-ipip", seen), ["encapsulated"]);
    }
    let plain = |ways: &mut Ways| {
        add(
            ways,
            "director",
            "director",
            "router",
            ip(Nat::CLIENT, Nat::VIP),
        );
    };
    assert_eq!(failed("tun-ipip", plain), ["encapsulated"]);
}

#[test]
fn answers_counted_by_the_director_and_lost_uploads_are_seen() {
    let mut measured = good("dr");
    measured.stats = measured.stats.replace("110:80 50 300 0", "110:80 50 300 1");
    measured.transfers[0].1.outcome = Err("timed out".into());
    let failed: Vec<&str> = judge(&measured)
        .iter()
        .filter(|check| check.status != Status::Passed)
        .map(|check| check.id)
        .collect();
    assert_eq!(failed, ["upload", "statistics"]);
}
