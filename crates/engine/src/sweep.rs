//! The sweeper: takes out entries whose time is up, and others where settings say so. A timer in the kernel runs it,
//! so that entries expire and counts stay true whether the daemon lives or not.

use crate::{
    connection::{self, Bucket, Position, TEMPLATE, Way, template},
    settings,
    state::State,
    tables::{Config, Server, Tables, ticks},
};

/// Look at as many buckets as the settings say, from `from` on; gives where the next step begins.
#[inline(always)]
pub fn sweep<T: Tables>(tables: &T, from: u32) -> u32 {
    let Some(config) = tables.config() else {
        return 0;
    };
    let now = ticks(tables.now(), config);
    let mask = config.bucket_mask.get();
    let mut index = from & mask;
    tables.repeat(config.sweep_step.get(), || {
        if let Some(bucket) = tables.bucket(index) {
            sweep_bucket(tables, config, index, bucket, now);
        }
        index = index.wrapping_add(1) & mask;
        false
    });
    index
}

#[inline(always)]
fn sweep_bucket<T: Tables>(tables: &T, config: &Config, index: u32, bucket: &Bucket, now: u32) {
    let tags = bucket.tags.get();
    if tags == 0 {
        return;
    }
    for (lane, way) in bucket.ways.iter().enumerate() {
        if tags >> (16 * lane) & 0xffff > 1 {
            sweep_way(tables, config, Position::new(index, lane as u32), way, now);
        }
    }
}

/// Take an entry out if its time is up, or if a setting says so.
#[inline(always)]
fn sweep_way<T: Tables>(tables: &T, config: &Config, position: Position, way: &Way, now: u32) {
    let word = way.word.get();
    let is_over = if word & TEMPLATE != 0 {
        template::is_over(tables, config, position, way, now)
    } else {
        is_over(way.expires.get(), now)
    };
    if is_over {
        connection::remove(tables, position, word);
        return;
    }
    let settings = config.settings.get();
    if settings & (settings::EXPIRE_NODEST_CONN | settings::DROP_ENTRY) == 0 {
        return;
    }
    let is_abandoned = settings & settings::EXPIRE_NODEST_CONN != 0
        && tables
            .server(way.server.get())
            .is_some_and(|server| server.flags.get() & Server::AVAILABLE == 0);
    let is_unlucky = settings & settings::DROP_ENTRY != 0
        && is_droppable(word)
        && tables.random() & (DROPPED_OF - 1) == 0;
    if is_abandoned || is_unlucky {
        template::remove_with_connection(tables, position, word);
    }
}

/// One in so many entries that may be dropped is, in each round of a second (`ip_vs_random_dropentry`).
const DROPPED_OF: u32 = 32;

/// Whether `drop_entry` may take an entry out: a connection that the client asked for and did not confirm, a template
/// without an established one. IPVS besides takes out some that passed a few packets and are idle; here they stay.
#[inline(always)]
const fn is_droppable(word: u32) -> bool {
    let state = connection::state_of(word);
    state == State::SynRecv as u8
        || state == State::SynAck as u8
        || state == State::TemplateNone as u8
}

/// Whether a deadline has passed. Ticks wrap after months; deadlines are at most 31 days away.
#[inline(always)]
pub const fn is_over(deadline: u32, now: u32) -> bool {
    deadline.wrapping_sub(now) as i32 <= 0
}
