//! Weighted failover (`ip_vs_fo.c`): the server with the highest weight, all the time.

use super::walk::{Load, Merit};

#[inline(always)]
pub(super) fn judge(load: Load) -> Merit {
    Merit {
        cost: 1,
        share: load.weight,
        ramps: false,
    }
}
