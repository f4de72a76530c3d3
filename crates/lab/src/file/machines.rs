//! The machines of a file.

use std::{net::Ipv4Addr, ops::Range};

use super::{
    reader::{Findings, Section, Value},
    role, words,
};
use crate::{
    error::{Error, Result},
    topology::{Interface, Machine, Network, RealServer, Role},
};

/// A machine, and its share if it is a real server.
pub(super) type Weighted = (Machine, u32);

/// Most real servers of a lab.
const MOST_SERVERS: usize = 240;
/// Largest weight that ipvsadm's counterpart in the kernel takes from everybody.
const MOST_WEIGHT: u64 = 65535;

/// The machines as the file has them: some stand for several.
pub(super) struct Drafts {
    drafts: Vec<Draft>,
}

struct Draft {
    at: Range<usize>,
    machine: Machine,
    /// Addresses of its interfaces in order.
    addresses: Vec<Ipv4Addr>,
    /// One for each machine it stands for; nothing when it stands for itself.
    weights: Option<Vec<u32>>,
    weight: u32,
}

impl Drafts {
    pub(super) fn read(
        root: &mut Section<'_>,
        networks: &[Network],
        findings: &mut Findings<'_>,
    ) -> Self {
        let machines = root.need(
            findings,
            "machine",
            "add [[machine]], and its keys below it",
        );
        let parts = machines
            .and_then(|machines| machines.list(findings))
            .unwrap_or_default();
        let mut drafts = Vec::new();
        for part in &parts {
            if let Some(section) = part.section(findings, "[[machine]]") {
                drafts.extend(Draft::read(section, networks, findings));
            }
        }
        if !parts.is_empty() && drafts.len() == parts.len() {
            for (role, name, most) in [
                (Role::Client, "client", usize::MAX),
                (Role::Director, "director", 1),
                (Role::Server, "server", usize::MAX),
            ] {
                let of_role = |draft: &&Draft| draft.machine.role == role;
                match drafts.iter().filter(of_role).nth(most) {
                    Some(second) => findings.add(
                        &second.at,
                        format!("there is a second {name}"),
                        format!("a lab has one {name} so far"),
                    ),
                    None if drafts.iter().any(|draft| of_role(&draft)) => {}
                    None => findings.add(
                        &(0..0),
                        format!("no machine is a {name}"),
                        format!("add a [[machine]] with role = {name:?}"),
                    ),
                }
            }
        }
        Self { drafts }
    }

    /// Every machine with its interfaces. `weights` replace those of the machine that stands for several.
    pub(super) fn draw(
        mut self,
        networks: &[Network],
        weights: Option<&[u32]>,
        findings: &mut Findings<'_>,
    ) -> Result<Vec<Weighted>> {
        if let Some(weights) = weights {
            let several = |draft: &&mut Draft| draft.weights.is_some();
            let Some(draft) = self.drafts.iter_mut().find(several) else {
                return Err(Error::Invalid(
                    "this file names each server by itself: change them there, or give one of them weights = [1, 1] to have it stand for several"
                        .into(),
                ));
            };
            check_weights(weights)?;
            draft.weights = Some(weights.to_vec());
        }
        let mut taken: Vec<Ipv4Addr> = self
            .drafts
            .iter()
            .filter(|draft| draft.weights.is_none())
            .flat_map(|draft| draft.addresses.iter().copied())
            .collect();
        let mut machines: Vec<Weighted> = Vec::new();
        for draft in &self.drafts {
            match &draft.weights {
                None => machines.push((draft.with(&draft.addresses, networks), draft.weight)),
                Some(weights) => {
                    for (number, (addresses, weight)) in (1..).zip(
                        draft
                            .places(weights.len(), &taken, networks, findings)
                            .iter()
                            .zip(weights),
                    ) {
                        let mut machine = draft.with(addresses, networks);
                        machine.name = format!("{}{number}", draft.machine.name);
                        taken.extend(addresses);
                        machines.push((machine, *weight));
                    }
                }
            }
        }
        self.check(&machines, findings);
        Ok(machines)
    }

    /// What shows only when all machines are known.
    fn check(&self, machines: &[Weighted], findings: &mut Findings<'_>) {
        let addresses: Vec<Ipv4Addr> = machines
            .iter()
            .flat_map(|(machine, _)| &machine.interfaces)
            .map(|interface| interface.address)
            .collect();
        for draft in &self.drafts {
            let name = &draft.machine.name;
            let of_that_name = machines
                .iter()
                .filter(|(machine, _)| machine.name == *name)
                .count();
            if of_that_name > 1 || name == crate::lab::SWITCH {
                findings.add(
                    &draft.at,
                    format!("two machines are called {name:?}"),
                    "give each a name of its own (the lab has one called switch)",
                );
            }
            for address in &draft.addresses {
                if addresses.iter().filter(|other| *other == address).count() > 1 {
                    findings.add(
                        &draft.at,
                        format!("two machines have {address}"),
                        "give each an address of its own",
                    );
                }
            }
            let gateways = draft.machine.gateway.into_iter();
            let gateways = gateways.chain(draft.machine.routes.iter().map(|route| route.gateway));
            for gateway in gateways.filter(|gateway| !addresses.contains(gateway)) {
                findings.add(
                    &draft.at,
                    format!("{name} sends to {gateway}, and no machine has that address"),
                    "name a machine's address in one of its networks",
                );
            }
        }
    }
}

impl Draft {
    fn read(
        mut section: Section<'_>,
        networks: &[Network],
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let name = section.need(findings, "name", "\"rs1\"");
        let name = name.and_then(|name| name.parsed(findings, words::machine_name));
        let role_of = section.need(findings, "role", "\"server\"");
        let role_of = role_of.and_then(|word| word.parsed(findings, role));
        let addresses = section.need(findings, "addresses", "[\"192.168.56.1\"]");
        let addresses = addresses.map(|list| read_addresses(&list, networks, findings));
        let gateway = section
            .get("gateway")
            .and_then(|gateway| gateway.parsed(findings, words::address));
        let routes = section
            .get("routes")
            .map(|list| read_list(&list, findings, words::route))
            .unwrap_or_default();
        let lo = section
            .get("lo")
            .map(|list| read_list(&list, findings, words::address))
            .unwrap_or_default();
        let sysctls = section
            .get("sysctls")
            .map(|settings| read_sysctls(&settings, findings))
            .unwrap_or_default();
        let weights = section.get("weights");
        let several = weights
            .as_ref()
            .map(|weights| read_weights(weights, findings));
        let weight = section.get("weight");
        let one = weight
            .as_ref()
            .and_then(|weight| weight.number(findings, 0, MOST_WEIGHT));
        if let (Some(weights), Some(_)) = (&weights, &weight) {
            weights.wrong(findings, "and weight are both given", "leave weight out");
        }
        let is_server = role_of.is_none_or(|role| role == Role::Server);
        if let (Some(value), false) = (weights.or(weight), is_server) {
            value.wrong(findings, "is for servers", "leave it out");
        }
        let at = section.at.clone();
        section.close(findings);
        let (name, role, addresses) = (name?, role_of?, addresses?);
        Some(Self {
            at,
            machine: Machine {
                name,
                role,
                interfaces: Vec::new(),
                gateway,
                routes,
                lo,
                sysctls,
            },
            addresses,
            weights: several,
            weight: one.unwrap_or(1) as u32,
        })
    }

    /// The machine with interfaces for these addresses.
    fn with(&self, addresses: &[Ipv4Addr], networks: &[Network]) -> Machine {
        let interfaces = addresses
            .iter()
            .enumerate()
            .filter_map(|(number, address)| {
                let network = networks.iter().find(|network| network.contains(*address))?;
                Some(Interface {
                    name: format!("eth{number}"),
                    network: network.name.clone(),
                    address: *address,
                })
            });
        Machine {
            interfaces: interfaces.collect(),
            ..self.machine.clone()
        }
    }

    /// Addresses of `count` machines: from the first in steps of ten while they fit, or else of one.
    fn places(
        &self,
        count: usize,
        taken: &[Ipv4Addr],
        networks: &[Network],
        findings: &mut Findings<'_>,
    ) -> Vec<Vec<Ipv4Addr>> {
        let at = |number: usize, step: usize| -> Option<Vec<Ipv4Addr>> {
            let place = |first: &Ipv4Addr| {
                let network = networks.iter().find(|network| network.contains(*first))?;
                let offset = u32::try_from(number * step).ok()?;
                let address = Ipv4Addr::from_bits(first.to_bits().checked_add(offset)?);
                let free = words::is_host(network, address) && !taken.contains(&address);
                free.then_some(address)
            };
            self.addresses.iter().map(place).collect()
        };
        let places = [10, 1].into_iter().find_map(|step| {
            (0..count)
                .map(|number| at(number, step))
                .collect::<Option<Vec<_>>>()
        });
        if places.is_none() {
            findings.add(
                &self.at,
                format!(
                    "{count} machines {}1, {}2 … do not fit into their network",
                    self.machine.name, self.machine.name
                ),
                "start at a lower address, have fewer, or take a larger network",
            );
        }
        places.unwrap_or_default()
    }
}

/// The real servers among machines.
pub(super) fn real_servers(machines: &[Weighted]) -> Vec<RealServer> {
    machines
        .iter()
        .filter(|(machine, _)| machine.role == Role::Server)
        .filter_map(|(machine, weight)| {
            Some(RealServer {
                name: machine.name.clone(),
                address: machine.interfaces.first()?.address,
                weight: *weight,
            })
        })
        .collect()
}

/// Refuses weights that no file could hold.
fn check_weights(weights: &[u32]) -> Result<()> {
    if weights.is_empty() || weights.len() > MOST_SERVERS {
        return Err(Error::Invalid(format!(
            "{} real servers: the lab can have 1 to {MOST_SERVERS}",
            weights.len()
        )));
    }
    match weights
        .iter()
        .find(|weight| u64::from(**weight) > MOST_WEIGHT)
    {
        Some(weight) => Err(Error::Invalid(format!(
            "weight {weight}: a weight is 0 to {MOST_WEIGHT}"
        ))),
        None => Ok(()),
    }
}

fn read_weights(value: &Value<'_>, findings: &mut Findings<'_>) -> Vec<u32> {
    let parts = value.list(findings).unwrap_or_default();
    let weights: Vec<u32> = parts
        .iter()
        .filter_map(|part| part.number(findings, 0, MOST_WEIGHT))
        .map(|weight| weight as u32)
        .collect();
    if parts.is_empty() || parts.len() > MOST_SERVERS {
        value.wrong(
            findings,
            format!("are {}", parts.len()),
            format!("a lab can have 1 to {MOST_SERVERS} servers: [1, 1]"),
        );
    }
    weights
}

fn read_addresses(
    list: &Value<'_>,
    networks: &[Network],
    findings: &mut Findings<'_>,
) -> Vec<Ipv4Addr> {
    let parts = list.list(findings).unwrap_or_default();
    if parts.is_empty() {
        list.wrong(
            findings,
            "are empty",
            "give one for each interface, eth0 first",
        );
    }
    let mut addresses = Vec::new();
    for part in parts {
        let Some(address) = part.parsed(findings, words::address) else {
            continue;
        };
        let known: Vec<&str> = networks
            .iter()
            .map(|network| network.name.as_str())
            .collect();
        match networks.iter().find(|network| network.contains(address)) {
            Some(network) if words::is_host(network, address) => {}
            Some(network) => part.wrong(
                findings,
                format!("has {address}"),
                format!(
                    "that is the first or last address of {}: take one between",
                    network.name
                ),
            ),
            None => part.wrong(
                findings,
                format!("has {address}, which is in none of the networks"),
                format!("take one of {}", known.join(", ")),
            ),
        }
        addresses.push(address);
    }
    addresses
}

fn read_sysctls(value: &Value<'_>, findings: &mut Findings<'_>) -> Vec<(String, String)> {
    let entries = value.entries(findings).unwrap_or_default();
    let mut settings = Vec::new();
    for entry in entries {
        if let Err((problem, remedy)) = words::sysctl(&entry.key) {
            findings.add(&entry.at, problem, remedy);
        }
        if let Some(value) = entry.scalar(findings) {
            settings.push((entry.key.clone(), value));
        }
    }
    settings
}

pub(super) fn read_list<T>(
    value: &Value<'_>,
    findings: &mut Findings<'_>,
    parse: impl Fn(&str) -> words::Read<T>,
) -> Vec<T> {
    let parts = value.list(findings).unwrap_or_default();
    let parsed = parts
        .iter()
        .filter_map(|part| part.parsed(findings, &parse));
    parsed.collect()
}
