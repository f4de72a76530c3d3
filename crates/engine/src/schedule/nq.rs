//! Never queue (`ip_vs_nq.c`): the first server that has nothing to do; if all have, as sed.

use super::{
    sed,
    walk::{Load, Merit},
};

#[inline(always)]
pub(super) fn judge(load: Load) -> Merit {
    let merit = sed::judge(load);
    if load.active == 0 {
        return Merit { cost: 0, ..merit };
    }
    merit
}
