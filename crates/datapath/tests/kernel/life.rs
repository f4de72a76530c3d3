//! A data plane without a daemon: connections expire, state waits to be taken over, and all of it can be removed.

use std::{
    fs,
    time::{Duration, Instant},
};

use aya::maps::{MapData, loaded_maps};
use furiwake_datapath::{Datapath, Error, Options};
use furiwake_engine::{
    host::Hook,
    reason::Reason,
    tables::{Config, Counts, LAYOUT},
};

use crate::{
    director::{Director, Fate, pins},
    network::{Wire, in_network},
    packet::{ACK, SYN, tcp, udp},
    processor,
    row::one_space,
};

const VIP: &str = "10.0.0.1:80";
const COMMANDS: &[&str] = &[
    "ipvsadm -A -t 10.0.0.1:80 -s rr",
    "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.1 -m",
    "ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.2 -m",
];

fn command_all(director: &mut Director, lines: &[&str]) {
    lines.iter().for_each(|line| drop(director.command(line)));
}

#[test]
fn connections_expire_without_a_daemon() {
    in_network(|| {
        let mut director = Director::new(Hook::Xdp);
        command_all(&mut director, COMMANDS);
        command_all(
            &mut director,
            &[
                "ipvsadm -A -u 10.0.0.1:80 -s rr",
                "ipvsadm -a -u 10.0.0.1:80 -r 192.168.1.1 -m",
                "ipvsadm --set 900 120 1",
            ],
        );
        for port in 5000..5100 {
            let client = format!("10.0.0.100:{port}");
            director.receive(&udp(&client, VIP).arrives());
            director.receive(&tcp(&client, VIP, SYN).arrives());
        }
        assert_eq!(director.datapath.connections().unwrap().len(), 200);
        drop(director);
        // Mapped anew, as a daemon would, but without its programs: only the kernel is at work.
        let options = Options {
            pin_directory: pins(),
            connections: 1,
        };
        let watching = Datapath::open(&options).unwrap();
        let total = |counts: &[Counts]| counts.iter().map(|c| c.total.get()).sum::<u32>();
        wait_until("UDP has expired", || total(watching.memory().counts) == 100);
        let left = watching.connections().unwrap();
        assert!(left.iter().all(|c| c.state == "SYN_RECV"), "{left:?}");
        // An hour passes: deadlines come near instead.
        pass(&watching, 3600);
        wait_until("TCP has expired", || total(watching.memory().counts) == 0);
        let counts = watching.memory().counts;
        assert!(counts.iter().all(|c| c.active.get() == 0));
        assert!(
            watching
                .memory()
                .connections
                .iter()
                .all(|b| b.tags.get() == 0 && b.spilled.get() == 0)
        );
    });
}

/// Have time pass for every connection.
pub(crate) fn pass(datapath: &Datapath, seconds: u32) {
    let memory = datapath.memory();
    let config: &Config = memory.config;
    let ticks = seconds * config.ticks_per_second.get();
    for way in memory.connections.iter().flat_map(|b| &b.ways) {
        way.expires.set(way.expires.get().wrapping_sub(ticks));
    }
}

/// Wait for what the kernel does in its own time: the sweeper, the freeing of maps. On a busy machine the latter
/// has taken more than twenty seconds.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < Duration::from_secs(180),
            "not yet: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Wait for what housekeeping does after a while.
pub(crate) fn wait_until_maintained(datapath: &mut Datapath, is_so: impl Fn(&Datapath) -> bool) {
    let start = Instant::now();
    while !is_so(datapath) {
        assert!(start.elapsed() < Duration::from_secs(60), "not yet");
        datapath.maintain().unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn everything_is_taken_over() {
    in_network(|| {
        let mut before = Director::new(Hook::Xdp);
        assert!(!before.datapath.adopted());
        command_all(&mut before, COMMANDS);
        command_all(
            &mut before,
            &[
                "ipvsadm -A -u 10.0.0.2:53 -s wrr",
                "ipvsadm --set 100 50 20",
            ],
        );
        for port in 5000..5010 {
            let client = format!("10.0.0.100:{port}");
            before.receive(&tcp(&client, VIP, SYN).arrives());
        }
        let seen = |director: &mut Director| {
            let stats = director.command("ipvsadm -Ln --stats");
            let mut connections = director.datapath.connections().unwrap();
            connections.iter_mut().for_each(|c| c.expires = 0);
            let reasons = director.datapath.reasons().unwrap();
            (
                stats,
                director.command("ipvsadm -Ln"),
                connections,
                reasons,
                director.datapath.table(),
            )
        };
        let wanted = seen(&mut before);
        let hop_of = |director: &Director| director.datapath.memory().servers[0].hop.get();
        let hop = hop_of(&before);
        drop(before);
        let mut after = Director::new(Hook::Xdp);
        assert!(after.datapath.adopted());
        assert_eq!(seen(&mut after), wanted);
        assert_eq!(hop_of(&after), hop);
        // Connections go on where they were, new ones where the scheduler stood.
        let old = tcp("10.0.0.100:5000", VIP, ACK);
        let new = tcp("10.0.0.100:6000", VIP, SYN);
        for (request, server) in [(old, "192.168.1.2:80"), (new, "192.168.1.2:80")] {
            let got = after.receive(&request.arrives()).fate;
            assert_eq!(got, Fate::Sent(request.to(server).leaves()));
        }
    });
}

#[test]
fn pins_of_another_layout_are_refused_and_kept() {
    in_network(|| {
        let stale = pins().join("layout-999");
        fs::create_dir_all(&stale).unwrap();
        let options = Options {
            pin_directory: pins(),
            connections: 1,
        };
        match Datapath::open(&options).unwrap_err() {
            Error::StalePins { found, wanted, .. } => {
                assert_eq!((found.as_str(), wanted), ("999", LAYOUT))
            }
            other => panic!("{other}"),
        }
        assert!(stale.is_dir());
    });
}

#[test]
fn removal_leaves_nothing() {
    in_network(|| {
        for hook in [Hook::Tc, Hook::Xdp] {
            let mut director = Director::new(hook);
            command_all(&mut director, COMMANDS);
            let made: Vec<u32> = map_ids();
            assert!(made.len() >= 18, "{made:?}");
            drop(director);
            let removed = Datapath::remove(&pins()).unwrap();
            // Without tcx, before Linux 6.6, tc has filters instead of links.
            let is_attachment =
                |line: &&String| line.contains("/links/") || line.starts_with("tc filter on");
            let attachments = removed.iter().filter(is_attachment).count();
            assert!(attachments >= Wire::ALL.len(), "{removed:?}");
            assert_eq!(files_below(&pins()), Vec::<String>::new());
            // The kernel lets go of programs and maps a little later.
            wait_until("no program is left", || {
                Wire::ALL.iter().all(|wire| xdp_program(*wire) == 0)
            });
            wait_until("its maps are gone", || {
                let left = loaded_maps().filter_map(Result::ok).map(|m| m.id());
                left.into_iter().all(|id| !made.contains(&id))
            });
            // Again: there is nothing to remove.
            assert_eq!(Datapath::remove(&pins()).unwrap(), Vec::<String>::new());
        }
    });
}

/// Kernel ids of the maps that are pinned.
fn map_ids() -> Vec<u32> {
    let folder = pins().join(format!("layout-{LAYOUT}/maps"));
    let pinned = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    pinned
        .map(|path| MapData::from_pin(path).unwrap().info().unwrap().id())
        .collect()
}

fn files_below(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .map(|e| e.unwrap().path().display().to_string())
        .collect()
}

/// Id of the XDP program on a wire's end, 0 for none.
fn xdp_program(wire: Wire) -> u32 {
    crate::netlink::Netlink::open()
        .unwrap()
        .xdp_program(wire.ifindex())
        .unwrap()
}

#[test]
fn processors_that_schedule_at_once_give_exact_shares() {
    const EACH: u32 = 3000;
    in_network(|| {
        let mut director = Director::with_room(Hook::Xdp, 4 * EACH);
        command_all(&mut director, COMMANDS);
        command_all(
            &mut director,
            &["ipvsadm -a -t 10.0.0.1:80 -r 192.168.1.3 -m"],
        );
        let shared = &director;
        std::thread::scope(|threads| {
            for number in 0..2 {
                threads.spawn(move || {
                    let _here = processor::stay_on(number);
                    for port in 0..EACH {
                        let client = format!("10.0.0.{}:{}", 100 + number, 1024 + port);
                        let got = shared.receive(&tcp(&client, VIP, SYN).arrives());
                        assert!(matches!(got.fate, Fate::Sent(_)), "{got:?}");
                    }
                });
            }
        });
        let list = director.command("ipvsadm -Ln");
        let rows: Vec<String> = list.lines().skip(4).map(one_space).collect();
        let share = 2 * EACH / 3;
        let row = |n| format!("-> 192.168.1.{n}:80 Masq 1 {share} 0");
        assert_eq!(rows, [row(1), row(2), row(3)]);
        let stats = director.command("ipvsadm -Ln --stats --exact");
        let rows: Vec<String> = stats.lines().skip(4).map(one_space).collect();
        let row = |n| format!("-> 192.168.1.{n}:80 {share} {share} 0 {} 0", 48 * share);
        assert_eq!(rows, [row(1), row(2), row(3)]);
        assert_eq!(director.reasons(), []);
    });
}

#[test]
fn a_full_table_refuses_and_puts_half_open_connections_out_first() {
    in_network(|| {
        let mut director = Director::new(Hook::Xdp);
        command_all(&mut director, COMMANDS);
        let room = 4 * director.datapath.memory().connections.len() as u32;
        let client =
            |number: u32| format!("10.0.0.{}:{}", 100 + number / 1000, 1024 + number % 1000);
        // The server that a new connection goes to, unless it is refused.
        let opens = |director: &Director, number| {
            let syn = tcp(&client(number), VIP, SYN).arrives();
            match director.receive(&syn).fate {
                Fate::Sent(frame) => Some(format!("192.168.1.{}:80", frame[14 + 19])),
                _ => None,
            }
        };
        let counted = |director: &Director, wanted| {
            let reasons = director.reasons();
            let found = reasons.iter().find(|(reason, _)| *reason == wanted);
            found.map_or(0, |(_, count)| *count as u32)
        };
        // Half-open ones to the brim and beyond: none is refused.
        let flood = room + room / 2;
        for number in 0..flood {
            let is_open = opens(&director, number).is_some();
            assert!(is_open, "number {number}: {:?}", director.reasons());
        }
        let evicted = counted(&director, Reason::HalfOpenEvicted);
        let in_table = director.datapath.connections().unwrap().len() as u32;
        assert_eq!(in_table + evicted, flood);
        assert!(in_table > room * 9 / 10, "{in_table} of {room}");
        // Established ones take their places, until there is none left.
        let mut refused = 0;
        let mut established = 0;
        for number in flood..flood + 2 * room {
            let client = client(number);
            let Some(server) = opens(&director, number) else {
                refused += 1;
                continue;
            };
            established += 1;
            let answer = tcp(&server, &client, SYN | ACK);
            for packet in [answer, tcp(&client, VIP, ACK)] {
                let fate = director.receive(&packet.arrives()).fate;
                assert!(matches!(fate, Fate::Sent(_)), "{fate:?}");
            }
        }
        assert_eq!(counted(&director, Reason::TableFull), refused);
        assert!(established > room * 9 / 10, "{established} of {room}");
        let states = director.datapath.connections().unwrap();
        let kept = states.iter().filter(|c| c.state == "ESTABLISHED");
        assert_eq!(kept.count() as u32, established);
        let counts = director.datapath.memory().counts;
        let total: u32 = counts.iter().map(|c| c.total.get()).sum();
        let active: u32 = counts.iter().map(|c| c.active.get()).sum();
        assert_eq!((total, active), (states.len() as u32, states.len() as u32));
    });
}
