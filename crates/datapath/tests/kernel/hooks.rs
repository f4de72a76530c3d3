//! Which hook an interface has, and what leaves it.

use std::time::{Duration, Instant};

use furiwake_datapath::{Datapath, HookChoice, Options};
use furiwake_engine::{
    host::Hook,
    tables::{CLIENT_HOPS, Hop, Port, SERVER_HOPS},
};

use crate::{
    director::{Director, Fate, pins},
    netlink::Netlink,
    network::{Wire, in_network, set_gro},
    packet::{ACK, SYN, tcp},
};

fn takes_xdp(datapath: &Datapath, wire: Wire) -> bool {
    let port = &datapath.memory().ports[wire.ifindex() as usize];
    port.mac_tail_flags.get() & Port::XDP != 0
}

#[test]
fn a_veth_takes_frames_from_xdp_only_while_its_other_end_looks_out_for_them() {
    in_network(|| {
        let mut director = Director::new(Hook::Xdp);
        director.command("ipvsadm -A -t 10.0.0.1:80 -s rr");
        director.command("ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m");
        let receive = |director: &Director, port| {
            let request = tcp(&format!("10.0.0.100:{port}"), "10.0.0.1:80", SYN);
            let got = director.receive(&request.arrives());
            assert!(matches!(got.fate, Fate::Sent(_)), "{got:?}");
            got.at_xdp
        };
        assert!(receive(&director, 5000));
        for (port, on) in [(5001, false), (5002, true), (5003, false)] {
            set_gro("back-far", on).unwrap();
            director.datapath.maintain().unwrap();
            assert_eq!(takes_xdp(&director.datapath, Wire::Back), on);
            assert!(takes_xdp(&director.datapath, Wire::Front));
            assert_eq!(receive(&director, port), on);
            let attached = director.datapath.attached();
            let back = attached.iter().find(|a| a.name == "back").unwrap();
            assert_eq!(back.reason.is_none(), on, "{back:?}");
        }
        director.attach();
        assert!(!takes_xdp(&director.datapath, Wire::Back));
    });
}

#[test]
fn another_choice_replaces_the_link_of_the_first() {
    in_network(|| {
        let open = || {
            let options = Options {
                pin_directory: pins(),
                connections: 1,
            };
            Datapath::open(&options).unwrap()
        };
        let (name, ifindex) = (Wire::Back.name(), Wire::Back.ifindex());
        const NONE: u8 = 0;
        const NATIVE: u8 = 1;
        const GENERIC: u8 = 2;
        for (choice, hook, mode) in [
            (HookChoice::Xdp, "xdp+tcx", NATIVE),
            (HookChoice::XdpGeneric, "xdp-generic+tcx", GENERIC),
            (HookChoice::XdpGeneric, "xdp-generic+tcx", GENERIC),
            (HookChoice::Xdp, "xdp+tcx", NATIVE),
            (HookChoice::Tc, "tcx", NONE),
            (HookChoice::XdpGeneric, "xdp-generic+tcx", GENERIC),
            (HookChoice::Auto, "tcx", NONE),
        ] {
            // Another daemon each time.
            let mut datapath = open();
            let attached = datapath.attach(name, ifindex, choice).unwrap();
            assert_eq!(attached.hook, hook);
            let found = Netlink::open().unwrap().xdp_mode(ifindex).unwrap();
            assert_eq!(found, mode, "{choice:?}");
            assert_eq!(takes_xdp(&datapath, Wire::Back), mode == NATIVE);
        }
    });
}

#[test]
fn next_hops_of_clients_that_are_gone_are_given_back() {
    in_network(|| {
        let mut director = Director::new(Hook::Xdp);
        director.command("ipvsadm -A -t 10.0.0.1:80 -s rr");
        director.command("ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m");
        let (client, server) = ("10.0.0.100:5000", "192.168.1.1:80");
        let reply = tcp(server, client, SYN | ACK);
        let answers = |director: &Director| {
            let got = director.receive(&reply.arrives());
            let left = reply.clone().from("10.0.0.1:80").leaves();
            assert_eq!(got.fate, Fate::Sent(left));
            got.at_xdp
        };
        director.receive(&tcp(client, "10.0.0.1:80", SYN).arrives());
        // The first asks for the way.
        answers(&director);
        let known = director.datapath.client_neighbours();
        assert_eq!(known.len(), 1);
        let learned = |director: &Director| {
            let hops = &director.datapath.memory().hops[SERVER_HOPS as usize..];
            hops.iter().filter(|hop| hop.flags.get() != 0).count()
        };
        let clients = &director.datapath.memory().hops[SERVER_HOPS as usize..];
        let free = clients.iter().filter(|hop| hop.flags.get() == 0);
        for (number, hop) in (1..=CLIENT_HOPS * 3 / 4).zip(free) {
            hop.macs[0].set(number);
            hop.ifindex.set(99);
            hop.flags.set(Hop::ROUTED | Hop::RESOLVED);
        }
        let start = Instant::now();
        while learned(&director) > 1 {
            assert!(start.elapsed() < Duration::from_secs(20), "not given back");
            // In use all the time, as traffic is.
            assert!(answers(&director));
            director.datapath.maintain().unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(director.datapath.client_neighbours(), known);
        assert!(answers(&director));
    });
}
