//! The state of a director: layouts of map values and the trait through which the engine reaches them.
//!
//! Everything is in arrays that the daemon maps into its memory, so the layouts here are shared between the
//! programs and the daemon and must not change without a new [`LAYOUT`]. Fields that change while packets
//! flow are [`shared`](crate::shared) cells.

use crate::{
    connection::Bucket,
    reason::Reason,
    shared::{Shared16, Shared32, Shared64},
};

/// Version of every layout in this crate; part of the pin path.
pub const LAYOUT: u32 = 1;

/// No entry, where an index is stored.
pub const NONE: u32 = u32::MAX;

/// Most real servers that one service can have: the bound of every walk over a service's list.
pub const SERVERS_PER_SERVICE: u32 = 1024;

/// Services that the maps have room for.
pub const SERVICES: u32 = 4096;
/// Servers, those included that only wait for their last connection to end.
pub const SERVERS: u32 = 16384;
/// Next hops that the daemon resolved.
pub const SERVER_HOPS: u32 = 32768;
/// Next hops towards clients that the programs learned; they follow the daemon's.
pub const CLIENT_HOPS: u32 = 16384;
/// All next hops. An index must fit 16 bits, see [`crate::connection::Way::hop`].
pub const HOPS: u32 = SERVER_HOPS + CLIENT_HOPS;

/// Settings, in one value.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Config {
    /// Secret of the connection table's hash.
    pub seed: Shared64,
    /// Number of buckets of the connection table less one.
    pub bucket_mask: Shared32,
    /// A tick is `jiffies >> tick_shift`.
    pub tick_shift: Shared32,
    /// Ticks in a second.
    pub ticks_per_second: Shared32,
    /// Raised whenever a route or neighbour changed: next hops towards clients are asked for anew.
    pub route_generation: Shared32,
    /// Time between two steps of the sweeper.
    pub sweep_interval_ns: Shared64,
    /// Timeout in ticks by state; sixteen, so that four bits are always a valid index.
    pub timeouts: [Shared32; 16],
    /// Errors (ICMP) that a processor may send in a second.
    pub errors_per_second: Shared32,
    /// Buckets that one step of the sweeper looks at.
    pub sweep_step: Shared32,
}

/// Which addresses are worth a look: a packet whose bits are clear is none of ours. Bits are set for every
/// virtual address and for every server address that masqueraded replies come from; others may share them.
#[repr(C)]
#[derive(Debug)]
pub struct Filter {
    /// Virtual addresses.
    pub virtuals: [Shared64; FILTER_WORDS],
    /// Server addresses.
    pub servers: [Shared64; FILTER_WORDS],
}

/// Words of 64 bits in each half of a [`Filter`].
pub const FILTER_WORDS: usize = 512;

impl Filter {
    /// Word and bit of an address.
    #[inline(always)]
    pub const fn place(address: u32) -> (usize, u32) {
        let h = address.wrapping_mul(0x9e37_79b1);
        ((h >> 23) as usize, h >> 17 & 63)
    }

    /// Whether the bit of an address is set.
    #[inline(always)]
    pub fn has(words: &[Shared64; FILTER_WORDS], address: u32) -> bool {
        let (word, bit) = Self::place(address);
        match words.get(word) {
            Some(word) => word.get() >> bit & 1 != 0,
            None => false,
        }
    }
}

/// Key of the map of services: IPv4 and a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Virtual address, as on the wire.
    pub address: u32,
    /// Port, as on the wire.
    pub port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Zero.
    pub zero: u8,
}

/// A virtual service.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Service {
    /// Virtual address, as on the wire.
    pub address: Shared32,
    /// Port as on the wire, protocol in the upper half.
    pub port_protocol: Shared32,
    /// Number of the scheduler, see [`crate::schedule::Scheduler`].
    pub scheduler: Shared32,
    /// First server of the list, or [`NONE`].
    pub head: Shared32,
    /// What wrr steps by: greatest common divisor of the weights.
    pub divisor: Shared32,
    /// Where wrr starts: the greatest weight less what one step leaves over; 0 when no server has weight.
    pub mark: Shared32,
    /// [`Service::USED`].
    pub flags: Shared32,
    /// Order of creation.
    pub created: Shared32,
}

impl Service {
    /// Flag: this slot holds a service.
    pub const USED: u32 = 1;
    /// Flag: the service was removed; the slot waits for the last of its servers.
    pub const REMOVED: u32 = 2;
}

/// What a scheduler remembers: its position in the list (low half) and, for wrr, the weight it is at.
#[repr(C)]
#[derive(Debug, Default)]
pub struct SchedulerState(pub Shared64);

impl SchedulerState {
    /// Position before the list's head, weight zero.
    pub const START: u64 = pack(NONE, 0);
}

/// A scheduler's memory as one number.
pub const fn pack(position: u32, weight: u32) -> u64 {
    position as u64 | (weight as u64) << 32
}

/// A real server of a service.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Server {
    /// Address, as on the wire.
    pub address: Shared32,
    /// Port, as on the wire; 0 keeps the packet's.
    pub port: Shared16,
    /// Forwarding method, IPVS's number.
    pub method: Shared16,
    /// Weight; 0 is quiesced.
    pub weight: Shared32,
    /// Flags, see the constants.
    pub flags: Shared32,
    /// Next server of the service's list, or [`NONE`].
    pub next: Shared32,
    /// Index into the next hops; the hop at 0 is never resolved.
    pub hop: Shared32,
    /// Index of the service.
    pub service: Shared32,
    /// Seconds since boot at which it was last seen without connections, for the daemon.
    pub idle_since: Shared32,
}

impl Server {
    /// Flag: this slot holds a server.
    pub const USED: u32 = 1;
    /// Flag: the server is in its service's list; without it packets of its connections are dropped.
    pub const AVAILABLE: u32 = 2;
}

/// Connections of a server.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Counts {
    /// In an active state.
    pub active: Shared32,
    /// All of them.
    pub total: Shared32,
}

/// What passed through a server, on one processor.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections made.
    pub connections: Shared64,
    /// Packets from clients.
    pub in_packets: Shared64,
    /// Bytes of them, from the IP header on.
    pub in_bytes: Shared64,
    /// Packets to clients.
    pub out_packets: Shared64,
    /// Bytes of them.
    pub out_bytes: Shared64,
}

/// Where packets go next. Written once, then found by index: a change is a new hop and a new index.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Hop {
    /// Destination and source MAC address, as they lie at the start of a packet.
    pub macs: [Shared32; 3],
    /// Interface to send on.
    pub ifindex: Shared32,
    /// The neighbour's address, as on the wire.
    pub gateway: Shared32,
    /// Flags, see the constants; 0 is a free slot.
    pub flags: Shared32,
    /// Largest IP packet.
    pub mtu: Shared32,
    /// Zero.
    pub reserved: Shared32,
}

impl Hop {
    /// Flag: a processor is filling this slot.
    pub const CLAIMED: u32 = 1;
    /// Flag: interface and gateway are known.
    pub const ROUTED: u32 = 2;
    /// Flag: the MAC addresses are known as well.
    pub const RESOLVED: u32 = 4;
    /// Flag: the interface takes packets that XDP redirects.
    pub const XDP: u32 = 8;
    /// Flag: there is no route.
    pub const UNREACHABLE: u32 = 16;
}

/// An interface of the director, by its index.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Port {
    /// First four bytes of its MAC address.
    pub mac_head: Shared32,
    /// Last two bytes of its MAC address, and flags in the upper half.
    pub mac_tail_flags: Shared32,
}

impl Port {
    /// Flag: the interface takes packets that XDP redirects to it.
    pub const XDP: u32 = 1 << 16;

    /// Whether a frame whose destination MAC address begins and ends so is for this interface.
    #[inline(always)]
    pub fn is_destination(&self, head: u32, tail: u16) -> bool {
        self.mac_head.get() == head && self.mac_tail_flags.get() as u16 == tail
    }
}

/// Interfaces that XDP can be used on: their index must be below.
pub const PORTS: u32 = 16384;

/// A routing decision. All fields always hold something: the BPF verifier does not let the unused part of an
/// enum be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// How it came out, and thereby which fields mean something.
    pub outcome: Outcome,
    /// Destination and source MAC address, as they lie at the start of a packet ([`Outcome::Resolved`]).
    pub macs: [u32; 3],
    /// Interface to send on (resolved or unresolved).
    pub ifindex: u32,
    /// Largest IP packet (resolved).
    pub mtu: u32,
    /// The neighbour's address, as on the wire (unresolved).
    pub gateway: u32,
}

/// How a routing decision came out.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Interface and neighbour are known.
    Resolved,
    /// The interface is known, the neighbour is for the kernel to find.
    Unresolved,
    /// The destination is the director itself.
    Local,
    /// The director may not forward (sysctl `ip_forward`).
    Disabled,
    /// There is no way.
    Unreachable,
}

impl Route {
    /// A decision without a next hop.
    pub const fn none(outcome: Outcome) -> Self {
        Self {
            outcome,
            macs: [0; 3],
            ifindex: 0,
            mtu: 0,
            gateway: 0,
        }
    }
}

/// What is remembered of a datagram's first fragment, for the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Source address.
    pub source: u32,
    /// Destination address.
    pub destination: u32,
    /// Identification and protocol.
    pub id_protocol: u32,
}

/// Where the first fragment went: the ports that later fragments lack, as on the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentPorts {
    /// Source port, destination port in the upper half.
    pub ports: u32,
    /// Tick at which the first fragment was seen.
    pub tick: u32,
}

/// The state of a director as the engine reaches it. `None` means that the index is out of the map.
pub trait Tables {
    /// Jiffies.
    fn now(&self) -> u64;
    /// Settings.
    fn config(&self) -> Option<&Config>;
    /// Addresses worth a look.
    fn filter(&self) -> Option<&Filter>;
    /// A bucket of the connection table.
    fn bucket(&self, index: u32) -> Option<&Bucket>;
    /// Index of a service.
    fn find_service(&self, key: &ServiceKey) -> Option<u32>;
    /// A service.
    fn service(&self, index: u32) -> Option<&Service>;
    /// What its scheduler remembers.
    fn scheduler_state(&self, service: u32) -> Option<&SchedulerState>;
    /// A server.
    fn server(&self, index: u32) -> Option<&Server>;
    /// Its connections.
    fn counts(&self, server: u32) -> Option<&Counts>;
    /// Its counters on this processor.
    fn counters(&self, server: u32) -> Option<&Counters>;
    /// A next hop.
    fn hop(&self, index: u32) -> Option<&Hop>;
    /// Count a packet that was not forwarded, or another event worth a number.
    fn count(&self, reason: Reason);
    /// Remember the first fragment of a datagram.
    fn remember_fragment(&self, key: &FragmentKey, ports: FragmentPorts);
    /// What was remembered.
    fn find_fragment(&self, key: &FragmentKey) -> Option<FragmentPorts>;
    /// Whether an ICMP error may be sent now, on this processor.
    fn may_send_error(&self) -> bool;
    /// An interface of the director.
    fn port(&self, ifindex: u32) -> Option<&Port>;
    /// Do `turn` until it says that it is done, at most `times` times. (A loop of many turns is more than the
    /// verifier can follow; the kernel has a helper for it.)
    fn repeat<F: FnMut() -> bool>(&self, times: u32, turn: F);
    /// Where a packet from `source` to `destination` (as on the wire) with this type of service goes.
    fn route(&self, source: u32, destination: u32, tos: u8) -> Route;
}

/// The tick that `now` is in.
#[inline(always)]
pub fn ticks(now: u64, config: &Config) -> u32 {
    (now >> (config.tick_shift.get() & 31)) as u32
}
