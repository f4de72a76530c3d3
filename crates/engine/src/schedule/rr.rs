//! Round robin: the next usable server after the last one picked, around the list (`ip_vs_rr.c`).

use super::{TRIES, WALK, is_eligible};
use crate::tables::{NONE, Service, Tables, pack};

/// Pick a server, or [`NONE`] when none is usable.
#[inline(always)]
pub fn pick<T: Tables>(tables: &T, index: u32, service: &Service) -> u32 {
    let Some(state) = tables.scheduler_state(index) else {
        return NONE;
    };
    for turn in 0..TRIES {
        let seen = state.0.get();
        let picked = next(tables, service, seen as u32);
        if picked == NONE || turn == TRIES - 1 || state.0.replace(seen, pack(picked, 0)) {
            return picked;
        }
    }
    NONE
}

/// The usable server that follows `last`; after the end of the list comes its head.
#[inline(always)]
fn next<T: Tables>(tables: &T, service: &Service, last: u32) -> u32 {
    let mut at = last;
    let mut picked = NONE;
    let mut ends = 0;
    tables.repeat(2 * WALK, || {
        at = match tables.server(at) {
            Some(server) => server.next.get(),
            None => service.head.get(),
        };
        match tables.server(at) {
            Some(server) if is_eligible(server) => {
                picked = at;
                true
            }
            Some(_) => false,
            // Past the end: once because the walk began in the middle, twice when nothing is usable.
            None => {
                ends += 1;
                ends >= 2
            }
        }
    });
    picked
}
