//! What a connection learns from its packets: state, deadline, whether its client is in earnest.

use crate::{
    connection::{self, Entry, Position, template},
    hidden::hidden,
    shared::Shared64,
    state::{self, ACK, Direction, Side, State},
    tables::{Config, Tables},
};

/// What is to be known of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which way it goes.
    pub direction: Direction,
    /// TCP flags; of UDP [`ACK`]: every datagram may be an answer to one.
    pub flags: u8,
}

impl Seen {
    /// As a number.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.flags as u32 | (self.direction as u32) << 8
    }

    /// From its number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        let direction = if number >> 8 & 1 == 0 {
            Direction::In
        } else {
            Direction::Out
        };
        Self {
            direction,
            flags: number as u8,
        }
    }
}

/// What [`Tables::learn`] does.
#[inline(always)]
pub fn learn<T: Tables>(tables: &T, position: Position, packet: Seen, now: u32) {
    if let (Some(config), Some(entry)) = (tables.config(), position.entry(tables)) {
        from_packet(tables, config, &entry, packet, now);
    }
}

/// Move an entry's state and deadline for a packet.
#[inline(always)]
pub(crate) fn from_packet<T: Tables>(
    tables: &T,
    config: &Config,
    entry: &Entry<'_>,
    packet: Seen,
    now: u32,
) {
    let way = entry.way;
    for _ in 0..4 {
        let seen = way.word.get();
        let old = connection::state_of(seen);
        if old == connection::DEAD {
            return;
        }
        let (side, shown) = learned(seen, packet.direction, packet.flags);
        let index = hidden(state::row_index(side, packet.flags));
        let Some(row) = config.transitions.get(index).map(Shared64::get) else {
            return;
        };
        let state = state::next_in(row, old);
        let next = connection::with_state(seen, state) | shown;
        if next == seen || connection::change(tables, way, seen, next) {
            let deadline = now.wrapping_add(config.timeouts[(state & 31) as usize].get());
            // The line is not dirtied for less than an eighth of a second.
            if deadline.wrapping_sub(way.expires.get()).wrapping_add(16) > 32 {
                way.expires.set(deadline);
            }
            // A word of UDP changes only once the server has answered.
            let is_earnest = state == State::Established as u8 || state == State::Udp as u8;
            if is_earnest && next != seen && seen & connection::CONTROLLED != 0 {
                template::assure(tables, entry.position);
            }
            return;
        }
    }
}

/// Which column of the table of states a packet goes by, and the flags that it adds to its connection's word. Numbers,
/// not branches: the verifier would follow each.
#[inline(always)]
const fn learned(seen: u32, direction: Direction, flags: u8) -> (u32, u32) {
    if let Direction::Out = direction {
        return (Side::Out as u32, connection::ANSWERED);
    }
    /// Of TCP a plain ACK: what opens or ends a connection is sent blindly with as little effort.
    const PLAIN: u32 = 1 << state::combination(ACK);
    /// States of TCP that a client's packet led to.
    const SPOKEN: u32 = 0x7fe;
    let answered = seen >> connection::ANSWERED.trailing_zeros() & 1;
    // Direct routing and tunnels: answers do not come this way, or not yet.
    let elsewhere = (connection::method_of(seen) as u32 + 7) >> 3 & 1 & !answered;
    let is_plain = PLAIN >> state::combination(flags) & 1;
    // Who goes on is taken for one who gets those answers.
    let goes_on = elsewhere & SPOKEN >> connection::state_of(seen);
    let confirmed = is_plain & (answered | goes_on);
    (
        Side::InOnly as u32 * elsewhere,
        confirmed << connection::CONFIRMED.trailing_zeros(),
    )
}
