//! The classic exercise: a client, a director that masquerades, real servers behind it.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Interface, Machine, Network, RealServer, Role, Service, Topology};
use crate::error::{Error, Result};

/// What can be chosen about the exercise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// Weight of each real server, so its length says how many there are.
    pub weights: Vec<u32>,
    /// How the director chooses.
    pub scheduler: Scheduler,
}

/// A scheduler whose choices the lab can predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// One after the other.
    Rr,
    /// One after the other, in proportion to the weights.
    Wrr,
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
    /// The addresses in steps of ten from 10.0.0.10 end at 10.0.0.250; beyond, steps of one leave room for this many.
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
        let count = self.weights.len();
        if count == 0 || count > Self::MOST_SERVERS {
            return Err(Error::Invalid(format!(
                "{count} real servers: the lab can have 1 to {}",
                Self::MOST_SERVERS
            )));
        }
        if let Some(weight) = self.weights.iter().find(|weight| **weight > 65535) {
            return Err(Error::Invalid(format!(
                "weight {weight}: a weight is 0 to 65535"
            )));
        }
        let step = if count <= 25 { 10 } else { 1 };
        let servers: Vec<RealServer> = (1_u8..)
            .zip(&self.weights)
            .map(|(number, &weight)| RealServer {
                name: format!("rs{number}"),
                address: Ipv4Addr::new(10, 0, 0, if step == 10 { number * 10 } else { number + 9 }),
                weight,
            })
            .collect();

        let eth = |number: u8, network: &str, address| Interface {
            name: format!("eth{number}"),
            network: network.into(),
            address,
        };
        let mut nodes = vec![
            Machine {
                name: "client".into(),
                role: Role::Client,
                interfaces: vec![eth(0, "front", Self::CLIENT)],
                gateway: Some(Self::DIRECTOR),
            },
            Machine {
                name: "director".into(),
                role: Role::Director,
                interfaces: vec![eth(0, "front", Self::DIRECTOR), eth(1, "back", Self::INNER)],
                gateway: None,
            },
        ];
        nodes.extend(servers.iter().map(|server| Machine {
            name: server.name.clone(),
            role: Role::Server,
            interfaces: vec![eth(0, "back", server.address)],
            gateway: Some(Self::INNER),
        }));
        let service = |port| Service {
            address: Self::VIP,
            port,
            scheduler: self.scheduler,
            servers: servers.clone(),
        };
        Ok(Topology {
            name: "nat".into(),
            nodes,
            networks: vec![
                Network {
                    name: "front".into(),
                    address: Ipv4Addr::new(192, 168, 56, 0),
                    prefix: 24,
                },
                Network {
                    name: "back".into(),
                    address: Ipv4Addr::new(10, 0, 0, 0),
                    prefix: 24,
                },
            ],
            services: vec![service(80), service(443)],
        })
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
        })
    }
}

impl FromStr for Scheduler {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "rr" => Ok(Self::Rr),
            "wrr" => Ok(Self::Wrr),
            _ => Err(Error::Invalid(format!(
                "scheduler {name:?}: the lab predicts rr and wrr"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_those_of_the_exercise() {
        let commands = Nat::equal(2).topology().unwrap().commands();
        assert_eq!(
            commands,
            [
                "ip addr add 192.168.56.50 label eth0-lvsvip dev eth0",
                "ipvsadm -A -t 192.168.56.50:80 -s rr",
                "ipvsadm -A -t 192.168.56.50:443 -s rr",
                "ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.10 -m",
                "ipvsadm -a -t 192.168.56.50:443 -r 10.0.0.10 -m",
                "ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.20 -m",
                "ipvsadm -a -t 192.168.56.50:443 -r 10.0.0.20 -m",
            ]
        );
    }

    #[test]
    fn weights_appear_in_the_commands_only_when_they_are_not_one() {
        let nat = Nat {
            weights: vec![3, 1],
            scheduler: Scheduler::Wrr,
        };
        let commands = nat.topology().unwrap().commands();
        assert!(
            commands.contains(&"ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.10 -m -w 3".to_owned())
        );
        assert!(commands.contains(&"ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.20 -m".to_owned()));
    }

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
            assert!(
                addresses
                    .iter()
                    .all(|address| topology.networks[1].contains(*address))
            );
        }
        assert!(Nat::equal(0).topology().is_err());
        assert!(Nat::equal(Nat::MOST_SERVERS + 1).topology().is_err());
    }
}
