//! Fewest connections for its weight (`ip_vs_wlc.c`), the scheduler that ipvsadm takes if none is named.

use super::{
    overhead,
    walk::{Load, Merit},
};

#[inline(always)]
pub(super) fn judge(load: Load) -> Merit {
    Merit {
        cost: overhead(load.active, load.total),
        share: load.weight,
        ramps: true,
    }
}
