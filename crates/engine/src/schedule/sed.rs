//! Shortest expected delay (`ip_vs_sed.c`): active connections and the one to come, for the weight. Inactive ones
//! do not count.

use super::walk::{Load, Merit};

#[inline(always)]
pub(super) fn judge(load: Load) -> Merit {
    Merit {
        cost: load.active as u64 + 1,
        share: load.weight,
        ramps: true,
    }
}
