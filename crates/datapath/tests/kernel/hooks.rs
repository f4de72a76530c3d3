//! Which hook an interface has, and what leaves it.

use furiwake_datapath::{Datapath, HookChoice, Options};
use furiwake_engine::{host::Hook, tables::Port};

use crate::{
    director::{Director, Fate, pins},
    netlink::Netlink,
    network::{Wire, in_network, set_gro},
    packet::{SYN, tcp},
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
