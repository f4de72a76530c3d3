//! The sweeper: takes out connections whose time is up. A timer in the kernel runs it, so that entries
//! expire and counts stay true whether the daemon lives or not.

use crate::{
    connection::{self, Bucket, Position},
    tables::{Tables, ticks},
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
            sweep_bucket(tables, index, bucket, now);
        }
        index = index.wrapping_add(1) & mask;
        false
    });
    index
}

#[inline(always)]
fn sweep_bucket<T: Tables>(tables: &T, index: u32, bucket: &Bucket, now: u32) {
    let tags = bucket.tags.get();
    if tags == 0 {
        return;
    }
    for (lane, way) in bucket.ways.iter().enumerate() {
        let word = way.word.get();
        if tags >> (16 * lane) & 0xffff > 1 && is_over(way.expires.get(), now) {
            let position = Position::new(index, lane as u32);
            connection::remove(tables, position, word);
        }
    }
}

/// Whether a deadline has passed. Ticks wrap after months; deadlines are at most 31 days away.
#[inline(always)]
pub const fn is_over(deadline: u32, now: u32) -> bool {
    deadline.wrapping_sub(now) as i32 <= 0
}
