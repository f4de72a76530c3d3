//! Services, servers and settings in the maps: what was applied is what is read back, by this daemon and by the next.

use std::{net::Ipv4Addr, time::Instant};

use furiwake_datapath::{Datapath, NextHop, Options};
use furiwake_engine::{
    host::Hook,
    schedule::Scheduler,
    settings,
    tables::{Config, Filter, Server as Slot},
};
use furiwake_lvs::{
    model::{
        Forward, Persistence, Protocol, SchedulerName, Server, ServerKey, Service, ServiceConfig,
        ServiceKey, Settings, Table, Timeouts, Tunnel, TunnelChecksum, TunnelKind,
    },
    plan::{Change, plan},
};
use proptest::{prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};

use crate::{
    director::{Director, Fate, pins},
    network::in_network,
    packet::{ACK, SYN, tcp},
};

const VIP: &str = "10.0.0.1:80";

fn open() -> Datapath {
    Datapath::open(&Options {
        pin_directory: pins(),
        connections: 1,
    })
    .unwrap()
}

fn become_table(datapath: &mut Datapath, wanted: &Table) {
    for change in plan(&datapath.table(), wanted) {
        datapath
            .apply(&change)
            .unwrap_or_else(|e| panic!("{change:?}: {e}"));
    }
}

/// In an order that does not depend on which services were there before.
fn in_order(mut table: Table) -> Table {
    table.services.sort_by_key(|service| service.config.key);
    table
}

#[test]
fn what_was_applied_is_read_back_by_this_daemon_and_the_next() {
    in_network(|| {
        let mut runner = TestRunner::deterministic();
        let tables = table();
        let mut datapath = open();
        for round in 0..40 {
            let wanted = in_order(tables.new_tree(&mut runner).unwrap().current());
            become_table(&mut datapath, &wanted);
            assert_eq!(in_order(datapath.table()), wanted, "round {round}");
            if round % 8 == 0 {
                let (table, kinds) = (datapath.table(), datapath.memory().config.kinds.get());
                drop(datapath);
                datapath = open();
                assert!(datapath.adopted());
                assert_eq!(datapath.table(), table, "restart after round {round}");
                assert_eq!(datapath.memory().config.kinds.get(), kinds);
            }
            let every_port =
                |s: &Service| matches!(s.config.key, ServiceKey::Address { port: 0, .. });
            let kinds = datapath.memory().config.kinds.get();
            assert_eq!(
                kinds & Config::EVERY_PORT != 0,
                wanted.services.iter().any(every_port)
            );
        }
    });
}

#[test]
fn settings_are_put_in_force_and_outlive_the_daemon() {
    in_network(|| {
        let mut datapath = open();
        let mut wanted = Settings::default();
        for (name, value) in [
            ("expire_nodest_conn", "1"),
            ("pmtu_disc", "0"),
            ("sloppy_tcp", "3"),
            ("conn_reuse_mode", "2"),
            ("drop_packet", "3"),
            ("am_droprate", "7"),
            ("secure_tcp", "3"),
            ("lblc_expiration", "60"),
            ("sync_threshold", "1 20"),
        ] {
            wanted.set(name, value).unwrap();
        }
        datapath
            .apply(&Change::SetSettings(wanted.clone()))
            .unwrap();
        let check = |datapath: &Datapath| {
            let config = datapath.memory().config;
            let on = settings::EXPIRE_NODEST_CONN | settings::SLOPPY_TCP | settings::SECURE_TCP;
            assert_eq!(config.settings.get(), on);
            assert_eq!(config.conn_reuse_mode.get(), 2);
            assert_eq!(config.drop_rate.get(), 7);
            assert_eq!(config.lblc_expiration.get(), 60);
            assert_eq!(datapath.table().settings, wanted);
            assert_eq!(datapath.view().unwrap().settings, wanted);
        };
        check(&datapath);
        datapath.maintain().unwrap();
        drop(datapath);
        check(&open());
    });
}

#[test]
fn automatic_defence_is_off_while_there_is_memory_and_on_without() {
    in_network(|| {
        let mut datapath = open();
        let mut level = |threshold: &str, given: i32, shown: i32| {
            let mut wanted = Settings::default();
            wanted.set("drop_packet", &given.to_string()).unwrap();
            wanted.set("amemthresh", threshold).unwrap();
            datapath
                .apply(&Change::SetSettings(wanted.clone()))
                .unwrap();
            datapath.maintain().unwrap();
            assert_eq!(datapath.table().settings, wanted);
            assert_eq!(datapath.view().unwrap().settings.drop_packet, shown);
            datapath.memory().config.drop_rate.get()
        };
        assert_eq!(level("1", 1, 1), 0);
        assert_eq!(level("1", 2, 1), 0);
        assert_ne!(level("2147483647", 1, 2), 0);
    });
}

#[test]
fn a_raised_threshold_lets_connections_in_and_a_lowered_one_is_felt_with_the_next() {
    in_network(|| {
        let mut director = Director::new(Hook::Tc);
        director.command("ipvsadm -A -t 10.0.0.1:80 -s rr");
        director.command("ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m");
        let mut ports = 5000..;
        let mut connect = |director: &Director| {
            let client = format!("10.0.0.100:{}", ports.next().unwrap());
            director.receive(&tcp(&client, VIP, SYN).arrives());
        };
        (0..4).for_each(|_| connect(&director));
        // As recorded of Linux 6.1.0-50: what each edit makes of it, how many there are after one more, and what that does.
        for (options, overloaded, total, then) in [
            ("-x 2", 0, 5, 1),
            ("-x 1", 1, 5, 1),
            ("-x 3", 0, 6, 1),
            ("-x 8 -y 4", 0, 7, 0),
            ("-x 7 -y 4", 0, 8, 1),
            ("-x 0", 0, 9, 0),
        ] {
            director.command(&format!(
                "ipvsadm -e -t 10.0.0.1:80 -r 192.168.1.1 -m {options}"
            ));
            let level = |director: &Director| {
                let counts = &director.datapath.memory().counts[0];
                (counts.overloaded.get(), counts.total.get())
            };
            assert_eq!(level(&director).0, overloaded, "{options}");
            connect(&director);
            assert_eq!(level(&director), (then, total), "{options}");
        }
    });
}

#[test]
fn connections_keep_the_method_that_they_were_made_with() {
    in_network(|| {
        let mut director = Director::new(Hook::Tc);
        director.command("ipvsadm -A -t 10.0.0.1:80 -s rr");
        director.command("ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m");
        let client = "10.0.0.100:5000";
        director.receive(&tcp(client, VIP, SYN).arrives());
        director.command("ipvsadm -e -t 10.0.0.1:80 -r 192.168.1.1 -g");
        let answer = tcp("192.168.1.1:80", client, SYN | ACK);
        assert_eq!(
            director.receive(&answer.arrives()).fate,
            Fate::Sent(answer.from(VIP).leaves())
        );
        let replies = |director: &Director| {
            let memory = director.datapath.memory();
            memory.servers[0].flags.get() & Slot::REPLIES != 0
        };
        assert!(replies(&director));
        // The last of them ends: its address is not looked at any more.
        director.datapath.memory().counts[0].total.set(0);
        crate::life::wait_until_maintained(&mut director.datapath, |datapath| {
            datapath.memory().servers[0].flags.get() & Slot::REPLIES == 0
        });
    });
}

#[test]
fn a_server_that_comes_back_has_its_connections_and_begins_anew_in_slow_start() {
    in_network(|| {
        let mut director = Director::new(Hook::Tc);
        director.command("ipvsadm -A -t 10.0.0.1:80 -s rr");
        director.command("ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m -w 3");
        director.receive(&tcp("10.0.0.100:5000", VIP, SYN).arrives());
        director.command("ipvsadm -d -t 10.0.0.1:80 -r 192.168.1.1");
        director.datapath.memory().servers[0].since.set(0);
        director.command("ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m -w 0");
        let slot = |director: &Director| {
            let server = &director.datapath.memory().servers[0];
            (
                server.weight.get(),
                server.last_weight.get(),
                server.since.get() != 0,
            )
        };
        assert_eq!(slot(&director), (0, 0, true));
        assert_eq!(director.datapath.memory().counts[0].total.get(), 1);
        director.datapath.memory().servers[0].since.set(0);
        director.command("ipvsadm -e -t 10.0.0.1:80 -r 192.168.1.1 -m -w 5");
        assert_eq!(slot(&director), (5, 5, true));
    });
}

#[test]
fn templates_keep_a_removed_servers_slot() {
    in_network(|| {
        let mut director = Director::new(Hook::Tc);
        director.command("ipvsadm -A -t 10.0.0.1:80 -s rr");
        director.command("ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m");
        director.command("ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.2 -m");
        director.datapath.memory().counts[0].persistent.set(1);
        assert_eq!(
            director.datapath.view().unwrap().services[0].servers[1].persistent,
            1
        );
        director.command("ipvsadm -d -t 10.0.0.1:80 -r 192.168.1.1");
        director.command("ipvsadm -d -t 10.0.0.1:80 -r 192.168.1.2");
        // The other one, without templates, is given up meanwhile.
        crate::life::wait_until_maintained(&mut director.datapath, |datapath| {
            datapath.memory().servers[1].flags.get() == 0
        });
        assert_ne!(director.datapath.memory().servers[0].flags.get(), 0);
        director.datapath.memory().counts[0].persistent.set(0);
        crate::life::wait_until_maintained(&mut director.datapath, |datapath| {
            datapath.memory().servers[0].flags.get() == 0
        });
    });
}

#[test]
fn two_thousand_services_with_twenty_servers_each_find_room() {
    in_network(|| {
        let mut datapath = open();
        let start = Instant::now();
        let services = 2000;
        for number in 0..services {
            let config = service(number);
            let key = config.key;
            datapath.apply(&Change::AddService(config)).unwrap();
            for host in 0..20 {
                let server = masqueraded(Ipv4Addr::from(0x0a01_0000 + number * 20 + host));
                datapath
                    .apply(&Change::AddServer {
                        service: key,
                        server,
                    })
                    .unwrap();
            }
        }
        let added = start.elapsed();
        let servers = datapath.servers();
        assert_eq!(servers.len(), 40_000);
        for server in &servers {
            datapath
                .set_next_hop(*server, NextHop::Unreachable)
                .unwrap();
        }
        let hops = start.elapsed() - added;
        assert_eq!(datapath.table().services.len(), 2000);
        for number in 0..services {
            datapath
                .apply(&Change::RemoveService(service(number).key))
                .unwrap();
        }
        println!(
            "added in {added:?}, next hops in {hops:?}, removed in {:?}",
            start.elapsed() - added - hops
        );
        let virtuals = &datapath.memory().filter.virtuals;
        assert!(!Filter::has(virtuals, u32::from_ne_bytes([10, 0, 0, 1])));
    });
}

fn service(number: u32) -> ServiceConfig {
    ServiceConfig {
        key: ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: Ipv4Addr::from(0x0a00_0001 + number / 1000).into(),
            port: (1 + number % 1000) as u16,
        },
        scheduler: SchedulerName("rr".into()),
        scheduler_flags: 0,
        persistence: None,
        persistence_engine: None,
        one_packet: false,
        slow_start: 0,
    }
}

fn masqueraded(address: Ipv4Addr) -> Server {
    Server {
        key: ServerKey {
            address: address.into(),
            port: 80,
        },
        forward: Forward::Masquerade,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        tunnel: Tunnel::default(),
    }
}

/// Tables with all that this data plane can have. Keys come from a small world, so that tables have much in common.
fn table() -> impl Strategy<Value = Table> {
    let services = prop::collection::vec(any_service(), 0..6);
    let timeouts = (1..1000u32, 1..1000u32, 1..1000u32);
    (services, timeouts, any_settings()).prop_map(|(services, (tcp, tcp_fin, udp), settings)| {
        let mut table = Table {
            timeouts: Timeouts { tcp, tcp_fin, udp },
            settings,
            ..Table::default()
        };
        for service in services {
            if table
                .services
                .iter()
                .all(|s| s.config.key != service.config.key)
            {
                table.services.push(service);
            }
        }
        table
    })
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (0..2i32, 0..4i32, 0..100i32).prop_map(|(switch, level, number)| Settings {
        sloppy_tcp: switch,
        pmtu_disc: 1 - switch,
        drop_packet: level,
        am_droprate: number,
        ..Settings::default()
    })
}

fn any_service() -> impl Strategy<Value = Service> {
    let key = (
        select(vec![Protocol::Tcp, Protocol::Udp]),
        1..3u8,
        select(vec![0, 21, 80]),
    );
    let schedulers = Scheduler::ALL.iter().map(|scheduler| scheduler.name());
    let scheduler = select(schedulers.collect::<Vec<_>>());
    let netmask = select(vec![u32::MAX, 0xffff_ff00, 0]);
    let persistence = prop::option::of(
        (1..1000u32, netmask).prop_map(|(timeout, netmask)| Persistence { timeout, netmask }),
    );
    let flags = select(vec![0, 8, 16, 24, 32, 56]);
    let servers = prop::collection::vec(any_server(), 0..6);
    let rest = (flags, persistence, any::<bool>(), 0..3u32);
    (key, scheduler, rest, servers).prop_map(
        |(
            (protocol, host, port),
            scheduler,
            (flags, persistence, one_packet, slow_start),
            found,
        )| {
            let mut servers: Vec<Server> = Vec::new();
            for server in found {
                if servers.iter().all(|s| s.key != server.key) {
                    servers.push(server);
                }
            }
            let key = ServiceKey::Address {
                protocol,
                address: Ipv4Addr::new(10, 0, 0, host).into(),
                port,
            };
            let config = ServiceConfig {
                key,
                scheduler: SchedulerName(scheduler.to_owned()),
                scheduler_flags: flags,
                persistence,
                persistence_engine: None,
                one_packet,
                slow_start: slow_start * 30,
            };
            Service { config, servers }
        },
    )
}

fn any_server() -> impl Strategy<Value = Server> {
    let forward = select(vec![Forward::Masquerade, Forward::Gateway, Forward::Tunnel]);
    let key = (1..9u8, select(vec![0, 80, 8080]));
    let kind = select(vec![TunnelKind::Ipip, TunnelKind::Gue, TunnelKind::Gre]);
    let checksum = select(vec![
        TunnelChecksum::None,
        TunnelChecksum::Full,
        TunnelChecksum::Remote,
    ]);
    let tunnel = (kind, any::<u16>(), checksum).prop_map(|(kind, port, checksum)| Tunnel {
        kind,
        port,
        checksum,
    });
    let numbers = (0..5u32, 0..9u32, 0..4u32);
    (key, forward, numbers, tunnel).prop_map(
        |((host, port), forward, (weight, upper, lower), tunnel)| Server {
            key: ServerKey {
                address: Ipv4Addr::new(192, 168, 1, host).into(),
                port,
            },
            forward,
            weight,
            upper_threshold: upper + lower,
            lower_threshold: lower,
            tunnel,
        },
    )
}
