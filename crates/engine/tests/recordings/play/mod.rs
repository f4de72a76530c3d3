//! Plays recordings of the real IPVS on a director, and compares every packet, listing and choice.
//!
//! The player knows neither the engine nor the kernel object: it has a [`Director`], which is one of them with ipvsadm,
//! settings and two wires. What the director leaves to its host's own stack, [`host`] does.

mod connections;
mod differences;
mod host;
mod packet;
mod recordings;
mod skipped;
mod text;
mod wire;

use std::collections::HashMap;

pub(crate) use differences::Difference;
pub(crate) use recordings::{FILES, Recording};
pub(crate) use wire::{Seen, Wire, mac_of};

use connections::Open;
use host::Host;
use packet::{Fragment, described};
use serde_json::Value;

/// The director under test.
pub(crate) trait Director {
    /// Begin anew: no services, no connections, settings as at first.
    fn reset(&mut self);

    /// Carry out a command line of ipvsadm; gives what it prints to standard output and its exit code.
    fn ipvsadm(&mut self, line: &str) -> (String, u8);

    /// Set a setting as `sysctl -w net.ipv4.vs.NAME=VALUE` does.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String>;

    /// The value of a setting, as text.
    fn setting(&mut self, name: &str) -> String;

    /// Change the largest packet that a wire takes.
    fn set_mtu(&mut self, wire: Wire, mtu: u16);

    /// Let seconds pass.
    fn pass(&mut self, seconds: u32);

    /// What becomes of an IP packet that comes in by a wire.
    fn receive(&mut self, wire: Wire, packet: &[u8]) -> Fate;

    /// By how many seconds times may differ from the recorded ones.
    fn slack(&self) -> u32;
}

/// What became of a packet.
#[derive(Debug)]
pub(crate) enum Fate {
    /// Out of interfaces, one after the other.
    Sent(Vec<Seen>),
    /// To the host's own stack: this is how it gets it.
    Host(Vec<u8>),
    /// Nowhere.
    Dropped,
}

/// What was not as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Number of the step, from zero.
    pub(crate) step: usize,
    what: String,
    wanted: Vec<String>,
    got: Vec<String>,
}

/// Most lines of each kind that a failure shows.
const SHOWN: usize = 8;

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "  step {}: {}", self.step, self.what)?;
        let mut show = |title, lines: &[String], others: &[String]| {
            // What is the same in both says nothing.
            let mut lines = lines.iter().filter(|line| !others.contains(line));
            lines
                .by_ref()
                .take(SHOWN)
                .try_for_each(|line| writeln!(f, "    {title}: {line}"))?;
            match lines.count() {
                0 => Ok(()),
                more => writeln!(f, "    {title}: {more} more"),
            }
        };
        show("wanted", &self.wanted, &self.got)?;
        show("   got", &self.got, &self.wanted)
    }
}

/// Play every recording of a file. Gives what was not as recorded and is not listed, and what is listed and was as
/// recorded all the same.
pub(crate) fn play_all<D: Director>(file: &str, director: &mut D) -> Vec<String> {
    let mut complaints = unknown_names(file);
    for recording in Recording::all(file) {
        let name = format!("{file}: {}", recording.scenario);
        director.reset();
        let failures = play(&recording, director);
        let is_skipped = skipped::reason(file, &recording.scenario).is_some();
        if is_skipped && failures.is_empty() {
            complaints.push(format!("{name}: is listed as skipped, and passes"));
        }
        if is_skipped {
            continue;
        }
        let listed: Vec<&Difference> = differences::of(file, &recording.scenario).collect();
        for difference in &listed {
            if !failures
                .iter()
                .any(|failure| failure.step == difference.step)
            {
                complaints.push(format!(
                    "{name}, step {}: is listed as different, and is not",
                    difference.step
                ));
            }
        }
        let is_listed = |failure: &Failure| listed.iter().any(|d| d.step == failure.step);
        let unlisted = failures.iter().filter(|failure| !is_listed(failure));
        let unlisted: String = unlisted.map(Failure::to_string).collect();
        if !unlisted.is_empty() {
            complaints.push(format!("{name}\n{unlisted}"));
        }
    }
    complaints
}

/// Names in the lists that are no recording's of a file.
fn unknown_names(file: &str) -> Vec<String> {
    let known: Vec<String> = Recording::all(file)
        .map(|recording| recording.scenario)
        .collect();
    let skipped = skipped::ALL.iter().map(|s| (s.file, s.scenario));
    let differences = differences::ALL.iter().map(|d| (d.file, d.scenario));
    skipped
        .chain(differences)
        .filter(|(of, scenario)| *of == file && !known.iter().any(|name| name == scenario))
        .map(|(_, scenario)| format!("{file}: {scenario}: there is no such recording"))
        .collect()
}

/// Play one recording; gives what was not as recorded.
fn play<D: Director>(recording: &Recording, director: &mut D) -> Vec<Failure> {
    let mut player = Player {
        director,
        host: Host::default(),
        open: HashMap::new(),
        service: None,
        fragments: (Vec::new(), Vec::new()),
    };
    let mut failures = Vec::new();
    for (number, step) in recording.steps.iter().enumerate() {
        if let Err(Mismatch { wanted, got }) = player.step(step) {
            let what = ["cmd", "note", "packet", "hex", "sleep", "tcp", "udp"]
                .iter()
                .find(|key| !step[**key].is_null())
                .map_or_else(|| step.to_string(), |key| step[*key].to_string());
            failures.push(Failure {
                step: number,
                what,
                wanted,
                got,
            });
        }
    }
    failures
}

/// Recorded and played, as lines.
struct Mismatch {
    wanted: Vec<String>,
    got: Vec<String>,
}

impl Mismatch {
    fn of(wanted: Vec<String>, got: Vec<String>) -> Result<(), Self> {
        if wanted == got {
            Ok(())
        } else {
            Err(Self { wanted, got })
        }
    }

    fn because(got: impl Into<String>) -> Self {
        Self {
            wanted: Vec::new(),
            got: vec![got.into()],
        }
    }
}

struct Player<'a, D> {
    director: &'a mut D,
    host: Host,
    /// Connections that were made, by their client's end.
    open: HashMap<String, Open>,
    /// The service that the latest command was about: address and port, as ipvsadm has it.
    service: Option<String>,
    /// What was recorded and played since the first fragment of a datagram, until the last one is there: the recorded
    /// director puts it together, ours sends each by itself.
    fragments: (Vec<String>, Vec<String>),
}

impl<D: Director> Player<'_, D> {
    fn step(&mut self, step: &Value) -> Result<(), Mismatch> {
        if let Some(line) = step["cmd"].as_str() {
            return self.command(line, step);
        }
        if let Some(seconds) = step["sleep"].as_u64() {
            self.director.pass(seconds as u32);
            return match step["seen"].as_array() {
                Some(seen) => Mismatch::of(seen.iter().map(recorded).collect(), Vec::new()),
                None => Ok(()),
            };
        }
        if let Some(wire) = step["send"].as_str() {
            return self.send_and_compare(Wire::named(wire), step);
        }
        if !step["connections"].is_null() {
            return self.connect_all(step);
        }
        if step["close"].is_array() {
            return self.close_all(step);
        }
        match step["note"].as_str() {
            Some(note) => self.noted(note, step),
            None => Err(Mismatch::because("a step that is not understood")),
        }
    }

    fn command(&mut self, line: &str, step: &Value) -> Result<(), Mismatch> {
        let recorded = step["out"].as_str().unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // IPv6 is not balanced; the listings are compared without.
            ["ipvsadm", ..] if line.contains('[') => Ok(()),
            ["ipvsadm", ..] => {
                if let ["ipvsadm", "-A" | "-a", "-t" | "-u", service, ..] = words[..] {
                    self.service = Some(service.to_owned());
                }
                let (printed, code) = self.director.ipvsadm(line);
                if step["rc"].as_u64() != Some(code.into()) {
                    return Err(Mismatch::because(format!("exit code {code}: {printed}")));
                }
                text::compare(recorded, &printed, self.director.slack())
            }
            ["echo", value, to] if to.starts_with(">/proc/sys/net/ipv4/vs/") => {
                let name = to.rsplit('/').next().unwrap();
                let done = self.director.set(name, value);
                done.map_err(Mismatch::because)
            }
            ["cat", file] if file.starts_with("/proc/sys/net/ipv4/vs/") => {
                let name = file.rsplit('/').next().unwrap();
                let wanted = vec![recorded.trim_end().to_owned()];
                Mismatch::of(wanted, vec![self.director.setting(name)])
            }
            ["ip", "link", "set", wire, "mtu", mtu] => {
                let (wire, mtu) = (Wire::named(wire), mtu.parse().unwrap());
                self.host.set_mtu(wire, mtu);
                self.director.set_mtu(wire, mtu);
                Ok(())
            }
            ["ip", "route", "add", address, "dev", wire] if !address.contains('/') => {
                self.host
                    .add_route(address.parse().unwrap(), Wire::named(wire));
                Ok(())
            }
            ["ip", "neighbour", "add", address, "lladdr", mac, "dev", _] => {
                self.host
                    .add_neighbour(address.parse().unwrap(), wire::mac_from(mac));
                Ok(())
            }
            _ => Err(Mismatch::because("a command that is not understood")),
        }
    }

    fn send_and_compare(&mut self, wire: Wire, step: &Value) -> Result<(), Mismatch> {
        let packet = packet::from_hex(step["hex"].as_str().unwrap());
        let mut wanted: Vec<String> = match step["seen"].as_array() {
            Some(seen) => seen.iter().map(recorded).collect(),
            None => return Err(Mismatch::because("a step that is not understood")),
        };
        let mut got: Vec<String> = self.send(wire, &packet).iter().map(described).collect();
        let fragment = Fragment::of(&packet);
        if fragment != Fragment::None {
            self.fragments.0.append(&mut wanted);
            self.fragments.1.append(&mut got);
            if fragment == Fragment::More {
                return Ok(());
            }
            (wanted, got) = std::mem::take(&mut self.fragments);
        }
        Mismatch::of(wanted, got)
    }

    /// What leaves when an IP packet comes in.
    fn send(&mut self, wire: Wire, packet: &[u8]) -> Vec<Seen> {
        match self.director.receive(wire, packet) {
            Fate::Sent(seen) => seen,
            Fate::Host(packet) => self.host.receive(wire, &packet),
            Fate::Dropped => Vec::new(),
        }
    }
}

/// A packet of a recording as text.
fn recorded(seen: &Value) -> String {
    let to = seen["to"].as_str().unwrap();
    let to = match to.parse() {
        Ok(address) => wire::mac_of(address),
        Err(_) => wire::mac_from(to),
    };
    described(&Seen {
        wire: Wire::named(seen["wire"].as_str().unwrap()),
        to,
        packet: packet::from_hex(seen["hex"].as_str().unwrap()),
    })
}
