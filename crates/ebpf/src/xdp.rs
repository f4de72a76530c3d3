//! The XDP hook.

use core::mem;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::{bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_head},
    macros::xdp,
    programs::XdpContext,
};
use furiwake_engine::{
    connect,
    packet::{L4Change, Packet, Wire, Wrap},
    pipeline::{self, Verdict},
    tables::{Hop, NONE, Tables},
    tunnel,
};

use crate::maps::{Maps, PASSAGE, XDP_CONNECT, XDP_SEND, XDP_STAGE, XDP_TUNNEL};

/// A frame at XDP. `UNFINISHED`: it may come from a local socket whose checksum is unfinished.
struct Frame<const UNFINISHED: bool> {
    context: *mut xdp_md,
    /// Whether the stage that connects has seen it.
    is_chosen: bool,
}

impl<const UNFINISHED: bool> Frame<UNFINISHED> {
    #[inline(always)]
    fn new(context: &XdpContext, is_chosen: bool) -> Self {
        Self {
            context: context.ctx,
            is_chosen,
        }
    }

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
    fn chosen_server(&self) -> u32 {
        match (self.is_chosen, PASSAGE.get(0)) {
            (true, Some(passage)) => passage.server.get(),
            _ => NONE,
        }
    }
    #[inline(always)]
    fn is_chosen(&self) -> bool {
        self.is_chosen
    }
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
    #[inline(always)]
    fn wrap(&mut self, _wrap: Wrap, room: usize) -> Option<()> {
        // SAFETY: the helper takes the context and a number.
        let result = unsafe { bpf_xdp_adjust_head(self.context, -(room as i32)) };
        (result == 0).then_some(())
    }
    #[inline(always)]
    fn put_summed<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        self.put(offset, value)
    }
    #[inline(always)]
    fn unwrap(&mut self, _bytes: usize) -> Option<()> {
        None
    }
    #[inline(always)]
    fn send_front(&mut self, _headers: usize, _piece: usize, _ifindex: u32) -> Option<()> {
        None
    }
}

/// The engine on interfaces whose packets come from a wire.
#[xdp]
fn furiwake_xdp(context: XdpContext) -> u32 {
    run::<false>(&context, false)
}

/// The engine on interfaces where packets may come from a socket nearby, with unfinished checksums: veth, tun, generic
/// XDP.
#[xdp]
fn furiwake_xdp_unfinished(context: XdpContext) -> u32 {
    run::<true>(&context, false)
}

/// Makes connections.
#[xdp]
fn furiwake_xdp_connect(context: XdpContext) -> u32 {
    let mut frame = Frame::<false>::new(&context, false);
    let verdict = connect::process(&mut frame, &maps(&context));
    end(&context, verdict)
}

/// Sends packets that the stage that connects has seen.
#[xdp]
fn furiwake_xdp_send(context: XdpContext) -> u32 {
    run::<false>(&context, true)
}

/// Wraps packets for tunnels.
#[xdp]
fn furiwake_xdp_tunnel(context: XdpContext) -> u32 {
    let Some(passage) = PASSAGE.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    let mut frame = Frame::<false>::new(&context, false);
    let verdict = tunnel::process(&mut frame, &maps(&context), passage.server.get());
    end(&context, verdict)
}

#[inline(always)]
fn run<const UNFINISHED: bool>(context: &XdpContext, is_chosen: bool) -> u32 {
    let mut frame = Frame::<UNFINISHED>::new(context, is_chosen);
    let verdict = pipeline::process(&mut frame, &maps(context));
    end(context, verdict)
}

#[inline(always)]
fn maps(context: &XdpContext) -> Maps {
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*context.ctx).ingress_ifindex };
    Maps {
        context: context.ctx.cast(),
        ifindex,
    }
}

#[inline(always)]
fn end(context: &XdpContext, verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Drop(_) => xdp_action::XDP_DROP,
        // SAFETY: the map holds programs of this type; where it does not, the call returns, and tc does it all.
        Verdict::Connect => unsafe { next(context, XDP_CONNECT) },
        Verdict::Send(server) => {
            if let Some(passage) = PASSAGE.get(0) {
                passage.server.set(server);
            }
            // SAFETY: as above.
            unsafe { next(context, XDP_SEND) }
        }
        Verdict::Encapsulate(server) => {
            if let Some(passage) = PASSAGE.get(0) {
                passage.server.set(server);
            }
            // SAFETY: as above. A packet that was counted and changed already must not be seen anew.
            unsafe { XDP_STAGE.tail_call(context, XDP_TUNNEL) };
            xdp_action::XDP_DROP
        }
        // tc looks at it next.
        Verdict::Leave | Verdict::LeaveIcmp | Verdict::Pass(_) => xdp_action::XDP_PASS,
        Verdict::Stack(_) | Verdict::Reject(_) | Verdict::Neighbour(..) => xdp_action::XDP_PASS,
        // Not XDP_TX where it came in: veth then wakes the other end only if that has a program, too.
        // SAFETY: the helper takes numbers.
        Verdict::Redirect(out) => unsafe { bpf_redirect(out, 0) as u32 },
    }
}

/// End in another program.
///
/// # Safety
/// The map must hold programs of this type.
#[inline(always)]
unsafe fn next(context: &XdpContext, stage: u32) -> u32 {
    // SAFETY: as the caller says.
    unsafe { XDP_STAGE.tail_call(context, stage) };
    xdp_action::XDP_PASS
}

/// Puts jiffies and the monotonic clock in nanoseconds into its packet, for the daemon to learn how long a
/// jiffy is.
#[xdp]
fn furiwake_clock(context: XdpContext) -> u32 {
    let mut frame = Frame::<false>::new(&context, false);
    let jiffies = maps(&context).now();
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
