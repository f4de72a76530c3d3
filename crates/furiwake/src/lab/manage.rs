//! Looking after running labs: break, mend, status, list, down.

use std::{io::Write, process::ExitCode};

use furiwake_lab::{
    Attached, list,
    supervisor::{NodeStatus, Request, Response, Status as LabStatus},
};
use serde::Serialize;

use super::Which;

/// A command about one machine.
#[derive(Debug, clap::Args)]
pub(super) struct OneNode {
    #[command(flatten)]
    which: Which,
    /// The machine: rs1, director, …
    node: String,
}

/// `lab status`.
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    which: Which,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// `lab down`.
#[derive(Debug, clap::Args)]
pub(super) struct Down {
    #[command(flatten)]
    which: Which,
    /// Every lab that is kept in the background
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

/// `lab list`.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    topology: String,
    nodes: usize,
    supervisor: i32,
}

impl OneNode {
    pub(super) fn kill(&self) -> anyhow::Result<ExitCode> {
        self.which.find()?.ask(&Request::Break(self.node.clone()))?;
        // As short as what was typed: without a name while one lab runs.
        let name = self.which.name.as_ref();
        let given = name.map_or(String::new(), |name| format!(" --name {name}"));
        say(&format!(
            "{} is broken; furiwake lab mend{given} {} starts it again\n",
            self.node, self.node
        ));
        Ok(ExitCode::SUCCESS)
    }

    pub(super) fn mend(&self) -> anyhow::Result<ExitCode> {
        self.which.find()?.ask(&Request::Mend(self.node.clone()))?;
        say(&format!("{} runs\n", self.node));
        Ok(ExitCode::SUCCESS)
    }
}

impl Status {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let lab = self.which.find()?;
        let Response::Status(status) = lab.ask(&Request::Status)? else {
            anyhow::bail!("the keeper of the lab said something odd")
        };
        if self.json {
            say(&(serde_json::to_string_pretty(&status)? + "\n"));
        } else {
            say(&describe(&lab, &status));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Down {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let labs = if self.all {
            furiwake_lab::require_root()?;
            list()?
        } else {
            vec![self.which.find()?]
        };
        for lab in labs {
            if self.all && !lab.is_in_background() {
                say(&format!(
                    "lab {} is not kept in the background: it ends with process {}\n",
                    lab.name(),
                    lab.supervisor()
                ));
                continue;
            }
            lab.ask(&Request::Down)?;
            say(&format!(
                "lab {} is down, nothing is left of it\n",
                lab.name()
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        furiwake_lab::require_root()?;
        let entries: Vec<Entry> = list()?
            .iter()
            .map(|lab| Entry {
                name: lab.name().to_owned(),
                topology: lab.topology().name.clone(),
                nodes: lab.topology().nodes.len(),
                supervisor: lab.supervisor(),
            })
            .collect();
        if self.json {
            say(&(serde_json::to_string_pretty(&entries)? + "\n"));
        } else if entries.is_empty() {
            say("no lab is running; furiwake lab up nat starts one\n");
        } else {
            let mut text = format!(
                "{:<24} {:<10} {:>6} {:>10}\n",
                "NAME", "NETWORK", "NODES", "PROCESS"
            );
            for Entry {
                name,
                topology,
                nodes,
                supervisor,
            } in &entries
            {
                text += &format!("{name:<24} {topology:<10} {nodes:>6} {supervisor:>10}\n");
            }
            say(&text);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The state of a lab for people.
fn describe(lab: &Attached, status: &LabStatus) -> String {
    let places: Vec<String> = status
        .attached
        .iter()
        .map(|(interface, place)| format!("{interface} {place}"))
        .collect();
    let mut text = format!(
        "lab {} · {}   kept by process {}   data plane: {} (--hook {})\n\n{:<12} {:<10} {:<9} {:>8}  ADDRESSES\n",
        status.name,
        lab.topology().name,
        status.supervisor,
        places.join(", "),
        lab.hook(),
        "NODE",
        "ROLE",
        "PROGRAM",
        "PROCESS",
    );
    // In the order of the network's plan, the switch last.
    let planned = lab
        .topology()
        .nodes
        .iter()
        .map(|machine| machine.name.as_str());
    let unplanned = status
        .nodes
        .keys()
        .map(String::as_str)
        .filter(|name| lab.topology().machine(name).is_none());
    for name in planned.chain(unplanned) {
        if let Some(node) = status.nodes.get(name) {
            text += &row(name, node);
        }
    }
    text
}

fn row(name: &str, node: &NodeStatus) -> String {
    let role = node.role.map_or_else(
        || "switch".to_owned(),
        |role| format!("{role:?}").to_lowercase(),
    );
    let program = match node.running {
        Some(true) => "running",
        Some(false) => "BROKEN",
        None => "-",
    };
    let process = node
        .program
        .filter(|_| node.running == Some(true))
        .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let addresses: Vec<String> = node
        .addresses
        .iter()
        .map(|(interface, address)| format!("{interface} {address}"))
        .collect();
    format!(
        "{name:<12} {role:<10} {program:<9} {process:>8}  {}",
        addresses.join("  ")
    )
    .trim_end()
    .to_owned()
        + "\n"
}

/// Prints; a reader who has seen enough is no error.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
