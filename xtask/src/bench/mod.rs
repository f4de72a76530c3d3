//! `cargo xtask bench`: how fast the director is, next to what people use instead.
//!
//! Every row is measured in rounds, one sample of every director in turn, so that whatever else the machine
//! does meanwhile meets all of them. Ratios are taken within a round.

mod bed;
mod bulk;
mod director;
mod exercise;
mod http;
mod machine;
mod memory;
mod packet;
mod processor;
mod rate;
mod source;
mod table;
mod tool;

use std::{
    fs,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::{Command, ExitCode},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SigSet, Signal};
use serde_json::json;

use crate::kernel_object::Workspace;
use machine::Machine;
use table::{Row, Section};

/// What can be asked for.
pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [GROUP]... [--quick] [--json FILE] [--program FILE]

groups (all of them unless some are named)
  packet           nanoseconds per packet
  rate             small packets per second through namespaces
  http             new HTTP connections per second
  bulk             bulk TCP
  memory           what a million connections take

options
  --quick          fewer and shorter rounds: under two minutes, and a wider spread
  --json FILE      write the results there as JSON, too
  --program FILE   a furiwake that is built already

Needs root. The exit status is 1 when a target is missed.";

/// A group of sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Packet,
    Rate,
    Http,
    Bulk,
    Memory,
}

const GROUPS: [(&str, Group); 5] = [
    ("packet", Group::Packet),
    ("rate", Group::Rate),
    ("http", Group::Http),
    ("bulk", Group::Bulk),
    ("memory", Group::Memory),
];

/// The command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    groups: Vec<Group>,
    quick: bool,
    json: Option<PathBuf>,
    program: Option<PathBuf>,
    help: bool,
}

/// How to measure.
pub(crate) struct Setting {
    /// Compiled programs of the benchmark.
    objects: PathBuf,
    /// Our director.
    furiwake: PathBuf,
    quick: bool,
    labs: AtomicUsize,
}

/// Measures what the words ask for.
pub(crate) fn run(words: &[&str], workspace: &Workspace) -> Result<ExitCode> {
    let arguments = Arguments::parse(words)?;
    if arguments.help {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    furiwake_lab::require_root()?;
    require_tools(&arguments)?;
    leave_nothing_on_a_signal()?;
    let started = Instant::now();
    let machine = Machine::this();
    let objects = workspace.target.join("bench");
    tool::compile(&workspace.root.join("xtask/bench"), &objects)?;
    let furiwake = match &arguments.program {
        Some(program) => program.clone(),
        None => build_furiwake(workspace)?,
    };
    processor::go_ahead()?;
    let setting = Setting {
        objects,
        furiwake,
        quick: arguments.quick,
        labs: AtomicUsize::new(0),
    };

    println!("{machine}\n");
    let mut sections = Vec::new();
    for (_, group) in GROUPS
        .iter()
        .filter(|(_, group)| arguments.asks_for(*group))
    {
        let measured = setting.measure(*group);
        setting.tell("");
        for section in measured? {
            println!("{}", section.text());
            sections.push(section);
        }
    }
    println!("took {} s", started.elapsed().as_secs());
    if let Some(file) = &arguments.json {
        let document = json!({ "schema_version": 1, "machine": machine, "sections": sections });
        fs::write(file, serde_json::to_string_pretty(&document)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(if sections.iter().all(Section::passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Arguments {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut arguments = Self::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut file = || -> Result<PathBuf> {
                let file = words
                    .next()
                    .with_context(|| format!("{word} needs a file\n\n{USAGE}"))?;
                Ok(std::path::absolute(file)?)
            };
            match word {
                "--quick" => arguments.quick = true,
                "--json" => arguments.json = Some(file()?),
                "--program" => arguments.program = Some(file()?),
                "-h" | "--help" => arguments.help = true,
                _ => match GROUPS.iter().find(|(name, _)| *name == word) {
                    Some((_, group)) => arguments.groups.push(*group),
                    None => bail!("bench knows no {word:?}\n\n{USAGE}"),
                },
            }
        }
        Ok(arguments)
    }

    fn asks_for(&self, group: Group) -> bool {
        self.groups.is_empty() || self.groups.contains(&group)
    }
}

impl Setting {
    fn measure(&self, group: Group) -> Result<Vec<Section>> {
        match group {
            Group::Packet => self.measure_packets(),
            Group::Rate => rate::measure(self),
            Group::Http => http::measure(self).map(|section| vec![section]),
            Group::Bulk => bulk::measure(self).map(|section| vec![section]),
            Group::Memory => memory::measure(self).map(|section| vec![section]),
        }
    }

    fn measure_packets(&self) -> Result<Vec<Section>> {
        self.tell("packet");
        let effort = packet::Effort {
            rounds: self.rounds(),
            packets: if self.quick { 100_000 } else { 200_000 },
        };
        // A thread of its own: it goes into namespaces of its own and stays at real-time priority.
        let measured = thread::scope(|scope| {
            let measuring = scope.spawn(|| packet::measure(&self.objects, effort));
            measuring
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let rows = measured.into_iter().map(|row| {
            let (must, met) = row.target.unzip();
            Row {
                name: row.name,
                median: row.net,
                least: row.spread.0,
                most: row.spread.1,
                ratio: row.anchor.map(|anchor| row.net / anchor),
                must,
                met,
            }
        });
        Ok(vec![Section {
            title: "One packet through the program, less the floor".into(),
            unit: "ns",
            compared_with: Some("lean".into()),
            rows: rows.collect(),
            notes: Vec::new(),
        }])
    }

    /// A name that no other lab has.
    fn lab_name(&self) -> String {
        let number = self.labs.fetch_add(1, Ordering::Relaxed);
        format!("bench-{}-{number}", std::process::id())
    }

    /// Rounds of what takes a second or less.
    fn rounds(&self) -> usize {
        if self.quick { 3 } else { 9 }
    }

    /// Rounds of what takes a second for each director. Many short ones: what else the machine does changes
    /// within seconds, and a ratio is good only if both were measured before it did.
    fn long_rounds(&self) -> usize {
        if self.quick { 2 } else { 15 }
    }

    /// Packets of one sample.
    fn packets(&self) -> u32 {
        if self.quick { 1 << 18 } else { 1 << 19 }
    }

    /// Says on a terminal what is being done.
    fn tell(&self, step: &str) {
        let mut terminal = std::io::stderr();
        if terminal.is_terminal() {
            let end = if step.is_empty() { "" } else { " …" };
            let _ = write!(terminal, "\r\x1b[K{step}{end}");
        }
    }
}

fn require_tools(arguments: &Arguments) -> Result<()> {
    let mut tools = vec![("clang", "clang")];
    let network = [
        ("ip", "iproute2"),
        ("ethtool", "ethtool"),
        ("nft", "nftables"),
    ];
    for (group, needed) in [
        (Group::Rate, network.as_slice()),
        (Group::Memory, network.as_slice()),
        (
            Group::Http,
            &[
                ("nft", "nftables"),
                ("haproxy", "haproxy"),
                ("nginx", "nginx"),
                ("wrk", "wrk"),
            ],
        ),
        (
            Group::Bulk,
            &[
                ("nft", "nftables"),
                ("haproxy", "haproxy"),
                ("iperf3", "iperf3"),
            ],
        ),
    ] {
        if arguments.asks_for(group) {
            tools.extend(needed);
        }
    }
    tools.sort_unstable();
    tools.dedup();
    tool::require(&tools)
}

/// The release build of this checkout.
fn build_furiwake(workspace: &Workspace) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "furiwake"])
        .current_dir(&workspace.root)
        .status()
        .context("cannot run cargo")?;
    ensure!(
        status.success(),
        "cargo build --release --package furiwake failed"
    );
    Ok(workspace.target.join("release/furiwake"))
}

/// The kernel removes the networks of a process that dies; their files in /run are ours to remove.
fn leave_nothing_on_a_signal() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block().context("take charge of signals")?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            furiwake_lab::forget_mine();
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_every_group_is_measured() {
        let arguments = Arguments::parse(&["--quick"]).unwrap();
        assert!(arguments.quick);
        assert!(GROUPS.iter().all(|(_, group)| arguments.asks_for(*group)));
    }

    #[test]
    fn named_groups_exclude_the_others() {
        let arguments = Arguments::parse(&["rate", "bulk"]).unwrap();
        assert!(arguments.asks_for(Group::Bulk) && !arguments.asks_for(Group::Http));
    }

    #[test]
    fn what_bench_does_not_know_is_refused() {
        assert!(Arguments::parse(&["fast"]).is_err());
        assert!(Arguments::parse(&["--json"]).is_err());
    }
}
