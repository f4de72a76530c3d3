//! Recordings of the real IPVS, played again through the kernel object. They are the engine's; its
//! `tests/golden/README.md` says what they are and what is compared.
//!
//! Not played: scenarios with a scheduler or a forwarding method that this data plane does not have.

#[path = "../../../engine/tests/recordings/differences.rs"]
mod differences;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Instant,
};

use differences::Difference;
use furiwake_engine::{host::Hook, sweep, tables::ticks};
use serde_json::Value;

use crate::{
    director::{Director, Fate, Incoming},
    life::{pass, wait_until},
    network::{Wire, in_network, mac_of},
    packet::{ACK, Datagram, FIN, SYN, checksum, frame, tcp, udp},
    row::one_space,
};

const FILES: &[(&str, &str)] = &[
    (
        "packets",
        include_str!("../../../engine/tests/golden/packets.jsonl"),
    ),
    (
        "icmp",
        include_str!("../../../engine/tests/golden/icmp.jsonl"),
    ),
    (
        "states",
        include_str!("../../../engine/tests/golden/states.jsonl"),
    ),
    (
        "quiesce",
        include_str!("../../../engine/tests/golden/quiesce.jsonl"),
    ),
    (
        "others",
        include_str!("../../../engine/tests/golden/others.jsonl"),
    ),
    (
        "schedulers",
        include_str!("../../../engine/tests/golden/schedulers.jsonl"),
    ),
];

#[test]
fn the_kernel_object_does_as_recorded_at_xdp() {
    play(Hook::Xdp);
}

#[test]
fn the_kernel_object_does_as_recorded_at_tc() {
    play(Hook::Tc);
}

fn play(hook: Hook) {
    in_network(move || {
        let mut director = Director::new(hook);
        let (mut played, mut failures) = (0, Vec::new());
        // The first line of each says what made the recordings.
        let lines = FILES.iter().flat_map(|(file, text)| {
            let lines = text.lines().skip(1);
            lines.map(move |line| (*file, serde_json::from_str::<Value>(line).unwrap()))
        });
        for (file, recording) in lines.filter(|(_, recording)| is_played(recording)) {
            director.reset(hook);
            director.command("ipvsadm --set 900 120 300");
            played += 1;
            let start = Instant::now();
            let scenario = recording["scenario"].as_str().unwrap();
            for (number, step) in recording["steps"].as_array().unwrap().iter().enumerate() {
                director.forget_reasons();
                if let Err(problem) = take(&mut director, step, start)
                    && !is_listed(&director, scenario, number, &problem)
                {
                    failures.push(format!(
                        "{hook:?}, {file}: {scenario}, step {number} {step}\n  {problem:?}"
                    ));
                }
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(played > 50, "{played}");
    });
}

/// Whether a recording asks only for what there is.
fn is_played(recording: &Value) -> bool {
    let mut commands = recording["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["cmd"].as_str());
    commands.all(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let scheduler = words
            .iter()
            .position(|w| *w == "-s")
            .map(|at| words[at + 1]);
        let is_service = words.get(1) == Some(&"-A");
        let has_scheduler = match scheduler {
            Some(name) => matches!(name, "rr" | "wrr"),
            None => !is_service,
        };
        has_scheduler && !words.contains(&"-g") && !words.contains(&"-i")
    })
}

/// What was not as recorded.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// The recorded director did something; ours left the packet to the host.
    LeftToHost,
    Differs {
        wanted: Vec<String>,
        got: Vec<String>,
    },
}

fn is_listed(director: &Director, scenario: &str, number: usize, problem: &Problem) -> bool {
    let is_it = |difference: &&Difference| {
        difference.scenario == scenario
            && difference.step == number
            && director.reasons() == [(difference.reason, 1)]
    };
    *problem == Problem::LeftToHost && differences::ALL.iter().any(|d| is_it(&d))
}

fn take(director: &mut Director, step: &Value, start: Instant) -> Result<(), Problem> {
    if let Some(line) = step["cmd"].as_str() {
        // Settings hold with ours; the scenarios were chosen so. IPv6 is not balanced.
        if !line.starts_with("ipvsadm") || line.contains('[') {
            return Ok(());
        }
        let printed = director.command(line);
        let slack = 2 + start.elapsed().as_secs() as u32;
        return same_text(line, step["out"].as_str().unwrap(), &printed, slack);
    }
    if let Some(seconds) = step["sleep"].as_u64() {
        pass(&director.datapath, seconds as u32);
        wait_until("the sweeper has been round", || !has_expired(director));
        return Ok(());
    }
    if let Some(wire) = step["send"].as_str() {
        let wire = if wire == "front" {
            Wire::Front
        } else {
            Wire::Back
        };
        return send_and_compare(director, wire, step);
    }
    for (kind, is_tcp) in [("tcp", true), ("udp", false)] {
        if let Some(how) = step[kind].as_str() {
            return connect_all(director, is_tcp, how, step);
        }
    }
    Ok(())
}

fn has_expired(director: &Director) -> bool {
    let memory = director.datapath.memory();
    let now = ticks(director.datapath.jiffies().unwrap(), memory.config);
    memory.connections.iter().any(|bucket| {
        let tags = bucket.tags.get();
        let mut ways = bucket.ways.iter().enumerate();
        ways.any(|(lane, way)| {
            tags >> (16 * lane) & 0xffff > 1 && sweep::is_over(way.expires.get(), now)
        })
    })
}

fn send_and_compare(director: &Director, wire: Wire, step: &Value) -> Result<(), Problem> {
    let packet = bytes_of(step["hex"].as_str().unwrap());
    let seen = step["seen"].as_array().unwrap().iter();
    let wanted: Vec<String> = seen
        .map(|seen| {
            let wire = if seen["wire"] == "front" {
                Wire::Front
            } else {
                Wire::Back
            };
            let to = seen["to"].as_str().unwrap().parse();
            let to = to.map_or([0; 6], |to: Ipv4Addr| mac_of(to));
            described(&frame(
                to,
                wire.mac(),
                &bytes_of(seen["hex"].as_str().unwrap()),
            ))
        })
        .collect();
    let got = match receive(director, wire, &packet) {
        Fate::Sent(frame) => vec![described(&frame)],
        Fate::Dropped => Vec::new(),
        Fate::Passed if wanted.is_empty() => Vec::new(),
        Fate::Passed => return Err(Problem::LeftToHost),
        other => panic!("{other:?} is not expected here"),
    };
    same(wanted, got)
}

fn receive(director: &Director, wire: Wire, packet: &[u8]) -> Fate {
    let mut frame = frame(wire.mac(), [2, 4, 0, 0, 0, 9], packet);
    if packet[0] >> 4 == 6 {
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    }
    let incoming = Incoming {
        wire,
        frame,
        segment_size: None,
    };
    director.receive(&incoming).fate
}

/// A frame as text. Errors that the director makes itself have an identification of its own choice, so that
/// and the header checksum are left out.
fn described(frame: &[u8]) -> String {
    let mut frame = frame.to_vec();
    let ip = &mut frame[14..];
    if ip[..2] == [0x45, 0xc0] && ip[9] == 1 {
        assert_eq!(checksum(&ip[..20]), 0);
        ip[4..6].fill(0);
        ip[10..12].fill(0);
    }
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn connect_all(director: &Director, is_tcp: bool, how: &str, step: &Value) -> Result<(), Problem> {
    let connections = step["connections"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let wanted = connections.iter().map(|c| text(&c[2])).collect();
    let got = connections
        .iter()
        .map(|c| connect(director, is_tcp, how, &text(&c[0]), &text(&c[1])))
        .collect();
    same(wanted, got)
}

/// Make a connection; gives the server's address, or the answer that came instead.
fn connect(director: &Director, is_tcp: bool, how: &str, client: &str, service: &str) -> String {
    let packet = |source: &str, destination: &str, flags| -> Datagram {
        match is_tcp {
            true => tcp(source, destination, flags),
            false => udp(source, destination),
        }
    };
    let request = |flags| packet(client, service, flags);
    let sent = match director.receive(&request(SYN).arrives()).fate {
        Fate::Sent(frame) => frame,
        Fate::Dropped => return "nothing".to_owned(),
        other => return format!("{other:?}"),
    };
    let ip = &sent[14..];
    if ip[9] == 1 {
        return format!("ICMP {}/{}", ip[20], ip[21]);
    }
    let address = Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]);
    let server = SocketAddrV4::new(address, u16::from_be_bytes([ip[22], ip[23]])).to_string();
    assert_eq!(sent, request(SYN).to(&server).leaves());
    let reply = |flags| packet(&server, client, flags);
    let pass = |datagram: Datagram| {
        let fate = director.receive(&datagram.arrives()).fate;
        assert!(matches!(fate, Fate::Sent(_)), "{fate:?}");
    };
    if how == "hold" || how == "close" {
        pass(reply(SYN | ACK));
        pass(request(ACK));
    }
    if how == "close" {
        pass(request(FIN | ACK));
        pass(reply(FIN | ACK));
        pass(request(ACK));
    }
    address.to_string()
}

/// Compare a listing, words apart by one space, without its head. Seconds may be off by `slack`.
fn same_text(command: &str, recorded: &str, printed: &str, slack: u32) -> Result<(), Problem> {
    let rows = |text: &str| {
        let rows = text.lines().map(one_space);
        let is_row = |row: &String| {
            ["TCP ", "UDP ", "-> "]
                .iter()
                .any(|kind| row.starts_with(kind))
                && !row.starts_with("-> RemoteAddress")
                && !row.contains('[')
        };
        // The recorded kernel looks at long timers late: an entry that is over stays for a while, at 00:00.
        let is_over = |row: &String| command == "ipvsadm -Lnc" && row.contains(" 00:00 ");
        let mut rows: Vec<String> = rows.filter(|row| is_row(row) && !is_over(row)).collect();
        rows.sort_by_key(|row| without_seconds(row).0);
        rows
    };
    let (wanted, got) = (rows(recorded), rows(printed));
    let is_same = |(wanted, got): (&String, &String)| {
        let (wanted, got) = (without_seconds(wanted), without_seconds(got));
        wanted.0 == got.0 && wanted.1.abs_diff(got.1) <= slack
    };
    if wanted.len() == got.len() && wanted.iter().zip(&got).all(is_same) {
        Ok(())
    } else {
        Err(Problem::Differs { wanted, got })
    }
}

/// A row without the time that is left, and that in seconds; rows of other lists as they are.
fn without_seconds(row: &str) -> (String, u32) {
    let mut words: Vec<&str> = row.split(' ').collect();
    let time = words.get(1).and_then(|word| word.split_once(':'));
    let time = time.and_then(|(minutes, seconds)| {
        Some(minutes.parse::<u32>().ok()? * 60 + seconds.parse::<u32>().ok()?)
    });
    if let Some(time) = time {
        words.remove(1);
        return (words.join(" "), time);
    }
    (row.to_owned(), 0)
}

fn same(wanted: Vec<String>, got: Vec<String>) -> Result<(), Problem> {
    if wanted == got {
        Ok(())
    } else {
        Err(Problem::Differs { wanted, got })
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}
