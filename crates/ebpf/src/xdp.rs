//! The XDP hook.

use core::mem;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::{bpf_ktime_get_ns, bpf_redirect},
    macros::xdp,
    programs::XdpContext,
};
use furiwake_engine::{
    packet::{L4Change, Packet, Wire},
    pipeline::{self, Verdict},
    tables::{Hop, Tables},
};

use crate::maps::Maps;

/// A frame at XDP. `UNFINISHED`: it may come from a local socket whose checksum is unfinished.
struct Frame<const UNFINISHED: bool> {
    context: *mut xdp_md,
}

impl<const UNFINISHED: bool> Frame<UNFINISHED> {
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        // SAFETY: the context is valid while the program runs.
        let (start, end) = unsafe {
            (
                (*self.context).data as usize,
                (*self.context).data_end as usize,
            )
        };
        if start + offset + mem::size_of::<T>() > end {
            None
        } else {
            Some((start + offset) as *mut T)
        }
    }
}

impl<const UNFINISHED: bool> Packet for Frame<UNFINISHED> {
    const COMPLETE: bool = false;
    const FINAL: bool = false;
    const NEEDS: u32 = Hop::RESOLVED | Hop::XDP;
    const MAY_BE_UNFINISHED: bool = UNFINISHED;

    #[inline(always)]
    fn is_for_us<T: Tables>(&self, tables: &T) -> bool {
        // SAFETY: as above.
        let ifindex = unsafe { (*self.context).ingress_ifindex };
        let Some([head, tail]) = self.get::<[u32; 2]>(0) else {
            return false;
        };
        let Some(port) = tables.port(ifindex) else {
            return false;
        };
        port.is_destination(head, tail as u16)
    }
    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: as above.
        unsafe { ((*self.context).data_end - (*self.context).data) as usize }
    }
    #[inline(always)]
    fn segment_length(&self) -> Option<usize> {
        None
    }
    #[inline(always)]
    fn get<T: Wire>(&self, offset: usize) -> Option<T> {
        // SAFETY: `at` checked the bounds; any bytes are a `T`; this target reads words at any address.
        self.at::<T>(offset).map(|p| unsafe { *p })
    }
    #[inline(always)]
    fn put<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        // SAFETY: as for `get`; the frame is this program's alone.
        self.at::<T>(offset).map(|p| unsafe { *p = value })
    }
    #[inline(always)]
    fn load<T: Wire + Default>(&self, _offset: usize) -> Option<T> {
        None
    }
    #[inline(always)]
    fn store<T: Wire>(&mut self, _offset: usize, _value: T) -> Option<()> {
        None
    }
    #[inline(always)]
    fn store_checksum(&mut self, _offset: usize, _value: u16) -> Option<()> {
        None
    }
    #[inline(always)]
    fn fix_checksum(&mut self, offset: usize, change: &L4Change) -> Option<()> {
        let field = self.get::<u16>(offset)?;
        self.put(offset, change.apply(field))
    }
    #[inline(always)]
    fn fix_checksum_anywhere(&mut self, _offset: usize, _change: &L4Change) -> Option<()> {
        None
    }
    #[inline(always)]
    fn sum(&self, _offset: usize, _length: usize) -> Option<u64> {
        None
    }
    #[inline(always)]
    fn cut_and_push(&mut self, _keep: usize, _room: usize) -> Option<()> {
        None
    }
}

#[inline(always)]
fn run<const UNFINISHED: bool>(context: &XdpContext) -> u32 {
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*context.ctx).ingress_ifindex };
    let maps = Maps {
        context: context.ctx.cast(),
        ifindex,
    };
    let mut frame = Frame::<UNFINISHED> {
        context: context.ctx,
    };
    match pipeline::process(&mut frame, &maps) {
        Verdict::Drop(_) => xdp_action::XDP_DROP,
        // tc looks at it next.
        Verdict::Leave | Verdict::LeaveIcmp | Verdict::Pass(_) => xdp_action::XDP_PASS,
        Verdict::Stack(_) | Verdict::Reject(_) | Verdict::Neighbour(..) => xdp_action::XDP_PASS,
        Verdict::Redirect(out) if out == ifindex => xdp_action::XDP_TX,
        // SAFETY: the helper takes numbers.
        Verdict::Redirect(out) => unsafe { bpf_redirect(out, 0) as u32 },
    }
}

/// The engine on interfaces whose packets come from a wire.
#[xdp]
fn furiwake_xdp(context: XdpContext) -> u32 {
    run::<false>(&context)
}

/// The engine on interfaces where packets may come from a socket nearby, with unfinished checksums: veth, tun, generic
/// XDP.
#[xdp]
fn furiwake_xdp_unfinished(context: XdpContext) -> u32 {
    run::<true>(&context)
}

/// Puts jiffies and the monotonic clock in nanoseconds into its packet, for the daemon to learn how long a
/// jiffy is.
#[xdp]
fn furiwake_clock(context: XdpContext) -> u32 {
    let mut frame = Frame::<false> {
        context: context.ctx,
    };
    let maps = Maps {
        context: context.ctx.cast(),
        ifindex: 0,
    };
    let jiffies = maps.now();
    // SAFETY: the helper takes nothing and gives a number.
    let nanoseconds = unsafe { bpf_ktime_get_ns() };
    let words = [
        jiffies as u32,
        (jiffies >> 32) as u32,
        nanoseconds as u32,
        (nanoseconds >> 32) as u32,
    ];
    match frame.put(0, words) {
        Some(()) => xdp_action::XDP_PASS,
        None => xdp_action::XDP_ABORTED,
    }
}
