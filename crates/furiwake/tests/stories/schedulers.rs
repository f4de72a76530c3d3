//! Every scheduler, asked by real connections: who answers is whom the rule names.

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_lab::{Hook, Lab, Nat};

use crate::support::{
    ask_from, client, connect, connect_from, finish, give_addresses, ipvsadm, nat_of, set,
};

/// Weights of rs1, rs2, rs3 where nothing else is said.
const WEIGHTS: [u64; 3] = [1, 2, 3];
const SERVERS: [&str; 3] = ["10.0.0.10", "10.0.0.20", "10.0.0.30"];

/// Active connections and weight of a server.
#[derive(Clone, Copy)]
struct Load {
    active: u64,
    weight: u64,
}

#[test]
fn schedulers_that_count_choose_whom_their_rules_name() {
    let lab = lab("counting");
    // Cost of a server as a fraction, or nothing if it cannot be chosen; the lowest wins, the newest of equals.
    type Cost = fn(Load) -> Option<(u64, u64)>;
    let rules: [(&str, Cost); 5] = [
        ("lc", |load| Some((load.active, 1))),
        ("wlc", |load| Some((load.active, load.weight))),
        ("sed", |load| Some((load.active + 1, load.weight))),
        ("nq", |load| match load.active {
            0 => Some((0, 1)),
            active => Some((active + 1, load.weight)),
        }),
        // Highest weight first: its cost is what it lacks.
        ("ovf", |load| {
            (load.active <= load.weight).then_some((100 - load.weight, 1))
        }),
    ];
    for (scheduler, cost) in rules {
        service(&lab, scheduler, &WEIGHTS);
        let mut loads = WEIGHTS.map(|weight| Load { active: 0, weight });
        let mut wanted = Vec::new();
        let mut held = Vec::new();
        // Weights and one more each is all that ovf has room for.
        for _ in 0..9 {
            let mut best: Option<(usize, (u64, u64))> = None;
            for (server, load) in loads.iter().enumerate().rev() {
                let Some((over, under)) = cost(*load) else {
                    continue;
                };
                if best.is_none_or(|(_, (least, of))| least * under > over * of) {
                    best = Some((server, (over, under)));
                }
            }
            let (server, _) = best.unwrap();
            loads[server].active += 1;
            wanted.push(format!("rs{}", server + 1));
            held.push(connect(&client(&lab), Nat::VIP, 80).unwrap());
        }
        let listing = ipvsadm(&lab, "-Ln -t 192.168.56.50:80");
        for (server, load) in SERVERS.iter().zip(loads) {
            let fields = crate::support::fields(&listing, &format!("{server}:80"));
            assert_eq!(fields[2], load.active.to_string(), "{scheduler}: {listing}");
        }
        if scheduler == "ovf" {
            let refused = connect(&client(&lab), Nat::VIP, 80).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        let answers: Vec<String> = held.into_iter().map(finish).collect();
        assert_eq!(answers, wanted, "{scheduler}");
    }
}

#[test]
fn weighted_failover_names_the_heaviest_and_then_the_next() {
    let lab = lab("failover");
    service(&lab, "fo", &[2, 5, 3]);
    assert_eq!(from(&lab, 3), ["rs2"; 3]);
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.20 -m -w 0");
    assert_eq!(from(&lab, 3), ["rs3"; 3]);
    ipvsadm(&lab, "-d -t 192.168.56.50:80 -r 10.0.0.30");
    assert_eq!(from(&lab, 3), ["rs1"; 3]);
}

#[test]
fn hashing_schedulers_choose_by_address() {
    let lab = lab("hashing");
    let clients: Vec<Ipv4Addr> = (0..24)
        .map(|host| Ipv4Addr::new(198, 51, 100, host * 7 + 1))
        .collect();
    // The table is filled from the newest on: by weight for sh, one each for dh.
    service(&lab, "sh", &WEIGHTS);
    let table = ["rs3", "rs3", "rs3", "rs2", "rs2", "rs1"];
    for address in &clients {
        let wanted = table[bucket(*address) % table.len()];
        assert_eq!(
            ask_from(&lab, SocketAddrV4::new(*address, 0)),
            wanted,
            "sh {address}"
        );
    }
    service(&lab, "dh", &WEIGHTS);
    let wanted = ["rs3", "rs2", "rs1"][bucket(Nat::VIP) % 3];
    for address in &clients[..4] {
        assert_eq!(
            ask_from(&lab, SocketAddrV4::new(*address, 0)),
            wanted,
            "dh {address}"
        );
    }
    // Clients stay where they are when another's server is quiesced; a quiesced one's are refused, or go
    // elsewhere with mh-fallback.
    service(&lab, "mh -b mh-fallback", &[1, 1, 1]);
    let first: Vec<String> = answers(&lab, &clients);
    assert_eq!(answers(&lab, &clients), first);
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.20 -m -w 0");
    for (before, after) in first.iter().zip(answers(&lab, &clients)) {
        assert!(
            *before == after || (before == "rs2" && after != "rs2"),
            "{before} {after}"
        );
    }
    assert!((1..24).contains(&first.iter().filter(|name| *name == "rs2").count()));
}

#[test]
fn maglev_does_not_mind_the_order_of_adds() {
    let lab = lab("maglev");
    let clients: Vec<Ipv4Addr> = (0..24)
        .map(|host| Ipv4Addr::new(198, 51, 100, host * 7 + 1))
        .collect();
    service(&lab, "maglev", &WEIGHTS);
    let first = answers(&lab, &clients);
    ipvsadm(&lab, "-D -t 192.168.56.50:80");
    ipvsadm(&lab, "-A -t 192.168.56.50:80 -s maglev");
    for (server, weight) in SERVERS.iter().zip(WEIGHTS).rev() {
        ipvsadm(
            &lab,
            &format!("-a -t 192.168.56.50:80 -r {server} -m -w {weight}"),
        );
    }
    assert_eq!(answers(&lab, &clients), first);
    for name in ["rs1", "rs2", "rs3"] {
        assert!(
            first.iter().any(|answer| answer == name),
            "{name}: {first:?}"
        );
    }
    // Those of a quiesced server go elsewhere, the others stay, and all come back.
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.30 -m -w 0");
    let without = answers(&lab, &clients);
    assert!(!without.contains(&"rs3".to_owned()), "{without:?}");
    let stayed = first
        .iter()
        .zip(&without)
        .filter(|(before, after)| before == after)
        .count();
    let others = first.iter().filter(|name| *name != "rs3").count();
    assert!(stayed * 10 >= others * 8, "{stayed} of {others} stayed");
    ipvsadm(&lab, "-e -t 192.168.56.50:80 -r 10.0.0.30 -m -w 3");
    assert_eq!(answers(&lab, &clients), first);
}

#[test]
fn two_choices_and_locality_serve_everybody() {
    let lab = lab("others");
    set(&lab, "scheduler_twos 1");
    for scheduler in ["twos", "lblc", "lblcr", "wrr"] {
        service(&lab, scheduler, &[0, 2, 1]);
        let answers = from(&lab, 12);
        assert!(
            !answers.contains(&"rs1".to_owned()),
            "{scheduler}: {answers:?}"
        );
        if scheduler == "wrr" {
            assert_eq!(answers.iter().filter(|name| *name == "rs2").count(), 8);
        }
    }
}

/// Three web servers, and a client with more addresses.
fn lab(name: &str) -> Lab {
    let lab = nat_of(3, name, Hook::Tc);
    give_addresses(&lab, "198.51.100.0/24");
    lab
}

/// The service anew: rs1, rs2, rs3 are added in this order.
fn service(lab: &Lab, scheduler: &str, weights: &[u64]) {
    ipvsadm(lab, "-D -t 192.168.56.50:80");
    ipvsadm(lab, &format!("-A -t 192.168.56.50:80 -s {scheduler}"));
    for (server, weight) in SERVERS.iter().zip(weights) {
        ipvsadm(
            lab,
            &format!("-a -t 192.168.56.50:80 -r {server} -m -w {weight}"),
        );
    }
}

fn from(lab: &Lab, times: u32) -> Vec<String> {
    let ask = |_| finish(connect(&client(lab), Nat::VIP, 80).unwrap());
    (0..times).map(ask).collect()
}

/// Who answers each client.
fn answers(lab: &Lab, clients: &[Ipv4Addr]) -> Vec<String> {
    let ask =
        |address: &Ipv4Addr| finish(connect_from(lab, SocketAddrV4::new(*address, 0), 80).unwrap());
    clients.iter().map(ask).collect()
}

/// Where the kernel's `sh` and `dh` look for an address in their tables of 256.
fn bucket(address: Ipv4Addr) -> usize {
    (address.to_bits().wrapping_mul(0x61C8_8647) >> 24) as usize
}
