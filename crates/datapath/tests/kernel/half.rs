//! What an interrupted daemon leaves: half a data plane is none, half a change is finished or undone, and an error is
//! not taken for either.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use furiwake_datapath::{Datapath, Error, Options};
use furiwake_engine::{
    host::Hook,
    tables::{LAYOUT, NONE, Server, Service, V4, pack},
};

use crate::{
    director::{Director, Fate, pins},
    netlink::Netlink,
    network::{Wire, in_network},
    packet::{SYN, tcp},
};

const VIP: &str = "10.0.0.1:80";
const COMMANDS: &[&str] = &[
    "ipvsadm -A -t 10.0.0.1:80 -s rr",
    "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m",
    "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.2 -m",
    "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.3 -m",
];

fn director() -> Director {
    let mut director = Director::new(Hook::Xdp);
    for line in COMMANDS {
        director.command(line);
    }
    director
}

fn folder(part: &str) -> PathBuf {
    pins().join(format!("layout-{LAYOUT}")).join(part)
}

fn open() -> Result<Datapath, Error> {
    Datapath::open(&Options {
        pin_directory: pins(),
        connections: 1,
    })
}

/// The services that packets find: index by key.
fn index() -> HashMap<MapData, [u8; 20], u32> {
    let pin = folder("maps/SERVICE_INDEX");
    HashMap::try_from(Map::HashMap(MapData::from_pin(pin).unwrap())).unwrap()
}

/// The key of a service on port 80, as it lies in the map.
fn tcp_service(address: [u8; 4]) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&address);
    key[16..].copy_from_slice(&[0, 80, 6, V4]);
    key
}

/// What is listed after a restart: addresses of servers by service.
fn servers(director: &mut Director) -> Vec<Vec<String>> {
    let table = director.datapath.table();
    let services = table.services.iter();
    services
        .map(|s| {
            s.servers
                .iter()
                .map(|r| r.key.address.to_string())
                .collect()
        })
        .collect()
}

#[test]
fn half_removed_pins_are_no_data_plane() {
    for missing in ["CONFIG", "CONNECTIONS", "HOP", "SWEEPER"] {
        in_network(move || {
            drop(director());
            fs::remove_file(folder("maps").join(missing)).unwrap();
            let datapath = open().unwrap();
            assert!(!datapath.adopted(), "without {missing}");
            assert_eq!(fs::read_dir(folder("links")).unwrap().count(), 0);
            assert_eq!(datapath.table().services, []);
            drop(datapath);
            let mut again = director();
            assert!(again.datapath.adopted());
            let syn = tcp("10.0.0.100:5000", VIP, SYN).arrives();
            assert!(matches!(again.receive(&syn).fate, Fate::Sent(_)));
            assert_eq!(servers(&mut again)[0].len(), 3);
        });
    }
}

#[test]
fn half_made_settings_are_no_data_plane() {
    in_network(|| {
        let director = director();
        director.datapath.memory().config.ticks_per_second.set(0);
        drop(director);
        assert!(!open().unwrap().adopted());
    });
}

#[test]
fn pins_that_cannot_be_opened_are_an_error_and_stay() {
    in_network(|| {
        drop(director());
        let maps = folder("maps");
        fs::rename(maps.join("CONFIG"), maps.join("kept")).unwrap();
        fs::rename(maps.join("COUNTS"), maps.join("CONFIG")).unwrap();
        fs::rename(maps.join("kept"), maps.join("COUNTS")).unwrap();
        match open().unwrap_err() {
            Error::Layout { path } => assert!(path.ends_with("CONFIG")),
            other => panic!("{other}"),
        }
        assert!(fs::read_dir(maps).unwrap().count() >= 18);
        assert_eq!(fs::read_dir(folder("links")).unwrap().count(), 6);
    });
}

/// Leave a state behind, and take it over.
fn restart_after(half: impl FnOnce(&Director)) -> Director {
    let before = director();
    half(&before);
    drop(before);
    let after = Director::new(Hook::Xdp);
    assert!(after.datapath.adopted());
    after
}

/// The director still does what it is told.
fn assert_works(director: &mut Director) {
    for port in 7000..7008 {
        let syn = tcp(&format!("10.0.0.100:{port}"), VIP, SYN).arrives();
        assert!(matches!(director.receive(&syn).fate, Fate::Sent(_)));
    }
    director.command("ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.9 -m");
    director.command("ipvsadm -D -t 10.0.0.1:80");
    director.command("ipvsadm -A -t 10.0.0.1:80 -s rr");
}

#[test]
fn a_service_that_packets_do_not_find_is_entered() {
    in_network(|| {
        let mut after = restart_after(|_| {
            let key = index().keys().next().unwrap().unwrap();
            index().remove(&key).unwrap();
        });
        assert_eq!(servers(&mut after)[0].len(), 3);
        assert_works(&mut after);
    });
}

#[test]
fn a_service_that_was_being_removed_is_gone() {
    for in_index in [false, true] {
        in_network(move || {
            let mut after = restart_after(|before| {
                let flags = &before.datapath.memory().services[0].flags;
                flags.set(Service::USED | Service::REMOVED);
                if !in_index {
                    let key = index().keys().next().unwrap().unwrap();
                    index().remove(&key).unwrap();
                }
            });
            assert_eq!(servers(&mut after), Vec::<Vec<String>>::new());
            assert_eq!(index().keys().count(), 0);
            let retired = after.datapath.memory().servers.iter();
            let waits =
                |s: &Server| s.flags.get() & (Server::USED | Server::AVAILABLE) == Server::USED;
            assert!(retired.take(3).all(waits));
            after.command(COMMANDS[0]);
            after.command(COMMANDS[1]);
            assert_works(&mut after);
        });
    }
}

#[test]
fn an_entry_of_a_service_that_is_not_there_goes() {
    in_network(|| {
        let mut after = restart_after(|_| {
            index().insert(tcp_service([10, 0, 0, 2]), 0, 0).unwrap();
            index().insert(tcp_service([10, 0, 0, 3]), 77, 0).unwrap();
        });
        assert_eq!(index().keys().count(), 1);
        after.command("ipvsadm -A -t 10.0.0.2:80 -s rr");
        assert_works(&mut after);
    });
}

#[test]
fn a_server_in_no_list_is_removed() {
    in_network(|| {
        let mut after = restart_after(|before| {
            // Newest first: the list loses 192.168.1.3 before its flag does.
            let memory = before.datapath.memory();
            let first = memory.services[0].head.get();
            let second = memory.servers[first as usize].next.get();
            memory.services[0].head.set(second);
        });
        assert_eq!(servers(&mut after), [["192.168.1.2", "192.168.1.1"]]);
        let addresses: Vec<_> = after.datapath.servers();
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        assert_works(&mut after);
    });
}

#[test]
fn a_server_that_was_being_removed_leaves_its_list() {
    in_network(|| {
        let mut after = restart_after(|before| {
            let memory = before.datapath.memory();
            let middle = memory.servers[memory.services[0].head.get() as usize]
                .next
                .get();
            memory.servers[middle as usize]
                .flags
                .set(Server::USED | Server::REPLIES);
            memory.schedulers[0].0.set(pack(middle, 0));
        });
        assert_eq!(servers(&mut after), [["192.168.1.3", "192.168.1.1"]]);
        assert_eq!(after.datapath.memory().schedulers[0].0.get() as u32, NONE);
        assert_works(&mut after);
    });
}

#[test]
fn weights_that_wrr_was_not_told_of_are_told() {
    in_network(|| {
        let mut before = director();
        before.command("ipvsadm -E -t 10.0.0.1:80 -s wrr");
        before.datapath.memory().servers[0].weight.set(9);
        drop(before);
        let after = Director::new(Hook::Xdp);
        let service = &after.datapath.memory().services[0];
        assert_eq!((service.divisor.get(), service.mark.get()), (1, 9));
    });
}

#[test]
fn whole_tables_are_left_as_they_are() {
    in_network(|| {
        let mut before = director();
        before.command("ipvsadm -E -t 10.0.0.1:80 -s wrr");
        let state = pack(1, 1);
        before.datapath.memory().schedulers[0].0.set(state);
        drop(before);
        let mut after = Director::new(Hook::Xdp);
        assert_eq!(after.datapath.memory().schedulers[0].0.get(), state);
        assert_eq!(servers(&mut after)[0].len(), 3);
    });
}

/// Whether the filter of kernels before 6.6 is on a wire.
fn has_filter(wire: Wire) -> bool {
    Netlink::open().unwrap().has_filter(wire.ifindex()).unwrap()
}

#[test]
fn filters_of_older_kernels_are_found_after_a_restart() {
    in_network(|| {
        let mut before = open().unwrap();
        let (name, ifindex) = (Wire::Back.name(), Wire::Back.ifindex());
        before.attach_filter(name, ifindex).unwrap();
        drop(before);
        assert!(has_filter(Wire::Back));
        let mut after = open().unwrap();
        let attached = after.attached();
        assert_eq!(attached.len(), 1);
        assert_eq!(attached[0].name, name);
        after.attach_filter(name, ifindex).unwrap();
        assert!(has_filter(Wire::Back));
        after.detach(ifindex).unwrap();
        assert!(!has_filter(Wire::Back));
        assert_eq!(fs::read_dir(folder("links")).unwrap().count(), 0);
    });
}

#[test]
fn removal_takes_filters_whose_pins_are_gone() {
    in_network(|| {
        let mut datapath = open().unwrap();
        let (name, ifindex) = (Wire::Back.name(), Wire::Back.ifindex());
        datapath.attach_filter(name, ifindex).unwrap();
        drop(datapath);
        fs::rename(pins(), pins().with_file_name("elsewhere")).unwrap();
        let removed = Datapath::remove(&pins()).unwrap();
        assert_eq!(removed, [format!("tc filter on {name}")]);
        assert!(!has_filter(Wire::Back));
    });
}

#[test]
fn a_scheduler_does_not_stand_on_a_slot_that_is_given_to_another_service() {
    in_network(|| {
        let mut director = director();
        director.command("ipvsadm -d -t 10.0.0.1:80 -r 192.168.1.2");
        let servers = || director.datapath.memory().servers.iter();
        let leaving = servers()
            .position(|s| s.flags.get() & (Server::USED | Server::AVAILABLE) == Server::USED)
            .unwrap();
        // A processor picked it while it was taken out of its list.
        director.datapath.memory().schedulers[0]
            .0
            .set(pack(leaving as u32, 0));
        let start = Instant::now();
        while director.datapath.memory().servers[leaving].flags.get() != 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "not freed");
            director.datapath.maintain().unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        director.command("ipvsadm -A -t 10.0.0.2:80 -s rr");
        director.command("ipvsadm -a -t 10.0.0.2:80 -r 192.168.1.9 -m");
        for (port, server) in [
            (5000, "192.168.1.3:80"),
            (5001, "192.168.1.1:80"),
            (5002, "192.168.1.3:80"),
        ] {
            let request = tcp(&format!("10.0.0.100:{port}"), VIP, SYN);
            let got = director.receive(&request.arrives()).fate;
            assert_eq!(got, Fate::Sent(request.to(server).leaves()));
        }
    });
}

#[test]
fn counts_that_are_below_zero_for_a_moment_are_shown_as_zero() {
    in_network(|| {
        let director = director();
        for counts in director.datapath.memory().counts {
            counts.active.set(u32::MAX);
            counts.total.set(1);
        }
        let view = director.datapath.view().unwrap();
        for server in &view.services[0].servers {
            assert_eq!((server.active, server.inactive), (0, 1));
        }
    });
}
