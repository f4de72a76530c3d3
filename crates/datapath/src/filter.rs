//! The filter of addresses worth a look, made from the services and servers there are.
//!
//! `virtuals` has the address of every service: requests go there, and replies of servers that answer clients
//! themselves come from there. `servers` has the address of every server that masquerades, as its replies come from it.

use furiwake_engine::{
    shared::Shared64,
    tables::{FILTER_WORDS, Filter, Server, Service},
};

use crate::load::Maps;

/// Set and clear what follows from the slots in use. A bit that is needed is never cleared on the way.
///
/// As in IPVS, whose hooks go with the last service, nothing is looked at when there is none left; otherwise
/// removed services and servers count as long as they may have connections.
pub(crate) fn refresh(maps: &Maps) {
    let filter = &maps.filter[0];
    let is_any_left = maps.index.is_any_service_left();
    let services = maps.service.iter();
    let services = services.filter(|s| is_any_left && s.flags.get() & Service::USED != 0);
    let servers = maps.index.servers().map(|at| &maps.server[at as usize]);
    let servers = servers.filter(|s| is_any_left && s.flags.get() & Server::REPLIES != 0);
    write(&filter.virtuals, services.map(|s| s.address.get()));
    write(&filter.servers, servers.map(|s| s.address.get()));
}

/// Look at what a service that is being added gets.
pub(crate) fn add_service(maps: &Maps, service: &Service) {
    set(&maps.filter[0].virtuals, service.address.get());
}

/// Look at what a server sends that is being added, or has begun to masquerade.
pub(crate) fn add_server(maps: &Maps, server: &Server) {
    if server.flags.get() & Server::REPLIES != 0 && maps.index.is_any_service_left() {
        set(&maps.filter[0].servers, server.address.get());
    }
}

fn set(words: &[Shared64; FILTER_WORDS], address: u32) {
    let (word, bit) = Filter::place(address);
    if let Some(cell) = words.get(word) {
        cell.set(cell.get() | 1 << bit);
    }
}

fn write(words: &[Shared64; FILTER_WORDS], addresses: impl Iterator<Item = u32>) {
    let mut wanted = [0u64; FILTER_WORDS];
    for address in addresses {
        let (word, bit) = Filter::place(address);
        wanted[word] |= 1 << bit;
    }
    for (word, wanted) in words.iter().zip(wanted) {
        if word.get() != wanted {
            word.set(wanted);
        }
    }
}
