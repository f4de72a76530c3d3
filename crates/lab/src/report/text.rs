//! The report on a terminal.

use std::{env, io::IsTerminal, time::Duration};

use super::{
    Report, data_plane,
    format::{WIDTH, wrap},
    picture::picture,
};
use crate::{
    check::Status,
    hook::Hook,
    preset::Preset,
    topology::{Nat, Role, Topology},
};

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    colour: bool,
}

#[derive(Debug, Clone, Copy)]
enum Ink {
    Heading,
    Good,
    Bad,
    Unknown,
    Aside,
}

impl Paint {
    /// No colour.
    pub const PLAIN: Self = Self { colour: false };

    /// What the environment and the kind of standard output ask for.
    #[must_use]
    pub fn for_stdout() -> Self {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced =
            env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colour: !set("NO_COLOR") && (forced || (std::io::stdout().is_terminal() && !dumb)),
        }
    }

    fn apply(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Heading => "1",
            Ink::Good => "32",
            Ink::Bad => "1;31",
            Ink::Unknown => "33",
            Ink::Aside => "2",
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// What a lab is: title and picture.
#[must_use]
pub fn head(
    topology: &Topology,
    hook: Hook,
    attached: &[(String, String)],
    ready_in: Duration,
    paint: Paint,
) -> String {
    let title = format!("furiwake lab · {}", topology.name);
    let ready = format!("ready in {:.2} s", ready_in.as_secs_f64());
    let gap = WIDTH.saturating_sub(title.chars().count() + ready.len());
    let mut lines = vec![
        format!(
            "{}{}{ready}",
            paint.apply(Ink::Heading, &title),
            " ".repeat(gap)
        ),
        paint.apply(
            Ink::Aside,
            "all machines are network namespaces: this host's own network was not touched",
        ),
        String::new(),
    ];
    lines.extend(picture(topology, &data_plane(hook, attached)));
    lines.join("\n") + "\n"
}

/// The whole report of a run.
#[must_use]
pub fn text(report: &Report, paint: Paint) -> String {
    let measured = &report.measured;
    let mut lines = vec![head(
        &measured.topology,
        measured.hook,
        &measured.attached,
        measured.ready_in,
        paint,
    )];
    lines.push(paint.apply(Ink::Heading, "checked"));
    for check in &report.checks {
        let mark = match check.status {
            Status::Passed => paint.apply(Ink::Good, "ok  "),
            Status::Failed => paint.apply(Ink::Bad, "FAIL"),
            Status::Skipped => paint.apply(Ink::Unknown, "skip"),
        };
        for (number, piece) in wrap(&check.title, WIDTH - 8).iter().enumerate() {
            lines.push(if number == 0 {
                format!("  {mark}  {piece}")
            } else {
                format!("        {piece}")
            });
        }
        let details = check
            .details
            .iter()
            .flat_map(|detail| wrap(detail, WIDTH - 10));
        lines.extend(
            details.map(|detail| format!("          {}", paint.apply(Ink::Aside, &detail))),
        );
    }
    lines.push(String::new());
    lines.extend(by_hand(&measured.topology, paint));
    let (ink, verdict) = if report.passed() {
        (Ink::Good, "PASS")
    } else {
        (Ink::Bad, "FAIL")
    };
    lines.push(format!(
        "verdict {}   {} passed, {} failed, {} skipped",
        paint.apply(ink, verdict),
        report.count(Status::Passed),
        report.count(Status::Failed),
        report.count(Status::Skipped)
    ));
    lines.push(String::new());
    lines.push(paint.apply(Ink::Heading, "next"));
    let what = match Preset::named(&measured.topology.name) {
        Some(preset) => preset.name,
        None => "FILE.toml",
    };
    let steps = [
        (
            format!("furiwake lab up {what}"),
            "the same network, to keep and to break",
        ),
        (
            format!("furiwake lab up {what} --by-hand"),
            "without services: type the lines above yourself",
        ),
        (
            format!("furiwake lab run {what} --servers 3 --weights 3,2,1 --scheduler wrr"),
            "",
        ),
        (
            format!("furiwake lab run {what} --report report.md"),
            "this report as Markdown",
        ),
    ];
    let steps: Vec<(&str, &str)> = steps
        .iter()
        .map(|(command, meaning)| (command.as_str(), *meaning))
        .collect();
    lines.extend(rows(&steps));
    lines.join("\n") + "\n"
}

/// What can be done with a lab that was kept.
#[must_use]
pub fn next_steps(topology: &Topology, name: &str, by_hand: bool, paint: Paint) -> String {
    let given = if name == topology.name {
        String::new()
    } else {
        format!(" --name {name}")
    };
    let mut lines = Vec::new();
    if by_hand {
        lines.push(paint.apply(Ink::Heading, "yours to type"));
        let director = topology.machines(Role::Director).next();
        let director = director.map_or("director", |director| director.name.as_str());
        lines.push(format!("  furiwake lab enter{given} {director}"));
        lines.extend(commands(topology));
        lines.push(String::new());
    }
    lines.push(paint.apply(Ink::Heading, "next"));
    let first = topology.services.first();
    let server = first
        .and_then(|service| service.servers.first())
        .map_or("rs1", |server| server.name.as_str());
    let address = first.map_or(Nat::VIP, |service| service.address);
    let steps = [
        (
            format!("furiwake lab open{given}"),
            "a browser on this machine sees the VIP",
        ),
        (
            format!("furiwake lab exec{given} client -- curl -s http://{address}/"),
            "",
        ),
        (
            format!("furiwake lab exec{given} director -- ipvsadm -Ln"),
            "",
        ),
        (
            format!("furiwake lab enter{given} {server}"),
            "a shell on a machine",
        ),
        (
            format!("furiwake lab break{given} {server}"),
            "kill a real server and watch",
        ),
        (
            format!("furiwake lab mend{given} {server}"),
            "start it again",
        ),
        (
            format!("furiwake lab status{given}"),
            "what runs and what does not",
        ),
        (
            format!("furiwake lab down{given}"),
            "the end, and nothing is left",
        ),
    ];
    let steps: Vec<(&str, &str)> = steps
        .iter()
        .map(|(command, meaning)| (command.as_str(), *meaning))
        .collect();
    lines.extend(rows(&steps));
    lines.join("\n") + "\n"
}

/// What a user would type to get the same: on real servers, if anything, and on the director.
fn by_hand(topology: &Topology, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    let on_servers = topology.server_commands();
    if !on_servers.is_empty() {
        let heading = "the same by hand, on every real server";
        lines.push(paint.apply(Ink::Heading, heading));
        let pieces = on_servers
            .iter()
            .flat_map(|command| wrap(command, WIDTH - 6));
        lines.extend(pieces.map(|piece| format!("  {piece}")));
        lines.push(paint.apply(Ink::Heading, "and on the director"));
    } else {
        lines.push(paint.apply(Ink::Heading, "the same by hand, on the director"));
    }
    lines.extend(commands(topology));
    lines.push(String::new());
    lines
}

/// Commands of the topology; of many servers the first and the last few.
fn commands(topology: &Topology) -> Vec<String> {
    const MOST: usize = 12;
    let commands = topology.commands();
    let line = |command: &String| format!("  {command}");
    if commands.len() <= MOST {
        return commands.iter().map(line).collect();
    }
    let (first, last) = (&commands[..MOST - 3], &commands[commands.len() - 2..]);
    let left_out = commands.len() - first.len() - last.len();
    let gap = format!("  … and so on for {left_out} lines more");
    first
        .iter()
        .map(line)
        .chain([gap])
        .chain(last.iter().map(line))
        .collect()
}

fn rows(steps: &[(&str, &str)]) -> Vec<String> {
    let width = steps
        .iter()
        .filter(|(_, meaning)| !meaning.is_empty())
        .map(|(command, _)| command.len())
        .max()
        .unwrap_or(0);
    steps
        .iter()
        .flat_map(|(command, meaning)| {
            let row = format!("  {command:<width$}  {meaning}")
                .trim_end()
                .to_owned();
            // A meaning that does not fit goes below its command.
            if row.chars().count() <= WIDTH {
                vec![row]
            } else {
                vec![format!("  {command}"), format!("      {meaning}")]
            }
        })
        .collect()
}
