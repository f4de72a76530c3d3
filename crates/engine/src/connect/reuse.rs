//! When a connection makes room for a new one of the same client, address and port (`ip_vs_in`).

use crate::{
    connection::{self, CONTROLLED, Entry},
    settings,
    state::{SYN, State},
    tables::{Config, Server, Tables},
    transmit::MASQUERADE,
};

/// End the connection that a packet was found to belong to, if that is due: its server is gone and such connections
/// end with their next packet (`expire_nodest_conn`), or the packet asks for a new one and may have it.
#[inline(always)]
pub(super) fn gives_way<T: Tables>(
    tables: &T,
    config: &Config,
    entry: &Entry<'_>,
    flags: u8,
) -> bool {
    let Some(server) = tables.server(entry.way.server.get()) else {
        return false;
    };
    let word = entry.way.word.get();
    let expires = config.settings.get() & settings::EXPIRE_NODEST_CONN != 0;
    let is_gone = server.flags.get() & Server::AVAILABLE == 0;
    let is_quiesced = server.weight.get() == 0;
    let is_asked =
        flags & SYN != 0 && (expires && is_quiesced || is_over(word, config.conn_reuse_mode.get()));
    (expires && is_gone || is_asked) && connection::remove(tables, entry.position, word)
}

/// Whether a connection is over, so that a request for one on the same address and port is for a new one (setting
/// `conn_reuse_mode`; `is_new_conn_expected`). What a template controls stays with its server.
#[inline(always)]
const fn is_over(word: u32, mode: u32) -> bool {
    if mode == 0 || word & CONTROLLED != 0 {
        return false;
    }
    let state = connection::state_of(word);
    // Of a connection whose answers take another way the client's end is the only one that is seen.
    let is_half_seen =
        connection::method_of(word) != MASQUERADE && word & connection::ANSWERED == 0;
    state == State::TimeWait as u8
        || state == State::Close as u8
        || mode & 2 != 0 && state == State::FinWait as u8 && is_half_seen
}
