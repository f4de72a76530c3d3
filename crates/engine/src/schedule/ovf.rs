//! Weighted overflow (`ip_vs_ovf.c`): the server with the highest weight until it has more active connections than
//! that, then the next. Datagrams make no active connections: for UDP it is as fo.

use super::{
    fo,
    walk::{Load, Merit},
};

#[inline(always)]
pub(super) fn judge(load: Load) -> Merit {
    let merit = fo::judge(load);
    if load.active > load.weight {
        return Merit { share: 0, ..merit };
    }
    merit
}
