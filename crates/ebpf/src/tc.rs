//! The tc hook: every packet, also what XDP left.

use core::{
    mem::{self, MaybeUninit},
    ptr,
};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L4_GRE,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_MARK_MANGLED_0,
        BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh,
    },
    helpers::{
        bpf_clone_redirect, bpf_csum_diff, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh,
        bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data,
        bpf_skb_store_bytes,
    },
    macros::classifier,
    programs::TcContext,
};
use furiwake_engine::{
    connect, icmp,
    packet::{ETH, IP, L4Change, Packet, UDP, Wire, Wrap},
    pipeline::{self, Verdict},
    reject::{Complaint, reject},
    tables::{Hop, NONE, Tables},
    tunnel,
};

use crate::maps::{
    COMPLETE, CONNECT, ICMP, MOVE, MOVED, Maps, REJECT, SEND, STAGE, TUNNEL, repeat, zero,
};

/// A socket buffer at tc. `COMPLETE`: in the stage for everything.
struct Buffer<const COMPLETE: bool> {
    skb: *mut __sk_buff,
    /// Whether the stage that connects has seen it; [`CHOSEN_SERVER`] holds something then.
    is_chosen: bool,
}

/// Word of the control block: what to say, of a packet to be answered with an error.
const COMPLAINT: usize = 0;
/// Word of the control block: the MTU that belongs to it; of a packet to be wrapped, the server.
const ARGUMENT: usize = 1;
/// Word of the control block: whether the stage that connects has seen the packet.
const IS_CHOSEN: usize = 2;
/// Word of the control block: the server that it chose.
const CHOSEN_SERVER: usize = 3;

/// Bytes that direct access must reach: Ethernet, IP and TCP header without options.
const HEADERS: u32 = 54;

/// Bytes summed at a time.
const CHUNK: usize = 64;
/// Most chunks, so that a jumbo frame can be summed.
const CHUNKS: usize = 148;

impl<const COMPLETE: bool> Buffer<COMPLETE> {
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        // SAFETY: the context is valid while the program runs.
        let (start, end) = unsafe { ((*self.skb).data as usize, (*self.skb).data_end as usize) };
        if start + offset + mem::size_of::<T>() > end {
            None
        } else {
            Some((start + offset) as *mut T)
        }
    }

    #[inline(always)]
    fn new(skb: *mut __sk_buff, is_chosen: bool) -> Self {
        let mut buffer = Self { skb, is_chosen };
        buffer.pull();
        buffer
    }

    /// Have the headers where direct access reaches them.
    #[inline(always)]
    fn pull(&mut self) {
        // SAFETY: as above.
        let (start, end, len) =
            unsafe { ((*self.skb).data, (*self.skb).data_end, (*self.skb).len) };
        if end - start < HEADERS && len > end - start {
            // SAFETY: the helper takes the context and a length. Failure shows when the headers are read.
            unsafe { bpf_skb_pull_data(self.skb, if len < HEADERS { len } else { HEADERS }) };
        }
    }
}

impl<const COMPLETE: bool> Packet for Buffer<COMPLETE> {
    const COMPLETE: bool = COMPLETE;
    const FINAL: bool = true;
    const NEEDS: u32 = Hop::RESOLVED;
    const MAY_BE_UNFINISHED: bool = false;

    #[inline(always)]
    fn chosen_server(&self) -> u32 {
        if self.is_chosen {
            // SAFETY: the context is valid while the program runs.
            unsafe { (*self.skb).cb[CHOSEN_SERVER] }
        } else {
            NONE
        }
    }
    #[inline(always)]
    fn is_chosen(&self) -> bool {
        self.is_chosen
    }
    #[inline(always)]
    fn is_for_us<T: Tables>(&self, _tables: &T) -> bool {
        // A tag that the card took off names another interface, where the packet arrives again without it.
        // SAFETY: as above. 0 is PACKET_HOST.
        unsafe { (*self.skb).pkt_type == 0 && (*self.skb).vlan_present == 0 }
    }
    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.skb).len as usize }
    }
    #[inline(always)]
    fn segment_length(&self) -> Option<usize> {
        // SAFETY: as above.
        let payload = unsafe { (*self.skb).gso_size } as usize;
        if payload == 0 {
            return None;
        }
        let header = match self.get::<u8>(ETH + 9) {
            Some(UDP) => 8,
            _ => (self.get::<u8>(ETH + IP + 12)? >> 4) as usize * 4,
        };
        Some(payload + IP + header)
    }
    #[inline(always)]
    fn get<T: Wire>(&self, offset: usize) -> Option<T> {
        // SAFETY: `at` checked the bounds; any bytes are a `T`; this target reads words at any address.
        self.at::<T>(offset).map(|p| unsafe { *p })
    }
    #[inline(always)]
    fn put<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        // SAFETY: as for `get`; the verifier has the kernel unshare the buffer first.
        self.at::<T>(offset).map(|p| unsafe { *p = value })
    }
    #[inline(always)]
    fn load<T: Wire + Default>(&self, offset: usize) -> Option<T> {
        let mut value = T::default();
        // SAFETY: the destination has the size that is passed.
        let result = unsafe {
            bpf_skb_load_bytes(
                self.skb.cast(),
                offset as u32,
                ptr::from_mut(&mut value).cast(),
                mem::size_of::<T>() as u32,
            )
        };
        (result == 0).then_some(value)
    }
    #[inline(always)]
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        // SAFETY: the source has the size that is passed.
        let result = unsafe {
            bpf_skb_store_bytes(
                self.skb,
                offset as u32,
                ptr::from_ref(&value).cast(),
                mem::size_of::<T>() as u32,
                0,
            )
        };
        (result == 0).then_some(())
    }
    #[inline(always)]
    fn store_checksum(&mut self, offset: usize, value: u16) -> Option<()> {
        store_summed(self.skb, offset, value)
    }
    #[inline(always)]
    fn fix_checksum(&mut self, offset: usize, change: &L4Change) -> Option<()> {
        self.fix_checksum_anywhere(offset, change)
    }
    #[inline(always)]
    fn fix_checksum_anywhere(&mut self, offset: usize, change: &L4Change) -> Option<()> {
        let udp = if change.udp {
            BPF_F_MARK_MANGLED_0 as u64
        } else {
            0
        };
        // SAFETY: the helper takes the context and numbers.
        let result = unsafe {
            bpf_l4_csum_replace(
                self.skb,
                offset as u32,
                change.address.0 as u64,
                change.address.1 as u64,
                BPF_F_PSEUDO_HDR as u64 | udp | 4,
            ) | bpf_l4_csum_replace(
                self.skb,
                offset as u32,
                change.port.0 as u64,
                change.port.1 as u64,
                udp | 2,
            )
        };
        (result == 0).then_some(())
    }
    #[inline(always)]
    fn sum(&self, offset: usize, length: usize) -> Option<u64> {
        sum(self.skb, offset, length)
    }
    #[inline(always)]
    fn cut_and_push(&mut self, keep: usize, room: usize) -> Option<()> {
        // SAFETY: the helpers take the context and numbers.
        let result = unsafe {
            // Also when there is nothing to cut: it makes a super-packet a packet.
            if bpf_skb_change_tail(self.skb, (ETH + keep) as u32, 0) != 0 {
                return None;
            }
            bpf_skb_adjust_room(self.skb, room as i32, BETWEEN_MAC_AND_NETWORK, 0)
        };
        self.pull();
        (result == 0).then_some(())
    }
    #[inline(always)]
    fn wrap(&mut self, wrap: Wrap, room: usize) -> Option<()> {
        // A super-packet is cut into the segments that it was; that they fit was seen.
        let outer = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_FIXED_GSO;
        let flags = match wrap {
            Wrap::Ip => outer,
            Wrap::Udp => outer | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
            Wrap::Gre => outer | BPF_F_ADJ_ROOM_ENCAP_L4_GRE,
            Wrap::InPieces => 0,
        };
        // SAFETY: the helper takes the context and numbers.
        let result = unsafe {
            bpf_skb_adjust_room(self.skb, room as i32, BETWEEN_MAC_AND_NETWORK, flags as u64)
        };
        self.pull();
        (result == 0).then_some(())
    }
    #[inline(always)]
    fn put_summed<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        store_summed(self.skb, offset, value)
    }
    #[inline(always)]
    fn unwrap(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: the helper takes the context and numbers.
        let result =
            unsafe { bpf_skb_adjust_room(self.skb, -(bytes as i32), BETWEEN_MAC_AND_NETWORK, 0) };
        self.pull();
        (result == 0).then_some(())
    }
    #[inline(always)]
    fn send_front(&mut self, headers: usize, piece: usize, ifindex: u32) -> Option<()> {
        let sent = send_front(self.skb, headers, piece, ifindex);
        self.pull();
        sent
    }
}

/// Mode of `bpf_skb_adjust_room`.
const BETWEEN_MAC_AND_NETWORK: u32 = 1;

/// Write bytes where others were, with the kernel's sum of the whole packet, if it holds one, brought up to date.
#[inline(always)]
fn store_summed<T: Wire>(skb: *mut __sk_buff, offset: usize, value: T) -> Option<()> {
    // SAFETY: the source has the size that is passed.
    let result = unsafe {
        bpf_skb_store_bytes(
            skb,
            offset as u32,
            ptr::from_ref(&value).cast(),
            mem::size_of::<T>() as u32,
            BPF_F_RECOMPUTE_CSUM as u64,
        )
    };
    (result == 0).then_some(())
}

/// Send the front of a packet by a copy. The rest is kept in a map while the packet is cut.
#[inline(never)]
fn send_front(skb: *mut __sk_buff, headers: usize, piece: usize, ifindex: u32) -> Option<()> {
    // SAFETY: the context is valid while the program runs.
    let length = unsafe { (*skb).len } as usize;
    let front = headers + piece;
    let but_one = length.checked_sub(front + 1)?;
    if but_one >= MOVED {
        return None;
    }
    // As for sums: the verifier learns these bounds from the mask.
    let rest = (but_one & (MOVED - 1)) as u32 + 1;
    let kept = MOVE.get_ptr_mut(0)?.cast();
    // SAFETY: the map's value has room for as many bytes as are asked for; this processor's part is the program's
    // alone until it ends. The others take the context and numbers.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), front as u32, kept, rest) != 0
            || bpf_skb_change_tail(skb, front as u32, 0) != 0
            || bpf_clone_redirect(skb, ifindex, 0) != 0
            || bpf_skb_change_tail(skb, headers as u32 + rest, 0) != 0
            || bpf_skb_store_bytes(skb, headers as u32, kept, rest, 0) != 0
        {
            return None;
        }
    }
    Some(())
}

/// Sum bytes of a buffer as 16-bit words.
#[inline(never)]
pub(crate) fn sum(skb: *mut __sk_buff, offset: usize, length: usize) -> Option<u64> {
    // The last chunk has 1 to 64 bytes. Computed so that the verifier sees these bounds whatever is compared:
    // before Linux 6.8 it does not learn from a comparison with zero, and a mask that the compiler finds needless it
    // removes.
    let Some(but_one) = length.checked_sub(1) else {
        return Some(0);
    };
    let rest = (but_one & (CHUNK - 1)) as u32 + 1;
    let whole = but_one / CHUNK;
    if whole > CHUNKS {
        return None;
    }
    let mut sum = Sum {
        skb,
        at: offset as u32,
        total: 0,
        failures: 0,
    };
    repeat(whole as u32, || {
        sum.add(CHUNK as u32);
        sum.failures != 0
    });
    sum.add(rest);
    (sum.failures == 0).then_some(sum.total)
}

/// A sum under way.
struct Sum {
    skb: *mut __sk_buff,
    at: u32,
    total: u64,
    /// Chunks that could not be read. A number, not a flag: the verifier would not know a flag from memory to be 0 or 1.
    failures: u32,
}

impl Sum {
    /// Add some bytes, [`CHUNK`] at most.
    #[inline(always)]
    fn add(&mut self, bytes: u32) {
        // What is not read stays zero.
        let mut chunk = MaybeUninit::<[u64; CHUNK / 8]>::uninit();
        let to = ptr::from_mut(zero(&mut chunk));
        // SAFETY: the destination has room for as many bytes as are asked for; nothing is taken out.
        unsafe {
            if bpf_skb_load_bytes(self.skb.cast(), self.at, to.cast(), bytes) != 0 {
                self.failures += 1;
            }
            self.total +=
                bpf_csum_diff(ptr::null_mut(), 0, to.cast(), CHUNK as u32, 0) as u32 as u64;
        }
        self.at += bytes;
    }
}

/// The engine on tc ingress: plain packets.
#[classifier]
fn furiwake_tc(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    let verdict = pipeline::process(&mut Buffer::<false>::new(skb, false), &maps(skb));
    // SAFETY: the context is valid while the program runs, and the control block the program's to use.
    unsafe { (*skb).cb[IS_CHOSEN] = 0 };
    end(&context, verdict)
}

/// Makes connections.
#[classifier]
fn furiwake_tc_connect(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    let verdict = connect::process(&mut Buffer::<true>::new(skb, false), &maps(skb));
    end(&context, verdict)
}

/// Sends packets that the stage that connects has seen.
#[classifier]
fn furiwake_tc_send(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    let verdict = pipeline::process(&mut Buffer::<false>::new(skb, true), &maps(skb));
    end(&context, verdict)
}

/// Everything that the stages for plain packets leave.
#[classifier]
fn furiwake_tc_complete(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let is_chosen = unsafe { (*skb).cb[IS_CHOSEN] } != 0;
    let verdict = pipeline::process(&mut Buffer::<true>::new(skb, is_chosen), &maps(skb));
    end(&context, verdict)
}

/// ICMP errors about connections.
#[classifier]
fn furiwake_tc_icmp(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let is_chosen = unsafe { (*skb).cb[IS_CHOSEN] } != 0;
    let verdict = icmp::process(&mut Buffer::<true>::new(skb, is_chosen), &maps(skb));
    end(&context, verdict)
}

/// Wraps packets for tunnels.
#[classifier]
fn furiwake_tc_tunnel(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let server = unsafe { (*skb).cb[ARGUMENT] };
    let verdict = tunnel::process(&mut Buffer::<true>::new(skb, false), &maps(skb), server);
    end(&context, verdict)
}

/// Answers a packet with an error. The others end in it; what to say is in the buffer's control block.
#[classifier]
fn furiwake_tc_reject(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let complaint = unsafe { Complaint::from_numbers((*skb).cb[COMPLAINT], (*skb).cb[ARGUMENT]) };
    let verdict = reject(&mut Buffer::<true>::new(skb, false), &maps(skb), complaint);
    end(&context, verdict)
}

#[inline(always)]
fn maps(skb: *mut __sk_buff) -> Maps {
    // SAFETY: the context is valid while the program runs.
    Maps {
        context: skb.cast(),
        ifindex: unsafe { (*skb).ifindex },
    }
}

#[inline(always)]
fn end(context: &TcContext, verdict: Verdict) -> i32 {
    let skb = context.skb.skb;
    match verdict {
        // SAFETY: the map holds programs of this type; where it does not, the call returns.
        Verdict::Leave => unsafe { STAGE.tail_call(context, COMPLETE) },
        // SAFETY: as above.
        Verdict::LeaveIcmp => unsafe { STAGE.tail_call(context, ICMP) },
        // SAFETY: as above.
        Verdict::Connect => unsafe { STAGE.tail_call(context, CONNECT) },
        // SAFETY: as above; the control block is the program's to use.
        Verdict::Send(server) => unsafe {
            (*skb).cb[IS_CHOSEN] = 1;
            (*skb).cb[CHOSEN_SERVER] = server;
            STAGE.tail_call(context, SEND);
        },
        Verdict::Encapsulate(server) => {
            // SAFETY: as above.
            unsafe {
                (*skb).cb[ARGUMENT] = server;
                STAGE.tail_call(context, TUNNEL);
            }
            return TC_ACT_SHOT;
        }
        Verdict::Reject(complaint) => {
            let (kind, mtu) = complaint.to_numbers();
            // SAFETY: as above.
            unsafe {
                (*skb).cb[COMPLAINT] = kind;
                (*skb).cb[ARGUMENT] = mtu;
                STAGE.tail_call(context, REJECT);
            }
            return TC_ACT_SHOT;
        }
        // Whoever comes after on this hook, then the stack.
        Verdict::Pass(_) | Verdict::Stack(_) => {}
        Verdict::Drop(_) => return TC_ACT_SHOT,
        // SAFETY: the helper takes numbers.
        Verdict::Redirect(out) => return unsafe { bpf_redirect(out, 0) as i32 },
        Verdict::Neighbour(out, gateway) => return to_neighbour(out, gateway),
    }
    TC_ACT_UNSPEC
}

/// Out of line, for its structure not to lie on the caller's stack. A gateway of 0 has the kernel look for the
/// next hop itself: it is one that an IPv4 address cannot name.
#[inline(never)]
fn to_neighbour(out: u32, gateway: u32) -> i32 {
    if gateway == 0 {
        // SAFETY: no structure is passed.
        return unsafe { bpf_redirect_neigh(out, ptr::null_mut(), 0, 0) as i32 };
    }
    // SAFETY: all zero is a valid value of this C structure.
    let mut neighbour: bpf_redir_neigh = unsafe { mem::zeroed() };
    neighbour.nh_family = 2;
    neighbour.__bindgen_anon_1.ipv4_nh = gateway;
    // SAFETY: the structure has the size that is passed.
    unsafe {
        bpf_redirect_neigh(
            out,
            ptr::from_mut(&mut neighbour),
            mem::size_of::<bpf_redir_neigh>() as i32,
            0,
        ) as i32
    }
}
