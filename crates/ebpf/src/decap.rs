//! Decapsulation on a real server, at tc ingress: `furiwake decap` loads this program alone.

use core::{mem, ptr};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_CSUM_LEVEL_QUERY, BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
        BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_INGRESS,
        BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_fib_lookup as FibLookup,
    },
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    helpers::{
        bpf_csum_level, bpf_fib_lookup, bpf_redirect, bpf_skb_adjust_room, bpf_skb_change_proto,
        bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
    macros::{btf_map, classifier},
    programs::TcContext,
};
use furiwake_engine::{
    decap::{Address, Carrier, EVENTS, Event, Family, IP6, Rules, Settings, Verdict, process},
    packet::{ETH, IP, Wire},
};

use crate::tc::sum;

/// What is decapsulated.
#[btf_map]
static DECAP_SETTINGS: Array<Settings, 1> = Array::new();
/// The virtual addresses.
#[btf_map]
static DECAP_VIRTUAL: HashMap<Address, u32, 4096, 1> = HashMap::new();
/// Where tunnels may come from.
#[btf_map]
static DECAP_SENDER: LpmTrie<Address, u32, 4096> = LpmTrie::new();
/// Packets, and bytes of inner packets, by event.
#[btf_map]
static DECAP_EVENT: PerCpuArray<[u64; 2], { EVENTS as usize }> = PerCpuArray::new();

/// A socket buffer.
struct Buffer {
    skb: *mut __sk_buff,
    /// Whether the kernel does not know yet that the packet is of another family now.
    is_to_be_told: bool,
}

impl Carrier for Buffer {
    #[inline(always)]
    fn is_for_us(&self) -> bool {
        // SAFETY: the context is valid while the program runs. 0 is PACKET_HOST.
        unsafe { (*self.skb).pkt_type == 0 && (*self.skb).vlan_present == 0 }
    }
    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.skb).len as usize }
    }
    #[inline(always)]
    fn is_segmented(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.skb).gso_size != 0 }
    }
    #[inline(always)]
    fn is_verified(&self) -> bool {
        // SAFETY: the helper takes the context and a number.
        unsafe { bpf_csum_level(self.skb, BPF_CSUM_LEVEL_QUERY as u64) >= 0 }
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
        // The kernel may hold the sum of the whole packet: it is brought up to date.
        self.write(offset, value, BPF_F_RECOMPUTE_CSUM as u64)
    }
    #[inline(always)]
    fn sum(&self, offset: usize, length: usize) -> Option<u64> {
        sum(self.skb, offset, length)
    }
    #[inline(always)]
    fn strip(&mut self, bytes: usize, family: Family) -> Option<()> {
        let before = self.load::<u16>(ETH - 2)?;
        let told = if family == Family::V4 {
            BPF_F_ADJ_ROOM_DECAP_L3_IPV4
        } else {
            BPF_F_ADJ_ROOM_DECAP_L3_IPV6
        };
        // The segments of a super-packet stay as long as they were.
        if self.shrink(bytes, BPF_F_ADJ_ROOM_FIXED_GSO | told) != 0 {
            // Before Linux 6.3 the kernel does not know the flag.
            self.is_to_be_told = before != family.ethertype() && !self.becomes_v4(bytes, family);
            let rest = if self.is_to_be_told || before == family.ethertype() {
                bytes
            } else {
                bytes - (IP6 - IP)
            };
            if self.shrink(rest, BPF_F_ADJ_ROOM_FIXED_GSO) != 0 {
                return None;
            }
        }
        if before == family.ethertype() {
            return Some(());
        }
        // The sum that the kernel may hold does not have the Ethernet header in it.
        self.write(ETH - 2, family.ethertype(), 0)
    }
}

impl Buffer {
    #[inline(always)]
    fn write<T: Wire>(&mut self, offset: usize, value: T, flags: u64) -> Option<()> {
        // SAFETY: the source has the size that is passed.
        let result = unsafe {
            bpf_skb_store_bytes(
                self.skb,
                offset as u32,
                ptr::from_ref(&value).cast(),
                mem::size_of::<T>() as u32,
                flags,
            )
        };
        (result == 0).then_some(())
    }

    /// Have the kernel take a short IPv6 packet for one of IPv4, which takes out the difference of their headers. It would
    /// leave no less than an IPv6 header otherwise.
    #[inline(always)]
    fn becomes_v4(&mut self, bytes: usize, family: Family) -> bool {
        family == Family::V4
            && self.len() < ETH + bytes + IP6
            // SAFETY: the helper takes the context and numbers.
            && unsafe { bpf_skb_change_proto(self.skb, family.ethertype(), 0) } == 0
    }

    /// Take out bytes between Ethernet and what follows. What hardware said about checksums is forgotten then: it was
    /// about the outer ones.
    #[inline(always)]
    fn shrink(&mut self, bytes: usize, flags: u32) -> i64 {
        const BETWEEN_MAC_AND_NETWORK: u32 = 1;
        // SAFETY: the helper takes the context and numbers.
        unsafe {
            bpf_skb_adjust_room(
                self.skb,
                -(bytes as i32),
                BETWEEN_MAC_AND_NETWORK,
                flags as u64,
            )
        }
    }
}

/// The maps, for a packet.
struct Maps {
    skb: *mut __sk_buff,
}

impl Rules for Maps {
    #[inline(always)]
    fn settings(&self) -> Option<Settings> {
        DECAP_SETTINGS.get(0).copied()
    }
    #[inline(always)]
    fn is_virtual(&self, address: &Address) -> bool {
        DECAP_VIRTUAL.get_ptr(address).is_some()
    }
    #[inline(always)]
    fn may_send(&self, address: &Address) -> bool {
        DECAP_SENDER.get(&Key::new(128, *address)).is_some()
    }
    #[inline(always)]
    fn is_local(&self, source: &Address, destination: &Address) -> bool {
        is_local(self.skb, source, destination)
    }
    #[inline(always)]
    fn count(&self, event: Event, bytes: u64) {
        if let Some(counter) = DECAP_EVENT.get_ptr_mut(event as u32) {
            // SAFETY: the pointer is into this processor's part of the map, which nobody else writes.
            unsafe {
                (*counter)[0] += 1;
                (*counter)[1] += bytes;
            }
        }
    }
}

/// Whether the kernel would not forward a packet. Out of line, for its structure not to lie on the caller's stack.
#[inline(never)]
fn is_local(skb: *mut __sk_buff, source: &Address, destination: &Address) -> bool {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const NOT_FORWARDED: i64 = 4;
    const FORWARDING_DISABLED: i64 = 5;
    // SAFETY: all zero is a valid value of this C structure.
    let mut ask: FibLookup = unsafe { mem::zeroed() };
    // SAFETY: the context is valid while the program runs.
    ask.ifindex = unsafe { (*skb).ifindex };
    let [head, more, mark, last] = *destination;
    if head == 0 && more == 0 && mark == 0xffffu32.to_be() {
        ask.family = AF_INET;
        ask.__bindgen_anon_3.ipv4_src = source[3];
        ask.__bindgen_anon_4.ipv4_dst = last;
    } else {
        ask.family = AF_INET6;
        ask.__bindgen_anon_3.ipv6_src = *source;
        ask.__bindgen_anon_4.ipv6_dst = *destination;
    }
    let size = mem::size_of::<FibLookup>() as i32;
    // SAFETY: the context is the hook's own and the structure has the size that is passed.
    let result = unsafe { bpf_fib_lookup(skb.cast(), ptr::from_mut(&mut ask), size, 0) };
    matches!(result, NOT_FORWARDED | FORWARDING_DISABLED)
}

/// Decapsulation of what comes in by an interface.
#[classifier]
fn furiwake_decap(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    let mut buffer = Buffer {
        skb,
        is_to_be_told: false,
    };
    match process(&mut buffer, &Maps { skb }) {
        Verdict::Drop => TC_ACT_SHOT,
        // In by the same interface once more: the kernel looks at the EtherType then.
        // SAFETY: the context is valid while the program runs; the helper takes numbers.
        Verdict::Deliver if buffer.is_to_be_told => unsafe {
            bpf_redirect((*skb).ifindex, BPF_F_INGRESS as u64) as i32
        },
        // Whoever comes after on this hook, then the stack.
        Verdict::Leave | Verdict::Deliver => TC_ACT_UNSPEC,
    }
}
