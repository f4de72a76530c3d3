//! The classic exercise, for programs: a client, a director that masquerades, real servers behind it.

use std::net::Ipv4Addr;

use super::{Scheduler, Topology};
use crate::{
    error::{Error, Result},
    file::Choices,
    preset::Preset,
};

/// What can be chosen about the exercise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// Weight of each real server, so its length says how many there are.
    pub weights: Vec<u32>,
    /// How the director chooses.
    pub scheduler: Scheduler,
}

impl Nat {
    /// The virtual address.
    pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 50);
    /// The client's address.
    pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 1);
    /// The director's own address towards the clients.
    pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 10);
    /// The director's address towards the real servers: their gateway.
    pub const INNER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    /// As many servers as the lab can have.
    pub const MOST_SERVERS: usize = 240;

    /// Equal servers under round robin.
    #[must_use]
    pub fn equal(servers: usize) -> Self {
        Self {
            weights: vec![1; servers],
            scheduler: Scheduler::Rr,
        }
    }

    /// Draws the network.
    pub fn topology(&self) -> Result<Topology> {
        let preset = Preset::named("nat")
            .ok_or_else(|| Error::Invalid("the preset nat is missing".into()))?;
        preset.topology(&Choices {
            weights: Some(self.weights.clone()),
            scheduler: Some(self.scheduler),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Role;

    #[test]
    fn every_number_of_servers_gets_addresses_of_its_own() {
        for count in [1, 25, 26, Nat::MOST_SERVERS] {
            let topology = Nat::equal(count).topology().unwrap();
            let mut addresses: Vec<_> = topology
                .machines(Role::Server)
                .map(|server| server.interfaces[0].address)
                .collect();
            addresses.dedup();
            assert_eq!(addresses.len(), count);
            let back = topology.network("back").unwrap();
            assert!(addresses.iter().all(|address| back.contains(*address)));
        }
        assert!(Nat::equal(0).topology().is_err());
        assert!(Nat::equal(Nat::MOST_SERVERS + 1).topology().is_err());
    }

    #[test]
    fn the_constants_are_those_of_the_file() {
        let topology = Nat::equal(1).topology().unwrap();
        let addresses = |name: &str| -> Vec<Ipv4Addr> {
            let interfaces = &topology.machine(name).unwrap().interfaces;
            interfaces
                .iter()
                .map(|interface| interface.address)
                .collect()
        };
        assert_eq!(addresses("client"), [Nat::CLIENT]);
        assert_eq!(addresses("director"), [Nat::DIRECTOR, Nat::INNER]);
        assert_eq!(addresses("rs1"), [Ipv4Addr::new(10, 0, 0, 10)]);
        assert_eq!(topology.services[0].address, Nat::VIP);
    }
}
