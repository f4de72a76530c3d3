//! Entries change and leave the table. Who succeeds in changing an entry's word counts.

use super::{
    CONFIRMED, CONTROLLED, Client, DEAD, Place, Position, TEMPLATE, Way, state_of, template,
};
use crate::{
    state::{self, State},
    tables::Tables,
    threshold,
};

/// Whether an entry may be put out when there is no room otherwise: a connection whose client has not shown that it
/// is where it says (an answer alone shows nothing, it goes to whoever's address was given), or that is over; a
/// template that no connection made good.
#[inline(always)]
pub const fn is_half_open(word: u32) -> bool {
    if word & TEMPLATE != 0 {
        return state_of(word) == State::TemplateNone as u8;
    }
    word & CONFIRMED == 0 || LASTING >> (state_of(word) & 31) & 1 == 0
}

/// States in which a confirmed connection is kept.
const LASTING: u32 = 1 << State::Established as u32
    | 1 << State::FinWait as u32
    | 1 << State::CloseWait as u32
    | 1 << State::LastAck as u32
    | 1 << State::Udp as u32;

/// Take an entry out, if its word is still `seen`, and count it off. False when somebody was faster, or when it is a
/// template that is held.
#[inline(always)]
pub fn remove<T: Tables>(tables: &T, position: Position, seen: u32) -> bool {
    tables.take_out(position, seen)
}

/// What [`Tables::take_out`] does.
#[inline(always)]
pub fn take_out<T: Tables>(tables: &T, position: Position, seen: u32) -> bool {
    let (Some(config), Some(entry)) = (tables.config(), position.entry(tables)) else {
        return false;
    };
    let way = entry.way;
    if state_of(seen) == DEAD || seen & TEMPLATE != 0 && way.hop.get() != 0 {
        return false;
    }
    if !way.word.replace(seen, seen | DEAD as u32) {
        return false;
    }
    if seen & TEMPLATE != 0 && way.hop.get() != 0 {
        // Somebody came to hold it in between, or is about to see that it is dead.
        way.word.set(seen);
        return false;
    }
    if seen & CONTROLLED != 0 {
        template::let_go(tables, position);
    } else if seen & TEMPLATE != 0 {
        tables.set_link(position.number(), None);
    }
    if let (Some(counts), Some(server)) = (
        tables.counts(way.server.get()),
        tables.server(way.server.get()),
    ) {
        if state::is_active(state_of(seen)) {
            counts.active.add(u32::MAX);
        }
        if seen & TEMPLATE != 0 {
            counts.persistent.add(u32::MAX);
        } else {
            counts.total.add(u32::MAX);
        }
        threshold::released(server, counts);
    }
    let place = Place::of(Client::of(way, seen), config.seed.get());
    let home = place.bucket(0, config.bucket_mask.get());
    if home != entry.position.bucket()
        && let Some(home) = tables.bucket(home)
    {
        home.spilled.add(u32::MAX);
    }
    entry
        .bucket
        .tags
        .add((place.tag << (16 * entry.position.lane())).wrapping_neg());
    true
}

/// Change an entry's word and count a step over the line between active and inactive. False when the entry
/// changed meanwhile.
#[inline(always)]
pub fn change<T: Tables>(tables: &T, way: &Way, seen: u32, next: u32) -> bool {
    // Before: once the word is changed others may take the entry out and give the way to another.
    let server = way.server.get();
    if !way.word.replace(seen, next) {
        return false;
    }
    let was = state::is_active(state_of(seen));
    let is = state::is_active(state_of(next));
    if was != is
        && let Some(counts) = tables.counts(server)
    {
        counts.active.add(if is { 1 } else { u32::MAX });
    }
    true
}
