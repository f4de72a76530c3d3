//! Persistence templates: entries that say which server a network of clients has (`ip_vs_sched_persist`).
//!
//! A template's [`Way::hop`] counts the connections that it controls. While there are any, or somebody is about to
//! make one, it is held: it is not taken out. Its [`Link`] says how many seconds it lives, which
//! its service may have changed since; that of a connection says which template controls it.

use super::{
    CONTROLLED, Client, DEAD, Peer, Position, SAME_PORT, TEMPLATE, Way, find_from, last, pair,
    remove, state_of, tenancy_of, with_state,
};
use crate::{
    state::State,
    sweep,
    tables::{Config, Link, Tables},
};

/// Virtual port of a template that was given up. What looks for port 65535 does not find it, see [`has_port`].
const GIVEN_UP: u16 = u16::MAX;

/// Seconds that a template lives on whose time is up while it controls connections, then and from then on.
const LIVES_ON: u32 = 60;
/// With the seconds in a template's link: it has lived on since a connection was made by it.
const LIVED_ON: u32 = 1 << 31;

/// Whether a template's port at the server is what it is with this virtual port: the same when it is for every port.
#[inline(always)]
pub(super) const fn has_port(word: u32, port: u16) -> bool {
    (word & SAME_PORT != 0) == (port == 0)
}

/// Find a template and hold it: [`release`] must follow, or a connection that it controls.
#[inline(always)]
pub fn find<T: Tables>(tables: &T, network: Client, peer: Peer) -> Position {
    let position = find_from(tables, network, peer, Position::NOWHERE, 0);
    match position.entry(tables) {
        Some(entry) if hold(entry.way) => position,
        _ => Position::NOWHERE,
    }
}

/// Hold a template. False when it was taken out.
///
/// Counted first, looked at then: who takes it out says so first and looks at the count then.
#[inline(always)]
fn hold(way: &Way) -> bool {
    let before = way.word.get();
    if before & TEMPLATE == 0 {
        return false;
    }
    way.hop.add(1);
    let word = way.word.get();
    if tenancy_of(word) == tenancy_of(before) && state_of(word) != DEAD {
        return true;
    }
    way.hop.add(u32::MAX);
    false
}

/// Hold a template no longer.
#[inline(always)]
pub fn release<T: Tables>(tables: &T, held: Position) {
    if let Some(entry) = held.entry(tables) {
        entry.way.hop.add(u32::MAX);
    }
}

/// As [`settle`](super::settle) for a template that was just made; gives the one that is to be used, held.
#[inline(always)]
pub fn settle<T: Tables>(tables: &T, network: Client, peer: Peer, ours: Position) -> Position {
    tables.make_sure_of_template(network, peer, ours)
}

/// What [`Tables::make_sure_of_template`] does.
#[inline(always)]
pub fn make_sure<T: Tables>(tables: &T, network: Client, peer: Peer, ours: Position) -> Position {
    let Some(entry) = ours.entry(tables) else {
        return Position::NOWHERE;
    };
    if find_from(tables, network, peer, ours, 0) == Position::NOWHERE {
        return ours;
    }
    let word = entry.way.word.get();
    release(tables, ours);
    remove(tables, ours, word);
    // Ours, should another processor hold it already.
    find(tables, network, peer)
}

/// Have a template that is held live its time from now on.
#[inline(always)]
pub fn renew<T: Tables>(tables: &T, config: &Config, held: Position, otherwise: u32, now: u32) {
    let mut seconds = otherwise;
    if let Some(mut link) = tables.link(held.number()) {
        seconds = link.position & !LIVED_ON;
        if link.position != seconds {
            link.position = seconds;
            tables.set_link(held.number(), Some(link));
        }
    }
    if let Some(entry) = held.entry(tables) {
        let life = seconds.wrapping_mul(config.ticks_per_second.get());
        entry.way.expires.set(now.wrapping_add(life));
    }
}

/// Whether the time of a template is up; one that controls connections lives on (`ip_vs_conn_expire`).
///
/// Connections may end in the same second, and it is theirs to end first, unless the template has lived on before.
/// That is what becomes of the kernel's timers, of which those that were set last go first.
#[inline(always)]
pub fn is_over<T: Tables>(
    tables: &T,
    config: &Config,
    position: Position,
    way: &Way,
    now: u32,
) -> bool {
    let second = config.ticks_per_second.get();
    let expires = way.expires.get();
    if !sweep::is_over(expires.wrapping_sub(second), now) {
        return false;
    }
    if way.hop.get() == 0 {
        return sweep::is_over(expires, now);
    }
    let has_lived_on = match tables.link(position.number()) {
        Some(link) => link.position & LIVED_ON != 0,
        None => false,
    };
    if has_lived_on || sweep::is_over(expires.wrapping_add(second), now) {
        let life = LIVES_ON.wrapping_mul(second);
        // Not when a connection has renewed it meanwhile.
        if way.expires.replace(expires, expires.wrapping_add(life)) {
            let link = Link {
                position: LIVES_ON | LIVED_ON,
                tenancy: tenancy_of(way.word.get()),
            };
            tables.set_link(position.number(), Some(link));
        }
    }
    false
}

/// Have a template be found no more (`ip_vs_check_template`). It keeps what it controls.
#[inline(always)]
pub fn give_up(way: &Way) {
    if last(way.ports.get()) == GIVEN_UP && way.word.get() & SAME_PORT != 0 {
        return;
    }
    for _ in 0..4 {
        let seen = way.word.get();
        if way.word.replace(seen, seen | SAME_PORT) {
            break;
        }
    }
    way.ports.set(pair(0, GIVEN_UP));
}

/// Tell the template of a connection that the connection is in earnest.
#[inline(always)]
pub fn assure<T: Tables>(tables: &T, connection: Position) {
    tables.tell_template(connection);
}

/// What [`Tables::tell_template`] does.
#[inline(always)]
pub fn tell<T: Tables>(tables: &T, connection: Position) {
    let Some(way) = of(tables, connection) else {
        return;
    };
    for _ in 0..2 {
        let seen = way.word.get();
        if state_of(seen) != State::TemplateNone as u8
            || way
                .word
                .replace(seen, with_state(seen, State::TemplateAssured as u8))
        {
            return;
        }
    }
}

/// Take an entry out before its time. A template that is in no earnest goes with the last connection that it controls
/// (`ip_vs_conn_del`).
#[inline(always)]
pub fn remove_with_connection<T: Tables>(tables: &T, position: Position, seen: u32) {
    let link = match seen & CONTROLLED {
        0 => None,
        _ => tables.link(position.number()),
    };
    if !remove(tables, position, seen) {
        return;
    }
    if let Some(link) = link
        && let Some(way) = linked(tables, link)
    {
        let word = way.word.get();
        if state_of(word) == State::TemplateNone as u8 {
            remove(tables, Position::from_number(link.position), word);
        }
    }
}

/// Take a connection, which ends, off its template.
#[inline(always)]
pub(super) fn let_go<T: Tables>(tables: &T, connection: Position) {
    if let Some(way) = of(tables, connection) {
        way.hop.add(u32::MAX);
    }
    tables.set_link(connection.number(), None);
}

/// The template of a connection.
#[inline(always)]
fn of<T: Tables>(tables: &T, connection: Position) -> Option<&Way> {
    linked(tables, tables.link(connection.number())?)
}

#[inline(always)]
fn linked<T: Tables>(tables: &T, link: Link) -> Option<&Way> {
    let entry = Position::from_number(link.position).entry(tables)?;
    let word = entry.way.word.get();
    (word & TEMPLATE != 0 && tenancy_of(word) == link.tenancy).then_some(entry.way)
}

#[cfg(test)]
mod tests;
