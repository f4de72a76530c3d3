//! Persistence: a client keeps its server for a while (`ip_vs_sched_persist`).

use super::{Request, lookup::FTP};
use crate::{
    connection::{self, Client, New, Peer, Position, SAME_PORT, template},
    settings,
    tables::{Config, NONE, Server, Service, Tables},
};

/// What became of the search for a template.
pub(super) enum Found {
    /// It, held.
    Held(Position),
    /// There is none, nor a server for a new one.
    NoServer,
    /// The table has no place for one.
    TableFull,
    /// Another processor was in the way.
    Raced,
}

/// The template for a request, held and with its time before it: the one that is there if its server is of use, or
/// else a new one for a server that the scheduler picks.
#[inline(always)]
pub(super) fn template<T: Tables>(
    tables: &T,
    config: &Config,
    index: u32,
    service: &Service,
    request: &Request,
    now: u32,
) -> Found {
    let client = request.client;
    let network = client.address() & service.netmask.get();
    let network = Client::network(network, client.protocol());
    // FTP's data has to go where its control connection went, and so has all that a service on every port gets.
    let port = request.peer.port();
    let is_for_port = service.port_protocol.get() as u16 == port && port != FTP;
    let port = if is_for_port { port } else { 0 };
    let peer = Peer::virtual_end(request.peer.address(), port);
    let seconds = service.persistence.get();
    let found = template::find(tables, network, peer);
    if let Some(entry) = found.entry(tables) {
        if is_of_use(tables, config, entry.way.server.get()) {
            template::renew(tables, config, found, seconds, now);
            return Found::Held(found);
        }
        template::give_up(entry.way);
        template::release(tables, found);
    }
    let server = request.pick(tables, index);
    if server == NONE {
        return Found::NoServer;
    }
    let new = New {
        client: network,
        peer,
        server,
        flags: if is_for_port { 0 } else { SAME_PORT },
        template: Position::NOWHERE,
        seconds,
    };
    let made = connection::insert(tables, &new, now);
    if made == Position::NOWHERE {
        return Found::TableFull;
    }
    match template::settle(tables, network, peer, made) {
        Position::NOWHERE => Found::Raced,
        position => Found::Held(position),
    }
}

/// Whether a template's server may have new connections: weight and thresholds do not matter to it, unless
/// `expire_quiescent_template` is set.
#[inline(always)]
fn is_of_use<T: Tables>(tables: &T, config: &Config, server: u32) -> bool {
    let Some(server) = tables.server(server) else {
        return false;
    };
    let expires = config.settings.get() & settings::EXPIRE_QUIESCENT_TEMPLATE != 0;
    server.flags.get() & Server::AVAILABLE != 0 && !(expires && server.weight.get() == 0)
}
