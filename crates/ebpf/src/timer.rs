//! The sweeper's timer: expiry runs in the kernel, whether a daemon lives or not.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_timer_init, bpf_timer_set_callback, bpf_timer_start},
    macros::xdp,
    programs::XdpContext,
};
use furiwake_engine::{sweep, tables::Tables};

use crate::maps::{Maps, SWEEPER, Sweeper};

/// `-EBUSY`: the timer is there already, as after a restart of the daemon.
const BUSY: i64 = -16;
const CLOCK_MONOTONIC: u64 = 1;
const FIRST_NS: u64 = 1_000_000;

/// Start the sweeper, or hand it over to this program when an earlier one runs it. The daemon runs this
/// once by `BPF_PROG_TEST_RUN`.
#[xdp]
fn furiwake_sweep(_context: XdpContext) -> u32 {
    let Some(sweeper) = SWEEPER.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: the timer lies in the map that is named; the callback has the signature that the kernel calls.
    let started = unsafe {
        let timer = &raw mut (*sweeper).timer;
        let made = bpf_timer_init(
            timer,
            ptr::from_ref(&SWEEPER).cast_mut().cast(),
            CLOCK_MONOTONIC,
        );
        (made == 0 || made == BUSY)
            && bpf_timer_set_callback(timer, step as *mut c_void) == 0
            && bpf_timer_start(timer, FIRST_NS, 0) == 0
    };
    if started {
        xdp_action::XDP_PASS
    } else {
        xdp_action::XDP_ABORTED
    }
}

#[inline(never)]
extern "C" fn step(_map: *mut c_void, _key: *mut u32, sweeper: *mut Sweeper) -> i64 {
    let maps = Maps::WITHOUT_PACKET;
    // SAFETY: the kernel passes the map value that the timer lies in; one processor at a time runs this.
    unsafe {
        (*sweeper).position = sweep::sweep(&maps, (*sweeper).position);
        (*sweeper).steps = (*sweeper).steps.wrapping_add(1);
        let interval = maps.config().map_or(FIRST_NS, |config| {
            config.sweep_interval_ns.get().max(FIRST_NS)
        });
        bpf_timer_start(&raw mut (*sweeper).timer, interval, 0);
    }
    0
}
