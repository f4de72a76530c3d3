//! The ways that packets took through a lab, for exercises in which answers do not come back by the director.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::{
    error::Result,
    lab::Lab,
    topology::{Role, Service, Topology},
    wire::{Ip, Payload, Sightings, Wire},
};

/// What was seen on the cables, and who has which hardware address.
#[derive(Debug, Clone)]
pub struct Ways {
    /// Frames, by the machine that sent them.
    pub sightings: Sightings,
    /// Hardware addresses of each machine, as text.
    pub macs: BTreeMap<String, Vec<String>>,
    /// To which hardware address the client sends what is for a virtual address.
    pub neighbours: BTreeMap<Ipv4Addr, String>,
}

/// A watch of the cables of a lab.
pub(super) struct Watch {
    wire: Wire,
}

impl Watch {
    /// Starts one if there is anything to see that a capture at the client does not show.
    pub(super) fn start(lab: &Lab) -> Result<Option<Self>> {
        let services = &lab.topology().services;
        if services.iter().all(|service| service.method.returns()) {
            return Ok(None);
        }
        Ok(Some(Self {
            wire: Wire::watch(lab)?,
        }))
    }

    pub(super) fn finish(self, lab: &Lab) -> Result<Ways> {
        let sightings = self.wire.finish()?;
        let topology = lab.topology();
        let mut macs = BTreeMap::new();
        for machine in &topology.nodes {
            let node = lab.node(&machine.name)?;
            let interfaces = machine.interfaces.iter();
            let of_machine = interfaces.filter_map(|interface| node.mac(&interface.name));
            macs.insert(machine.name.clone(), of_machine.collect());
        }
        let client = lab.first(Role::Client)?;
        let neighbours = topology
            .services
            .iter()
            .filter_map(|service| Some((service.address, client.neighbour(service.address)?)))
            .collect();
        Ok(Ways {
            sightings,
            macs,
            neighbours,
        })
    }
}

impl Ways {
    /// How many plain IPv4 packets for which `wanted` holds each machine sent, and whether each frame said
    /// that it came from that machine.
    pub(super) fn senders(&self, wanted: impl Fn(&Ip) -> bool) -> BTreeMap<&str, Sender> {
        let mut senders: BTreeMap<&str, Sender> = BTreeMap::new();
        for (sighting, tally) in &self.sightings {
            let Payload::Ip(packet) = &sighting.frame.payload else {
                continue;
            };
            if !wanted(packet) {
                continue;
            }
            let own = self.owner(&sighting.frame.source.to_string()) == Some(&sighting.machine);
            let sender = senders.entry(&sighting.machine).or_default();
            sender.packets += tally.frames;
            sender.foreign |= !own;
        }
        senders
    }

    /// The machine that has a hardware address.
    pub(super) fn owner(&self, mac: &str) -> Option<&str> {
        self.macs
            .iter()
            .find(|(_, macs)| macs.iter().any(|known| known == mac))
            .map(|(machine, _)| machine.as_str())
    }
}

/// What a machine sent of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sender {
    /// How many packets.
    pub(super) packets: u64,
    /// Whether a frame had another machine's hardware address as its source.
    pub(super) foreign: bool,
}

/// Whether a server of the service is in the network of the virtual address, so that both hear ARP for it.
pub(super) fn shares_segment(topology: &Topology, service: &Service) -> bool {
    let network = topology
        .networks
        .iter()
        .find(|network| network.contains(service.address));
    let servers = || service.servers.iter();
    network.is_some_and(|network| servers().any(|server| network.contains(server.address)))
}
