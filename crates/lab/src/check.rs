//! Trying the exercise and judging it.
//!
//! [`measure`] does everything that touches the lab; [`judge`] decides from what was measured alone.

mod judge;
mod listing;
mod ways;

pub use judge::judge;
pub use ways::Ways;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    capture::{Capture, Sources},
    error::{Error, Result, Step},
    hook::Hook,
    lab::Lab,
    load::{Load, Outcome, Transfer, Way, ping},
    server::logged_clients,
    topology::{Role, Service, Topology, Traffic},
};

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// HTTP requests.
    pub requests: usize,
    /// How many of them at once.
    pub concurrency: usize,
}

/// Everything that was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// What the lab is made of.
    pub topology: Topology,
    /// Where the director was told to take packets.
    pub hook: Hook,
    /// Where it takes them, by interface, as its daemon says.
    pub attached: Vec<(String, String)>,
    /// How long the lab took to be ready.
    pub ready_in: Duration,
    /// How hard was tried.
    pub effort: Effort,
    /// What came of the requests to each service that was asked.
    pub load: Vec<(Service, Outcome)>,
    /// Services that could not be asked, with the reason.
    pub not_asked: Vec<(Service, String)>,
    /// Pings sent to the first virtual address, and answered.
    pub pings: (usize, usize),
    /// Where packets came from that the client received meanwhile.
    pub sources: Sources,
    /// Who sent what, when answers do not come back by the director.
    pub ways: Option<Ways>,
    /// What came of single large requests.
    pub transfers: Vec<(Service, Transfer)>,
    /// Client addresses in the access log of each server.
    pub logged: BTreeMap<String, Vec<String>>,
    /// `ipvsadm -Ln`.
    pub listing: String,
    /// `ipvsadm -Lnc`.
    pub connections: String,
    /// `ipvsadm -Ln --stats --exact`.
    pub stats: String,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A name that does not change.
    pub id: &'static str,
    /// What came of it.
    pub status: Status,
    /// What should be so.
    pub title: String,
    /// What was found, and how.
    pub details: Vec<String>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is so.
    Passed,
    /// It is not.
    Failed,
    /// Nobody knows; the details say why.
    Skipped,
}

/// Runs the whole exercise in a lab that nobody has used yet.
///
/// `progress` is told what is being done.
pub fn measure(lab: &Lab, effort: Effort, progress: &(impl Fn(&str) + Sync)) -> Result<Measured> {
    let topology = lab.topology();
    let client = lab.first(Role::Client)?;
    let director = lab.director()?;
    let first = topology
        .services
        .first()
        .ok_or_else(|| Error::Invalid("this lab has no virtual service".into()))?;

    let capture = Capture::start(&client)?;
    let watch = ways::Watch::start(lab)?;
    let (mut load, mut not_asked) = (Vec::new(), Vec::new());
    for service in &topology.services {
        let is_first = service == first;
        let listening = service.servers.iter().all(|server| {
            lab.node(&server.name)
                .is_ok_and(|node| node.listens(service.port))
        });
        if !listening && !is_first {
            not_asked.push((
                service.clone(),
                format!("not every real server listens on port {}", service.port),
            ));
            continue;
        }
        let mut asking = load_of(lab, service)?;
        if is_first {
            asking.requests = effort.requests;
            asking.concurrency = effort.concurrency;
        }
        let total = asking.requests;
        let outcome = asking.run(&client, |done| {
            progress(&format!("port {}: request {done} of {total}", service.port))
        })?;
        load.push((service.clone(), outcome));
    }
    // Before anything slow, while every connection is still listed.
    progress("reading the director's tables");
    let connections = director.listing(&["-Lnc"])?;
    let listing = director.listing(&["-Ln"])?;
    let stats = director.listing(&["-Ln", "--stats", "--exact"])?;
    progress("pinging");
    let pings = 3;
    let answered = ping(&client, first.address, pings)?;
    progress("sending much at once");
    let mut transfers = Vec::new();
    for (service, _) in &load {
        let asking = load_of(lab, service)?;
        let amounts = [
            (Way::Up, service.traffic.upload),
            (Way::Down, service.traffic.download),
        ];
        for (way, bytes) in amounts {
            if let Some(bytes) = bytes.filter(|_| lab.serves_transfers()) {
                transfers.push((service.clone(), asking.transfer(&client, way, bytes)?));
            }
        }
    }
    let sources = capture.finish()?;
    let ways = watch.map(|watch| watch.finish(lab)).transpose()?;
    let servers = topology.machines(Role::Server);
    let logged = servers
        .map(|server| {
            Ok((
                server.name.clone(),
                logged_clients(lab.node(&server.name)?.folder()),
            ))
        })
        .collect::<Result<_>>()?;
    Ok(Measured {
        topology: topology.clone(),
        hook: lab.hook(),
        attached: attached(lab)?,
        ready_in: lab.ready_in(),
        effort,
        load,
        not_asked,
        pings: (pings.into(), answered),
        sources,
        ways,
        transfers,
        logged,
        listing,
        connections,
        stats,
    })
}

/// What to ask of a service if nothing else is said.
fn load_of(lab: &Lab, service: &Service) -> Result<Load> {
    let Traffic {
        requests,
        concurrency,
        ..
    } = service.traffic;
    Ok(Load {
        address: service.address,
        port: service.port,
        certificate: if service.port == 443 {
            Some(lab.certificate()?)
        } else {
            None
        },
        requests: requests.unwrap_or(4 * service.servers.len()),
        concurrency: concurrency.unwrap_or(1),
    })
}

/// Where packets are taken on each interface of the director, as its daemon says; nothing while it is down.
pub fn attached(lab: &Lab) -> Result<Vec<(String, String)>> {
    let Ok(director) = lab.director() else {
        return Ok(Vec::new());
    };
    if lab.is_running(director.node().name()) != Some(true) {
        return Ok(Vec::new());
    }
    let output = director
        .node()
        .command("furiwake")
        .args(["status", "--json"])
        .output();
    let output = output.step(|| "ask the director for its status".into())?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let interfaces = status["status"]["interfaces"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    Ok(interfaces
        .iter()
        .map(|interface| (text(&interface["name"]), text(&interface["hook"])))
        .collect())
}

#[cfg(test)]
pub(crate) mod example;

#[cfg(test)]
mod tests;
