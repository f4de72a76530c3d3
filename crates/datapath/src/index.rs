//! What the daemon would otherwise search the maps for: which slots are in use, and by what. It follows from the maps
//! and is made from them when they are opened.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use furiwake_engine::tables::{Config, Server, Service};

use crate::{load::Maps, translate::MASQUERADE};

/// An address as slots hold it.
pub(crate) type Address = [u32; 4];

/// Slots in use. Kept by whoever changes the flags or the owner of a slot.
#[derive(Debug, Default)]
pub(crate) struct Index {
    free_services: BTreeSet<u32>,
    /// Services that were removed and whose servers still have connections.
    removed: BTreeSet<u32>,
    live: u32,
    kinds: Kinds,
    latest: u32,
    free_servers: BTreeSet<u32>,
    by_address: HashMap<Address, BTreeSet<u32>>,
    by_service: HashMap<u32, BTreeSet<u32>>,
    retired: BTreeSet<u32>,
    retired_by_address: HashMap<Address, BTreeSet<u32>>,
    /// Servers that masquerade no more, but have connections from when they did.
    changed_method: BTreeSet<u32>,
    hop_users: HashMap<u32, u32>,
}

/// How many services of each kind that [`Config::kinds`] tells of.
#[derive(Debug, Default)]
struct Kinds {
    every_port: u32,
    ftp: u32,
    mark: u32,
}

impl Index {
    /// Read the maps.
    pub(crate) fn of(maps: &Maps) -> Self {
        let mut index = Self::default();
        for (at, service) in (0..).zip(&*maps.service) {
            index.latest = index.latest.max(service.created.get());
            match service.flags.get() & (Service::USED | Service::REMOVED) {
                0 => drop(index.free_services.insert(at)),
                Service::USED => index.service_is_live(service),
                _ => drop(index.removed.insert(at)),
            }
        }
        for (at, server) in (0..).zip(&*maps.server) {
            if server.flags.get() == 0 {
                index.free_servers.insert(at);
                continue;
            }
            index.server_is_used(at, server);
            if !is_listed(server) {
                index.server_is_retired(at, server);
            }
            if server.flags.get() & Server::REPLIES != 0 && server.method.get() != MASQUERADE {
                index.changed_method.insert(at);
            }
        }
        index
    }

    /// A free slot for a service, and its place in the order of creation.
    pub(crate) fn next_service(&self) -> Option<(u32, u32)> {
        Some((*self.free_services.first()?, self.latest.wrapping_add(1)))
    }

    /// A slot was given to a service, filled in.
    pub(crate) fn service_is_added(&mut self, at: u32, service: &Service) {
        self.free_services.remove(&at);
        self.latest = self.latest.max(service.created.get());
        self.service_is_live(service);
    }

    fn service_is_live(&mut self, service: &Service) {
        self.live += 1;
        for count in self.kinds.of(service) {
            *count += 1;
        }
    }

    /// A service was removed; its servers were retired.
    pub(crate) fn service_is_removed(&mut self, at: u32, service: &Service) {
        self.live -= 1;
        for count in self.kinds.of(service) {
            *count -= 1;
        }
        self.removed.insert(at);
    }

    /// A removed service's slot is free again.
    pub(crate) fn service_is_freed(&mut self, at: u32) {
        self.removed.remove(&at);
        self.free_services.insert(at);
    }

    /// Removed services that no server belongs to any more.
    pub(crate) fn abandoned_services(&self) -> Vec<u32> {
        let is_abandoned = |at: &u32| !self.by_service.contains_key(at);
        self.removed.iter().copied().filter(is_abandoned).collect()
    }

    /// How many services there are that were not removed.
    pub(crate) fn live_services(&self) -> u32 {
        self.live
    }

    /// Whether there is one.
    pub(crate) fn is_any_service_left(&self) -> bool {
        self.live > 0
    }

    /// What [`Config::kinds`] should be.
    pub(crate) fn kinds(&self) -> u32 {
        let Kinds {
            every_port,
            ftp,
            mark,
        } = self.kinds;
        let bit = |count: u32, bit: u32| if count > 0 { bit } else { 0 };
        bit(every_port, Config::EVERY_PORT) | bit(ftp, Config::FTP) | bit(mark, Config::MARK)
    }

    /// A free slot for a server.
    pub(crate) fn next_server(&self) -> Option<u32> {
        self.free_servers.first().copied()
    }

    /// A slot was given to a server: address and service are filled in.
    pub(crate) fn server_is_used(&mut self, at: u32, server: &Server) {
        self.free_servers.remove(&at);
        insert(&mut self.by_address, address_of(server), at);
        insert(&mut self.by_service, server.service.get(), at);
        *self.hop_users.entry(server.hop.get()).or_default() += 1;
    }

    /// A server is in no list any more.
    pub(crate) fn server_is_retired(&mut self, at: u32, server: &Server) {
        self.retired.insert(at);
        insert(&mut self.retired_by_address, address_of(server), at);
    }

    /// A retired server is in the list of this service, its own or another.
    pub(crate) fn server_is_revived(&mut self, at: u32, server: &Server, service: u32) {
        self.retired.remove(&at);
        remove(&mut self.retired_by_address, &address_of(server), at);
        remove(&mut self.by_service, &server.service.get(), at);
        insert(&mut self.by_service, service, at);
    }

    /// A retired server's slot is free again.
    pub(crate) fn server_is_freed(&mut self, at: u32, server: &Server) {
        let address = address_of(server);
        self.retired.remove(&at);
        self.changed_method.remove(&at);
        remove(&mut self.retired_by_address, &address, at);
        remove(&mut self.by_address, &address, at);
        remove(&mut self.by_service, &server.service.get(), at);
        self.leave_hop(server.hop.get());
        self.free_servers.insert(at);
    }

    /// Point a server at a next hop.
    pub(crate) fn set_hop(&mut self, server: &Server, hop: u32) {
        let before = server.hop.get();
        if before != hop {
            *self.hop_users.entry(hop).or_default() += 1;
            server.hop.set(hop);
            self.leave_hop(before);
        }
    }

    fn leave_hop(&mut self, hop: u32) {
        if let Some(users) = self.hop_users.get_mut(&hop) {
            *users -= 1;
            if *users == 0 {
                self.hop_users.remove(&hop);
            }
        }
    }

    /// Whether some server is at this next hop.
    pub(crate) fn is_hop_used(&self, hop: u32) -> bool {
        self.hop_users.contains_key(&hop)
    }

    /// Servers that wait for their last connection to end.
    pub(crate) fn retired(&self) -> impl Iterator<Item = u32> {
        self.retired.iter().copied()
    }

    /// Those of them with this address.
    pub(crate) fn retired_at(&self, address: &Address) -> impl Iterator<Item = u32> {
        self.retired_by_address
            .get(address)
            .into_iter()
            .flatten()
            .copied()
    }

    /// Servers with this address, retired ones too.
    pub(crate) fn at_address(&self, address: &Address) -> impl Iterator<Item = u32> {
        self.by_address.get(address).into_iter().flatten().copied()
    }

    /// Servers whose service this is, retired ones too.
    pub(crate) fn of_service(&self, service: u32) -> impl Iterator<Item = u32> {
        self.by_service.get(&service).into_iter().flatten().copied()
    }

    /// Every server's slot in use.
    pub(crate) fn servers(&self) -> impl Iterator<Item = u32> {
        self.by_service.values().flatten().copied()
    }

    /// Every address that a server has, and the servers that have it, retired ones too.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&Address, &BTreeSet<u32>)> {
        self.by_address.iter()
    }

    /// Servers that masquerade no more, and may have connections from when they did.
    pub(crate) fn changed_method(&mut self) -> &mut BTreeSet<u32> {
        &mut self.changed_method
    }
}

impl Kinds {
    fn of(&mut self, service: &Service) -> impl Iterator<Item = &mut u32> {
        let is_mark = service.flags.get() & Service::MARK != 0;
        let port = u16::from_be(service.port_protocol.get() as u16);
        let every_port = Some(&mut self.every_port).filter(|_| !is_mark && port == 0);
        let ftp = Some(&mut self.ftp).filter(|_| !is_mark && port == FTP_PORT);
        let mark = Some(&mut self.mark).filter(|_| is_mark);
        every_port.into_iter().chain(ftp).chain(mark)
    }
}

/// Port of FTP's control connections.
const FTP_PORT: u16 = 21;

/// A server's address as its slot holds it.
pub(crate) fn address_of(server: &Server) -> Address {
    let [b, c, d] = &server.address_rest;
    [server.address.get(), b.get(), c.get(), d.get()]
}

/// Whether a server is in its service's list.
pub(crate) fn is_listed(server: &Server) -> bool {
    server.flags.get() & Server::AVAILABLE != 0
}

fn insert<K: Eq + Hash>(sets: &mut HashMap<K, BTreeSet<u32>>, key: K, at: u32) {
    sets.entry(key).or_default().insert(at);
}

fn remove<K: Eq + Hash>(sets: &mut HashMap<K, BTreeSet<u32>>, key: &K, at: u32) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(&at);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
