//! A lab written down: the TOML file that says what a lab is made of, what is sent through it, and what must
//! come of it. The presets are such files.
//!
//! A file with mistakes is refused with all of them, each with its line and what to do about it.

mod machines;
mod problem;
mod reader;
mod services;
mod words;

pub use problem::Problem;
pub(crate) use problem::listed;

use std::{fs, path::Path};

use toml::de::DeTable;

use crate::{
    error::{Error, Result, Step},
    topology::{Network, Role, Scheduler, Topology},
};

use machines::Drafts;
use reader::{Findings, Section};

/// What is to be other than the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// Weight of each real server, so its length says how many there are.
    pub weights: Option<Vec<u32>>,
    /// The scheduler of every service.
    pub scheduler: Option<Scheduler>,
}

impl Topology {
    /// Reads a file.
    pub fn read(path: &Path, choices: &Choices) -> Result<Self> {
        let text = fs::read_to_string(path).step(|| format!("read {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&path.display().to_string(), &name, &text, choices)
    }

    /// Reads the text of a file called `file`; `name` is the topology's unless the text gives another.
    pub fn parse(file: &str, name: &str, text: &str, choices: &Choices) -> Result<Self> {
        let (document, mistakes) = DeTable::parse_recoverable(text);
        let mut findings = Findings::new(text);
        for mistake in &mistakes {
            findings.add(
                &mistake.span().unwrap_or(0..0),
                mistake.message(),
                "`furiwake lab show nat` prints a file that is right",
            );
        }
        let mut topology = None;
        if findings.is_empty() {
            let root = Section::new("the file", 0..0, document.get_ref());
            topology = Some(read_root(root, name, choices, &mut findings));
        }
        let problems = findings.finish();
        match topology {
            Some(topology) if problems.is_empty() => topology,
            _ => Err(Error::File {
                file: file.to_owned(),
                problems,
            }),
        }
    }
}

fn read_root(
    mut root: Section<'_>,
    name: &str,
    choices: &Choices,
    findings: &mut Findings<'_>,
) -> Result<Topology> {
    let given = root.get("name");
    let given = given.and_then(|given| given.parsed(findings, words::name));
    let about = root.get("about");
    about.and_then(|about| about.text(findings));
    let networks = read_networks(&mut root, findings);
    let drafts = Drafts::read(&mut root, &networks, findings);
    let services = root.need(
        findings,
        "service",
        "add [[service]], and its keys below it",
    );
    root.close(findings);

    let nodes = drafts.draw(&networks, choices.weights.as_deref(), findings)?;
    let mut topology = Topology {
        name: given.unwrap_or_else(|| name.to_owned()),
        nodes: nodes.iter().map(|(machine, _)| machine.clone()).collect(),
        networks,
        services: Vec::new(),
    };
    if let Some(services) = services {
        let servers = machines::real_servers(&nodes);
        topology.services = services::read(&services, &topology, &servers, findings);
    }
    for service in &mut topology.services {
        let uneven = choices
            .weights
            .as_ref()
            .is_some_and(|weights| weights.windows(2).any(|pair| pair[0] != pair[1]));
        match choices.scheduler {
            Some(scheduler) => service.scheduler = scheduler,
            // Weights mean nothing to round robin.
            None if uneven && service.scheduler == Scheduler::Rr => {
                service.scheduler = Scheduler::Wrr;
            }
            None => {}
        }
    }
    Ok(topology)
}

fn read_networks(root: &mut Section<'_>, findings: &mut Findings<'_>) -> Vec<Network> {
    let example = "add [networks], and below it front = \"192.168.56.0/24\"";
    let entries = root
        .need(findings, "networks", example)
        .and_then(|networks| networks.entries(findings))
        .unwrap_or_default();
    let mut networks: Vec<Network> = Vec::new();
    for entry in entries {
        if let Err((problem, remedy)) = words::network_name(&entry.key) {
            findings.add(&entry.at, problem, remedy);
        }
        let Some((address, prefix)) = entry.parsed(findings, words::network) else {
            continue;
        };
        let network = Network {
            name: entry.key.clone(),
            address,
            prefix,
        };
        if let Some(other) = networks
            .iter()
            .find(|other| other.contains(address) || network.contains(other.address))
        {
            let problem = format!("overlaps {}", other.name);
            entry.wrong(findings, problem, "give each network addresses of its own");
        }
        networks.push(network);
    }
    networks
}

/// The role of that name.
fn role(word: &str) -> std::result::Result<Role, (String, String)> {
    match word {
        "client" => Ok(Role::Client),
        "director" => Ok(Role::Director),
        "router" => Ok(Role::Router),
        "server" => Ok(Role::Server),
        _ => Err((
            format!("is {word:?}"),
            "there are client, director, router and server".into(),
        )),
    }
}

#[cfg(test)]
mod tests;
