//! Fewest connections (`ip_vs_lc.c`). Weights mean nothing but zero or not.

use super::{
    overhead,
    walk::{Load, Merit},
};

#[inline(always)]
pub(super) fn judge(load: Load) -> Merit {
    Merit {
        cost: overhead(load.active, load.total),
        share: 1,
        ramps: true,
    }
}
