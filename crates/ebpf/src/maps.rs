//! All maps, in one place, and the engine's view of them.

use core::{
    ffi::c_void,
    mem::{self, MaybeUninit},
    ptr,
};

use aya_ebpf::{
    bindings::{bpf_fib_lookup as FibLookup, bpf_timer},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray},
    helpers::{bpf_fib_lookup, bpf_get_prandom_u32, bpf_jiffies64, bpf_loop},
    macros::btf_map,
};
use furiwake_engine::{
    connection::{Bucket, Client, New, Peer, Position},
    learn::Seen,
    reason::{REASONS, Reason},
    schedule::Origin,
    shared::{Shared32, Shared64},
    tables::{
        self, CACHED_DESTINATIONS, CacheKey, Cached, Config, Counters, Counts, Filter, FragmentKey,
        FragmentPorts, HOPS, Hop, Kept, LINKS, Link, Outcome, PORTS, Port, RING_SLOTS, Route,
        SERVERS, SERVICES, SchedulerState, Server, Service, ServiceKey, Tables,
    },
};

use crate::apart;

/// The daemon maps these arrays into its memory (`BPF_F_MMAPABLE`).
const MMAPABLE: usize = 1 << 10;
/// Memory is taken as entries come (`BPF_F_NO_PREALLOC`).
const NO_PREALLOC: usize = 1;

/// Settings.
#[btf_map]
static CONFIG: Array<Config, 1, MMAPABLE> = Array::new();
/// Settings as they were given. The daemon's; here so that they outlive it.
#[btf_map]
static SETTINGS: Array<Kept, 1, MMAPABLE> = Array::new();
/// Addresses worth a look.
#[btf_map]
static FILTER: Array<Filter, 1, MMAPABLE> = Array::new();
/// The connection table; its size is set when it is made.
#[btf_map]
pub(crate) static CONNECTIONS: Array<Bucket, 1024, MMAPABLE> = Array::new();
/// Index of each service.
#[btf_map]
static SERVICE_INDEX: HashMap<ServiceKey, u32, { SERVICES as usize }> = HashMap::new();
/// Services.
#[btf_map]
static SERVICE: Array<Service, { SERVICES as usize }, MMAPABLE> = Array::new();
/// What their schedulers remember.
#[btf_map]
static SCHEDULER: Array<SchedulerState, { SERVICES as usize }, MMAPABLE> = Array::new();
/// Servers.
#[btf_map]
static SERVER: Array<Server, { SERVERS as usize }, MMAPABLE> = Array::new();
/// Their connections.
#[btf_map]
static COUNTS: Array<Counts, { SERVERS as usize }, MMAPABLE> = Array::new();
/// Their counters.
#[btf_map]
static COUNTERS: PerCpuArray<Counters, { SERVERS as usize }> = PerCpuArray::new();
/// Counters of servers when they were last zeroed. The daemon's; here so that they outlive it.
#[btf_map]
static SERVER_ZERO: Array<Counters, { SERVERS as usize }, MMAPABLE> = Array::new();
/// What services have counted beyond what their servers show. The daemon's as well.
#[btf_map]
static SERVICE_BASE: Array<Counters, { SERVICES as usize }, MMAPABLE> = Array::new();
/// Next hops: the daemon's, then the learned ones.
#[btf_map]
static HOP: Array<Hop, { HOPS as usize }, MMAPABLE> = Array::new();
/// Hash rings of schedulers, four slots to a word.
#[btf_map]
static RING: Array<Shared64, { RING_SLOTS as usize / 4 }, MMAPABLE> = Array::new();
/// What the locality schedulers remember.
#[btf_map]
static CACHED: LruHashMap<CacheKey, Cached, { CACHED_DESTINATIONS as usize }> = LruHashMap::new();
/// Entries that have to do with another.
#[btf_map]
static LINK: HashMap<u32, Link, { LINKS as usize }, NO_PREALLOC> = HashMap::new();
/// Interfaces by index.
#[btf_map]
static PORT: Array<Port, { PORTS as usize }, MMAPABLE> = Array::new();
/// Packets by reason.
#[btf_map]
static REASON: PerCpuArray<u64, { REASONS as usize }> = PerCpuArray::new();
/// First fragments.
#[btf_map]
static FRAGMENT: LruHashMap<FragmentKey, FragmentPorts, 16384> = LruHashMap::new();
/// Errors sent in the current second.
#[btf_map]
static ERRORS: PerCpuArray<Errors, 1> = PerCpuArray::new();
/// The sweeper's timer.
#[btf_map]
pub(crate) static SWEEPER: Array<Sweeper, 1> = Array::new();

/// Programs of tc that others end in.
#[btf_map]
pub(crate) static STAGE: ProgramArray<6> = ProgramArray::new();
/// The complete stage, in [`STAGE`].
pub(crate) const COMPLETE: u32 = 0;
/// The stage that sends errors, in [`STAGE`].
pub(crate) const REJECT: u32 = 1;
/// The stage for ICMP, in [`STAGE`].
pub(crate) const ICMP: u32 = 2;
/// The stage that connects, in [`STAGE`].
pub(crate) const CONNECT: u32 = 3;
/// The stage that sends what was connected, in [`STAGE`].
pub(crate) const SEND: u32 = 4;
/// The stage that wraps packets, in [`STAGE`].
pub(crate) const TUNNEL: u32 = 5;

/// Programs of XDP that others end in.
#[btf_map]
pub(crate) static XDP_STAGE: ProgramArray<3> = ProgramArray::new();
/// The stage that connects, in [`XDP_STAGE`].
pub(crate) const XDP_CONNECT: u32 = 0;
/// The stage that sends what was connected, in [`XDP_STAGE`].
pub(crate) const XDP_SEND: u32 = 1;
/// The stage that wraps packets, in [`XDP_STAGE`].
pub(crate) const XDP_TUNNEL: u32 = 2;

/// The rest of a packet while its front is sent.
#[btf_map]
pub(crate) static MOVE: PerCpuArray<[u8; MOVED], 1> = PerCpuArray::new();
/// Most bytes of it.
pub(crate) const MOVED: usize = 16384;

/// What a stage of XDP leaves to the next.
#[btf_map]
pub(crate) static PASSAGE: PerCpuArray<Passage, 1> = PerCpuArray::new();

/// What a stage of XDP leaves to the next one on the same processor.
#[repr(C)]
pub(crate) struct Passage {
    /// A server, or [`NONE`](tables::NONE).
    pub(crate) server: Shared32,
    /// Zero.
    reserved: Shared32,
}

/// A window of one second and the errors sent in it.
#[repr(C)]
struct Errors {
    window: u64,
    sent: u64,
}

/// Where the sweeper is.
#[repr(C)]
pub(crate) struct Sweeper {
    /// Its timer.
    pub(crate) timer: bpf_timer,
    /// Bucket at which the next step begins.
    pub(crate) position: u32,
    /// Steps done, for the daemon to see that it runs.
    pub(crate) steps: u32,
}

/// The maps as the engine sees them, for a packet that came in by an interface.
#[derive(Clone, Copy)]
pub(crate) struct Maps {
    /// The hook's context, for helpers that want it.
    pub(crate) context: *mut c_void,
    /// The interface.
    pub(crate) ifindex: u32,
}

impl Maps {
    /// For what has to do with no packet.
    pub(crate) const WITHOUT_PACKET: Self = Self {
        context: ptr::null_mut(),
        ifindex: 0,
    };
}

impl Tables for Maps {
    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes nothing and gives a number.
        unsafe { bpf_jiffies64() }
    }
    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        CONFIG.get(0)
    }
    #[inline(always)]
    fn filter(&self) -> Option<&Filter> {
        FILTER.get(0)
    }
    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        CONNECTIONS.get(index)
    }
    #[inline(always)]
    fn find_service(&self, key: &ServiceKey) -> Option<u32> {
        // SAFETY: values are plain numbers; one that changes while it is read is one or the other.
        unsafe { SERVICE_INDEX.get(key) }.copied()
    }
    #[inline(always)]
    fn service(&self, index: u32) -> Option<&Service> {
        SERVICE.get(index)
    }
    #[inline(always)]
    fn scheduler_state(&self, service: u32) -> Option<&SchedulerState> {
        SCHEDULER.get(service)
    }
    #[inline(always)]
    fn server(&self, index: u32) -> Option<&Server> {
        SERVER.get(index)
    }
    #[inline(always)]
    fn counts(&self, server: u32) -> Option<&Counts> {
        COUNTS.get(server)
    }
    #[inline(always)]
    fn counters(&self, server: u32) -> Option<&Counters> {
        COUNTERS.get(server)
    }
    #[inline(always)]
    fn hop(&self, index: u32) -> Option<&Hop> {
        HOP.get(index)
    }
    #[inline(always)]
    fn ring(&self, word: u32) -> Option<&Shared64> {
        RING.get(word)
    }
    #[inline(always)]
    fn cached(&self, key: &CacheKey) -> Option<Cached> {
        // SAFETY: the value is copied at once.
        unsafe { CACHED.get(key) }.copied()
    }
    #[inline(always)]
    fn cache(&self, key: &CacheKey, cached: &Cached) {
        // A full map forgets its oldest entry: that destination is scheduled anew.
        let _ = CACHED.insert(key, cached, 0);
    }
    #[inline(always)]
    fn link(&self, position: u32) -> Option<Link> {
        // SAFETY: the value is copied at once.
        unsafe { LINK.get(&position) }.copied()
    }
    #[inline(always)]
    fn set_link(&self, position: u32, link: Option<Link>) -> bool {
        match link {
            Some(link) => LINK.insert(&position, &link, 0).is_ok(),
            None => LINK.remove(&position).is_ok(),
        }
    }
    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper takes nothing and gives a number.
        unsafe { bpf_get_prandom_u32() }
    }
    #[inline(always)]
    fn port(&self, ifindex: u32) -> Option<&Port> {
        PORT.get(ifindex)
    }
    #[inline(always)]
    fn count(&self, reason: Reason) {
        if let Some(counter) = REASON.get_ptr_mut(reason as u32) {
            // SAFETY: the pointer is into this processor's part of the map, which nobody else writes.
            unsafe { *counter += 1 };
        }
    }
    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, ports: FragmentPorts) {
        // A full map forgets its oldest entry; the datagram that loses by that is lost, nothing more.
        let _ = FRAGMENT.insert(key, &ports, 0);
    }
    #[inline(always)]
    fn find_fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        // SAFETY: the value is copied at once.
        unsafe { FRAGMENT.get(key) }.copied()
    }
    #[inline(always)]
    fn may_send_error(&self) -> bool {
        let (Some(errors), Some(config)) = (ERRORS.get_ptr_mut(0), self.config()) else {
            return false;
        };
        let per_second = config.ticks_per_second.get() as u64;
        let now = tables::ticks(self.now(), config) as u64;
        // SAFETY: this processor's part of the map; a timer that interrupts does not come here.
        let errors = unsafe { &mut *errors };
        if now.wrapping_sub(errors.window) >= per_second {
            errors.window = now;
            errors.sent = 0;
        }
        errors.sent += 1;
        errors.sent <= config.errors_per_second.get() as u64
    }
    #[inline(always)]
    fn repeat<F: FnMut() -> bool>(&self, times: u32, turn: F) {
        repeat(times, turn);
    }
    #[inline(always)]
    fn choose(&self, service: u32, origin: Origin, high: u64, low: u64) -> u32 {
        apart::furiwake_choose(service, origin.number(), high, low)
    }
    #[inline(always)]
    fn place(&self, new: &New, now: u32) -> Position {
        let number = apart::furiwake_place(
            new.client.number(),
            new.peer.number(),
            new.server as u64 | (new.flags as u64) << 32,
            new.template.number() as u64 | (new.seconds as u64) << 32,
            now,
        );
        Position::from_number(number)
    }
    #[inline(always)]
    fn make_sure(&self, client: Client, peer: Peer, ours: Position) -> Position {
        let number = apart::furiwake_make_sure(client.number(), peer.number(), ours.number());
        Position::from_number(number)
    }
    #[inline(always)]
    fn make_sure_of_template(&self, network: Client, peer: Peer, ours: Position) -> Position {
        let (network, peer) = (network.number(), peer.number());
        let number = apart::furiwake_make_sure_of_template(network, peer, ours.number());
        Position::from_number(number)
    }
    #[inline(always)]
    fn take_out(&self, position: Position, seen: u32) -> bool {
        apart::furiwake_take_out(position.number(), seen) != 0
    }
    #[inline(always)]
    fn learn(&self, position: Position, packet: Seen, now: u32) {
        apart::furiwake_learn(position.number(), packet.number(), now);
    }
    #[inline(always)]
    fn tell_template(&self, connection: Position) {
        apart::furiwake_tell_template(connection.number());
    }
    #[inline(always)]
    fn search(&self, client: Client, peer: Peer, except: Position, first_probe: u32) -> Position {
        let number =
            apart::furiwake_search(client.number(), peer.number(), except.number(), first_probe);
        Position::from_number(number)
    }
    #[inline(always)]
    fn route(&self, source: u32, destination: u32, tos: u8) -> Route {
        route(self, source, destination, tos)
    }
}

/// Do `turn` until it says that it is done, at most `times` times.
#[inline(always)]
pub(crate) fn repeat<F: FnMut() -> bool>(times: u32, mut turn: F) {
    // SAFETY: the callback gets the closure that is passed with it and has the signature that the kernel calls.
    unsafe {
        bpf_loop(
            times,
            one_turn::<F> as *mut c_void,
            ptr::from_mut(&mut turn).cast(),
            0,
        )
    };
}

/// One turn of [`repeat`]; other than 0 ends the loop.
#[inline(never)]
extern "C" fn one_turn<F: FnMut() -> bool>(_turn: u64, closure: *mut F) -> i64 {
    // SAFETY: the pointer is to the closure that `repeat` holds while the loop runs.
    unsafe { (*closure)() as i64 }
}

/// Zero by wide stores. What the compiler makes of plain ones is a call that writes bytes, in a loop, and that takes
/// a piece of the stack.
#[inline(always)]
pub(crate) fn zero<const N: usize>(words: &mut MaybeUninit<[u64; N]>) -> &mut [u64; N] {
    let first = words.as_mut_ptr().cast::<u64>();
    for at in 0..N {
        // SAFETY: within the array.
        unsafe { first.add(at).write_volatile(0) };
    }
    // SAFETY: every word was written.
    unsafe { words.assume_init_mut() }
}

const AF_INET: u8 = 2;
const NOT_FORWARDED: i64 = 4;
const FORWARDING_DISABLED: i64 = 5;
const NO_NEIGHBOUR: i64 = 7;

#[inline(always)]
fn route(maps: &Maps, source: u32, destination: u32, tos: u8) -> Route {
    let mut words = MaybeUninit::<[u64; 8]>::uninit();
    let words = zero(&mut words);
    const { assert!(mem::size_of::<FibLookup>() == 64) };
    // SAFETY: the words have the size and at least the alignment of this C structure, of which all zero is a value.
    let ask = unsafe { &mut *words.as_mut_ptr().cast::<FibLookup>() };
    ask.family = AF_INET;
    ask.ifindex = maps.ifindex;
    // A length of one byte fits every MTU and has the kernel report the route's.
    ask.__bindgen_anon_1.tot_len = 1;
    ask.__bindgen_anon_2.tos = tos;
    ask.__bindgen_anon_3.ipv4_src = source;
    ask.__bindgen_anon_4.ipv4_dst = destination;
    let size = mem::size_of::<FibLookup>() as i32;
    // SAFETY: context is the hook's own and the structure has the size that is passed.
    let result = unsafe { bpf_fib_lookup(maps.context, ptr::from_mut(ask), size, 0) };
    match result {
        0 => {
            let (d, s) = (ask.dmac, ask.smac);
            let macs = [
                u32::from_ne_bytes([d[0], d[1], d[2], d[3]]),
                u32::from_ne_bytes([d[4], d[5], s[0], s[1]]),
                u32::from_ne_bytes([s[2], s[3], s[4], s[5]]),
            ];
            // SAFETY: both fields of the union are numbers.
            let mtu = unsafe { ask.__bindgen_anon_1.mtu_result } as u32;
            let mtu = if mtu <= 1 { 1500 } else { mtu };
            Route {
                outcome: Outcome::Resolved,
                macs,
                ifindex: ask.ifindex,
                mtu,
                gateway: 0,
            }
        }
        NO_NEIGHBOUR => {
            // SAFETY: every field of the union is plain numbers.
            let gateway = if ask.family == AF_INET {
                unsafe { ask.__bindgen_anon_4.ipv4_dst }
            } else {
                0
            };
            Route {
                ifindex: ask.ifindex,
                gateway,
                ..Route::none(Outcome::Unresolved)
            }
        }
        NOT_FORWARDED => Route::none(Outcome::Local),
        FORWARDING_DISABLED => Route::none(Outcome::Disabled),
        _ => Route::none(Outcome::Unreachable),
    }
}
