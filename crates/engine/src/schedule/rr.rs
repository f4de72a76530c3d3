//! Round robin: the next usable server after the last one picked, around the list (`ip_vs_rr.c`).
//!
//! That is wrr with one level that every weight reaches; only changes to the list are taken otherwise.

use core::num::NonZeroU32;

use super::turn::Levels;

/// One level.
pub(super) const LEVELS: Levels = Levels {
    divisor: NonZeroU32::MIN,
    mark: 1,
};
