//! Plays the steps of a recording and compares what happens.

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_engine::{
    checksum::{fold, pseudo_header, sum},
    host::{self, Hook},
    packet::{ETH, TCP, UDP},
    pipeline::Verdict,
    reason::Reason,
    state::{ACK, FIN, SYN},
};
use serde_json::Value;

use crate::{
    differences::{self, Difference},
    director::{BACK, Director, FRONT, mac_of, mac_of_wire},
};

/// Play every recording of a file on a hook; gives the differences that were met.
pub(crate) fn play(file: &str, text: &str, hook: Hook) -> Vec<Difference> {
    let mut met = Vec::new();
    let mut failures = Vec::new();
    // The first line says what made the recordings.
    for line in text.lines().skip(1) {
        let recording: Value = serde_json::from_str(line).unwrap();
        let scenario = recording["scenario"].as_str().unwrap();
        let mut player = Player {
            director: Director::new(),
            hook,
        };
        for (number, step) in recording["steps"].as_array().unwrap().iter().enumerate() {
            let Err(problem) = player.step(step) else {
                continue;
            };
            let listed = differences::ALL.iter().find(|difference| {
                difference.scenario == scenario
                    && difference.step == number
                    && problem == Problem::LeftToHost(difference.reason)
            });
            match listed {
                Some(difference) => met.push(*difference),
                None => failures.push(format!("{scenario}, step {number} {step}\n  {problem:?}")),
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{file} on {hook:?}:\n{}",
        failures.join("\n")
    );
    met
}

/// What was not as recorded.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// The director was seen to do something; ours left the packet to the host.
    LeftToHost(Reason),
    /// Other packets or another text.
    Differs {
        wanted: Vec<String>,
        got: Vec<String>,
    },
}

struct Player {
    director: Director,
    hook: Hook,
}

/// A packet on a wire.
struct Seen {
    ifindex: u32,
    to: [u8; 6],
    bytes: Vec<u8>,
}

impl Player {
    fn step(&mut self, step: &Value) -> Result<(), Problem> {
        if let Some(line) = step["cmd"].as_str() {
            return match self.director.command(line) {
                Some(rows) => same_text(line, step["out"].as_str().unwrap(), rows),
                None => Ok(()),
            };
        }
        if let Some(seconds) = step["sleep"].as_u64() {
            self.director.tables.advance_ms(seconds * 1000);
            self.director.tables.sweep();
            return Ok(());
        }
        if let Some(wire) = step["send"].as_str() {
            let ifindex = if wire == "front" { FRONT } else { BACK };
            return self.send_and_compare(ifindex, step);
        }
        for (kind, protocol) in [("tcp", TCP), ("udp", UDP)] {
            if let Some(how) = step[kind].as_str() {
                let connections = step["connections"].as_array().unwrap();
                return self.connect_all(protocol, how, connections);
            }
        }
        Ok(())
    }

    fn send_and_compare(&mut self, ifindex: u32, step: &Value) -> Result<(), Problem> {
        let packet = bytes_of(step["hex"].as_str().unwrap());
        let wanted: Vec<String> = step["seen"]
            .as_array()
            .unwrap()
            .iter()
            .map(|seen| {
                let wire = if seen["wire"] == "front" { FRONT } else { BACK };
                let to = seen["to"].as_str().unwrap().parse().map_or([0; 6], mac_of);
                let bytes = bytes_of(seen["hex"].as_str().unwrap());
                described(wire, to, &bytes)
            })
            .collect();
        let got = match self.send(ifindex, &packet) {
            Ok(seen) => seen
                .iter()
                .map(|seen| described(seen.ifindex, seen.to, &seen.bytes))
                .collect(),
            // The host does not answer either.
            Err(_) if wanted.is_empty() => return Ok(()),
            Err(reason) => return Err(Problem::LeftToHost(reason)),
        };
        if wanted == got {
            Ok(())
        } else {
            Err(Problem::Differs { wanted, got })
        }
    }

    /// What the director sends when an IP packet comes in; an error when it is left to the host.
    fn send(&mut self, ifindex: u32, packet: &[u8]) -> Result<Option<Seen>, Reason> {
        let mut frame = Vec::from(mac_of_wire(ifindex));
        frame.extend([2, 4, 0, 0, 0, 9]);
        frame.extend(if packet[0] >> 4 == 6 {
            [0x86, 0xdd]
        } else {
            [8, 0]
        });
        frame.extend(packet);
        let outcome = host::run(self.hook, &self.director.tables, ifindex, &frame);
        match outcome.verdict {
            Verdict::Redirect(ifindex) => {
                assert_eq!(outcome.bytes[6..12], mac_of_wire(ifindex));
                Ok(Some(Seen {
                    ifindex,
                    to: outcome.bytes[..6].try_into().unwrap(),
                    bytes: outcome.bytes[ETH..].to_vec(),
                }))
            }
            Verdict::Drop(_) => Ok(None),
            Verdict::Pass(reason) => {
                assert_eq!(outcome.bytes, frame, "passed, but changed");
                Err(reason)
            }
            other => panic!("{other:?} is not expected here"),
        }
    }

    fn connect_all(
        &mut self,
        protocol: u8,
        how: &str,
        connections: &[Value],
    ) -> Result<(), Problem> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let wanted = connections.iter().map(|c| text(&c[2])).collect();
        let got = connections
            .iter()
            .map(|c| {
                let client = text(&c[0]).parse().unwrap();
                let service = text(&c[1]).parse().unwrap();
                if self.director.is_dictated(service, protocol) {
                    let server = text(&c[2]).parse().unwrap();
                    self.director.dictate(service, protocol, server);
                }
                self.connect(protocol, how, client, service)
            })
            .collect();
        if wanted == got {
            Ok(())
        } else {
            Err(Problem::Differs { wanted, got })
        }
    }

    /// Make a connection; gives the server's address, or the answer that came instead.
    fn connect(
        &mut self,
        protocol: u8,
        how: &str,
        client: SocketAddrV4,
        service: SocketAddrV4,
    ) -> String {
        let request = |flags| packet(protocol, client, service, flags);
        let first = match self.send(FRONT, &request(SYN)) {
            Ok(Some(seen)) => seen,
            Ok(None) => return "nothing".into(),
            Err(reason) => return format!("{reason:?}"),
        };
        if first.bytes[9] == 1 {
            return format!("ICMP {}/{}", first.bytes[20], first.bytes[21]);
        }
        let server = end_at(&first.bytes, 16, 22);
        assert_eq!((first.ifindex, first.to), (BACK, mac_of(*server.ip())));
        let reply = |flags| packet(protocol, server, client, flags);
        let mut pass = |ifindex, packet: &[u8]| {
            assert!(self.send(ifindex, packet).unwrap().is_some());
        };
        if how == "hold" || how == "close" {
            pass(BACK, &reply(SYN | ACK));
            pass(FRONT, &request(ACK));
        }
        if how == "close" {
            pass(FRONT, &request(FIN | ACK));
            pass(BACK, &reply(FIN | ACK));
            pass(FRONT, &request(ACK));
        }
        server.ip().to_string()
    }
}

/// Compare a listing, words apart by one space. Seconds may be off by one.
fn same_text(command: &str, recorded: &str, mut got: Vec<String>) -> Result<(), Problem> {
    let connections = command == "ipvsadm -Lnc";
    let rows = recorded.lines().map(|row| {
        let words: Vec<_> = row.split_whitespace().collect();
        words.join(" ")
    });
    let is_row = |row: &String| {
        ["TCP ", "UDP ", "-> "]
            .iter()
            .any(|kind| row.starts_with(kind))
            && !row.starts_with("-> RemoteAddress")
            && !row.contains('[')
    };
    // The recorded kernel looks at long timers late: an entry that is over stays for a while, at 00:00. Ours is gone.
    let is_over = |row: &String| connections && row.contains(" 00:00 ");
    let mut wanted: Vec<String> = rows.filter(|row| is_row(row) && !is_over(row)).collect();
    wanted.sort();
    got.sort();
    let same = wanted.len() == got.len()
        && wanted
            .iter()
            .zip(&got)
            .all(|(wanted, got)| wanted == got || (connections && is_within_a_second(wanted, got)));
    if same {
        Ok(())
    } else {
        Err(Problem::Differs { wanted, got })
    }
}

fn is_within_a_second(wanted: &str, got: &str) -> bool {
    let parts = |row: &str| {
        let words: Vec<String> = row.split(' ').map(String::from).collect();
        let (minutes, seconds) = words[1].split_once(':').unwrap();
        let seconds = minutes.parse::<i32>().unwrap() * 60 + seconds.parse::<i32>().unwrap();
        (seconds, words[0].clone(), words[2..].to_vec())
    };
    let (wanted, got) = (parts(wanted), parts(got));
    (wanted.0 - got.0).abs() <= 1 && wanted.1 == got.1 && wanted.2 == got.2
}

/// A packet of a connection as one text. Errors that the director makes itself have an identification of its
/// own choice, so that and the header checksum are left out.
fn described(ifindex: u32, to: [u8; 6], bytes: &[u8]) -> String {
    let mut bytes = bytes.to_vec();
    let is_own = bytes[..2] == [0x45, 0xc0] && bytes[9] == 1;
    if is_own {
        assert_eq!(fold(sum(&bytes[..20])), 0xffff);
        bytes[4..6].fill(0);
        bytes[10..12].fill(0);
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{ifindex} {to:02x?} {hex}")
}

/// A packet with valid checksums.
fn packet(protocol: u8, source: SocketAddrV4, destination: SocketAddrV4, flags: u8) -> Vec<u8> {
    let mut l4 = [
        source.port().to_be_bytes(),
        destination.port().to_be_bytes(),
    ]
    .concat();
    if protocol == TCP {
        l4.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    } else {
        l4.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    }
    let word = |a: &Ipv4Addr| u32::from_ne_bytes(a.octets());
    let pseudo = pseudo_header(
        word(source.ip()),
        word(destination.ip()),
        protocol,
        l4.len() as u16,
    );
    let checksum = !fold(fold(sum(&l4)) as u64 + pseudo);
    let at = if protocol == TCP { 16 } else { 6 };
    l4[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
    let mut ip = vec![
        0x45,
        0,
        0,
        20 + l4.len() as u8,
        0x12,
        0x34,
        0x40,
        0,
        64,
        protocol,
        0,
        0,
    ];
    ip.extend(source.ip().octets());
    ip.extend(destination.ip().octets());
    let checksum = !fold(sum(&ip));
    ip[10..12].copy_from_slice(&checksum.to_ne_bytes());
    ip.extend(l4);
    ip
}

fn end_at(bytes: &[u8], address: usize, port: usize) -> SocketAddrV4 {
    let octets: [u8; 4] = bytes[address..address + 4].try_into().unwrap();
    SocketAddrV4::new(
        octets.into(),
        u16::from_be_bytes([bytes[port], bytes[port + 1]]),
    )
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}
