//! Upper and lower thresholds: a server with too many connections gets no new ones for a while (`ip_vs_bind_dest`,
//! `ip_vs_unbind_dest`).

use crate::tables::{Counts, Server};

/// Mark a server that has so many connections now, one of which is new, if they are too many.
#[inline(always)]
pub fn bound(server: &Server, counts: &Counts, total: u32) {
    let upper = server.upper.get();
    if upper == 0 || total < upper {
        return;
    }
    counts.overloaded.replace(0, 1);
    // Others may have ended since; who ended them saw no mark.
    if is_below(server, counts.total.get()) {
        counts.overloaded.replace(1, 0);
    }
}

/// Take the mark off a server that a connection was taken off, if it has few enough.
#[inline(always)]
pub fn released(server: &Server, counts: &Counts) {
    if counts.overloaded.get() == 0 || !is_below(server, counts.total.get()) {
        return;
    }
    counts.overloaded.replace(1, 0);
    let upper = server.upper.get();
    if upper != 0 && counts.total.get() >= upper {
        counts.overloaded.replace(0, 1);
    }
}

/// Count a connection that lasts for one packet, as far as thresholds are concerned.
#[inline(always)]
pub fn passed(server: &Server, counts: &Counts) {
    if server.upper.get() == 0 {
        return;
    }
    let total = counts.total.add(1).wrapping_add(1);
    bound(server, counts, total);
    counts.total.add(u32::MAX);
    released(server, counts);
}

/// Whether an overloaded server may have new connections again. Without a lower threshold three quarters of the
/// upper one take its place.
#[inline(always)]
fn is_below(server: &Server, total: u32) -> bool {
    match (server.lower.get(), server.upper.get()) {
        (0, 0) => true,
        (0, upper) => (total as u64) * 4 < (upper as u64) * 3,
        (lower, _) => total < lower,
    }
}
