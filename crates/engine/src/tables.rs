//! The state of a director: layouts of map values and the trait through which the engine reaches them.
//!
//! Everything is in arrays that the daemon maps into its memory, so the layouts here are shared between the
//! programs and the daemon and must not change without a new [`LAYOUT`]. Fields that change while packets
//! flow are [`shared`](crate::shared) cells.

use crate::{
    connection::{self, Bucket, Client, New, Peer, Position, template},
    learn::{self, Seen},
    reason::Reason,
    schedule::{self, Origin},
    shared::{Shared16, Shared32, Shared64},
};

/// Version of every layout in this crate; part of the pin path.
pub const LAYOUT: u32 = 2;

/// No entry, where an index is stored.
pub const NONE: u32 = u32::MAX;
/// No entry, in a slot of a hash ring.
pub const NO_SLOT: u16 = u16::MAX;

/// Most real servers that one service can have: the bound of every walk over a service's list.
pub const SERVERS_PER_SERVICE: u32 = 1024;

/// Services that the maps have room for.
pub const SERVICES: u32 = 16384;
/// Servers, those included that only wait for their last connection to end. An index fits 16 bits, beside
/// [`NO_SLOT`].
pub const SERVERS: u32 = 65534;
/// Next hops that the daemon resolved.
pub const SERVER_HOPS: u32 = 49152;
/// Next hops towards clients that the programs learned; they follow the daemon's.
pub const CLIENT_HOPS: u32 = 16384;
/// Slots of all hash rings together, four to a word of [`Tables::ring`].
pub const RING_SLOTS: u32 = 4 << 20;
/// Destinations that the locality schedulers remember.
pub const CACHED_DESTINATIONS: u32 = 65536;
/// Connections that remember another entry, see [`Link`].
pub const LINKS: u32 = 1 << 20;

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
    /// Timeout in ticks by state; as many as five bits are a valid index of.
    pub timeouts: [Shared32; 32],
    /// What packets do to states, see [`crate::state::transitions`].
    pub transitions: [Shared64; 32],
    /// Errors (ICMP) that a processor may send in a second.
    pub errors_per_second: Shared32,
    /// Buckets that one step of the sweeper looks at.
    pub sweep_step: Shared32,
    /// Settings that are on: bits, see [`crate::settings`].
    pub settings: Shared32,
    /// Setting `conn_reuse_mode`, a bit mask.
    pub conn_reuse_mode: Shared32,
    /// Seconds after which an unused destination is forgotten (`lblc_expiration`).
    pub lblc_expiration: Shared32,
    /// As above, and after which a set of servers shrinks (`lblcr_expiration`).
    pub lblcr_expiration: Shared32,
    /// One new connection in so many is dropped (`drop_packet`); 0: none.
    pub drop_rate: Shared32,
    /// Which kinds of services there are, so that lookups that find nothing are not made: bits, see the constants.
    pub kinds: Shared32,
    /// How many new connections there were to drop one of, since [`Config::drop_rate`] is set.
    pub drop_turn: Shared32,
    /// Zero.
    pub reserved: Shared32,
}

impl Config {
    /// Let connections go through the states of `secure_tcp`, or through the usual ones.
    pub fn set_transitions(&self, secure: bool) {
        let rows = crate::state::transitions(secure);
        for (cell, row) in self.transitions.iter().zip(rows) {
            cell.set(row);
        }
    }

    /// In [`Config::kinds`]: a service on every port.
    pub const EVERY_PORT: u32 = 1;
    /// In [`Config::kinds`]: a service on port 21 (FTP).
    pub const FTP: u32 = 2;
    /// In [`Config::kinds`]: a service by firewall mark.
    pub const MARK: u32 = 4;
}

/// Settings as they were given, for a daemon that takes over: lines of a name, a blank and the value. Two texts, of
/// which one is written while the other counts.
#[repr(C)]
#[derive(Debug)]
pub struct Kept {
    /// Which text counts: 0 or 1.
    pub current: Shared64,
    /// The texts, padded with zeros.
    pub texts: [[Shared64; KEPT_WORDS]; 2],
}

/// Words of 64 bits in each text of [`Kept`].
pub const KEPT_WORDS: usize = 256;

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

/// Key of the map of services.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Virtual address, as on the wire; IPv4 and firewall marks in the first word, the rest 0.
    pub address: [u32; 4],
    /// Port, as on the wire; 0 is every port.
    pub port: u16,
    /// IP protocol; 0 for a firewall mark.
    pub protocol: u8,
    /// [`V4`] or [`V6`].
    pub family: u8,
}

impl ServiceKey {
    /// The key of an IPv4 service.
    #[inline(always)]
    pub const fn v4(address: u32, port: u16, protocol: u8) -> Self {
        Self {
            address: [address, 0, 0, 0],
            port,
            protocol,
            family: V4,
        }
    }
}

/// Family of IPv4 in keys.
pub const V4: u8 = 4;
/// Family of IPv6 in keys.
pub const V6: u8 = 6;

/// A virtual service.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Service {
    /// Virtual address, as on the wire; of IPv6 the first word. A service by firewall mark has the mark here.
    pub address: Shared32,
    /// The other words of an IPv6 address.
    pub address_rest: [Shared32; 3],
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
    /// Flags, see the constants.
    pub flags: Shared32,
    /// Order of creation.
    pub created: Shared32,
    /// Seconds that a persistence template lives; 0: the service is not persistent.
    pub persistence: Shared32,
    /// Part of the client's address that persistence goes by. IPv4: a mask, as on the wire; IPv6: a prefix length.
    pub netmask: Shared32,
    /// Seconds over which a new or returning server's share grows (slow start); 0: it has all at once.
    pub slow_start: Shared32,
    /// Where this service's hash ring is: its first slot (low half) and how many there are (high half; 0: none).
    pub ring: Shared64,
}

impl Service {
    /// Flag: this slot holds a service.
    pub const USED: u32 = 1;
    /// Flag: the service was removed; the slot waits for the last of its servers.
    pub const REMOVED: u32 = 2;
    /// Flag: every datagram is scheduled by itself (`-o`).
    pub const ONE_PACKET: u32 = 4;
    /// Flag: scheduler flag 1, `sh-fallback` and `mh-fallback`.
    pub const FLAG_1: u32 = 8;
    /// Flag: scheduler flag 2, `sh-port` and `mh-port`.
    pub const FLAG_2: u32 = 16;
    /// Flag: scheduler flag 3.
    pub const FLAG_3: u32 = 32;
    /// Flag: its packets are IPv6.
    pub const V6: u32 = 64;
    /// Flag: packets belong to it by their firewall mark.
    pub const MARK: u32 = 128;
    /// Flag: persistence engine `sip`.
    pub const SIP: u32 = 256;
}

/// What a scheduler remembers: its position in the list (low half) and, for wrr, the weight it is at; for lblc and
/// lblcr the tick at which they began.
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
    /// Address, as on the wire; of IPv6 the first word.
    pub address: Shared32,
    /// The other words of an IPv6 address.
    pub address_rest: [Shared32; 3],
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
    /// Connections at which it gets no new ones; 0: no limit.
    pub upper: Shared32,
    /// Connections below which an overloaded server gets new ones again; 0: three quarters of the upper limit.
    pub lower: Shared32,
    /// The latest weight that was not 0.
    pub last_weight: Shared32,
    /// How a tunnel wraps packets, see [`crate::tunnel`]: kind (bits 0–7), [`Server::CHECKSUM`] (8), port
    /// of GUE as on the wire (16–31).
    pub tunnel: Shared32,
    /// Second since boot at which it began to take connections, for slow start.
    pub since: Shared32,
}

impl Server {
    /// Flag: this slot holds a server.
    pub const USED: u32 = 1;
    /// Flag: the server is in its service's list; without it packets of its connections are dropped.
    pub const AVAILABLE: u32 = 2;
    /// Flag: its address is IPv6.
    pub const V6: u32 = 4;
    /// Flag: it masquerades, or has connections from when it did: its replies are looked for.
    pub const REPLIES: u32 = 8;
    /// In [`Server::tunnel`]: the outer header carries a checksum.
    pub const CHECKSUM: u32 = 1 << 8;
    /// In [`Server::tunnel`]: remote checksum offload was asked for (it looks like a checksum on the wire).
    pub const REMOTE_CHECKSUM: u32 = 1 << 9;
}

/// Connections of a server.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Counts {
    /// In an active state.
    pub active: Shared32,
    /// All of them, templates apart.
    pub total: Shared32,
    /// Persistence templates.
    pub persistent: Shared32,
    /// 1 when the server reached its upper threshold and did not fall below the lower one since.
    pub overloaded: Shared32,
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
    /// Flags, see the constants; 0 is a free slot.
    pub flags: Shared32,
    /// Largest IP packet.
    pub mtu: Shared32,
    /// The neighbour's address, as on the wire; of IPv6 the first word.
    pub gateway: Shared32,
    /// The other words of an IPv6 neighbour's address.
    pub gateway_rest: [Shared32; 3],
    /// The director's address that packets of its own carry on this way: source of a tunnel's outer header.
    pub source: Shared32,
    /// The other words of an IPv6 source.
    pub source_rest: [Shared32; 3],
    /// Largest IP packet on the whole way as routers on it said, see [`crate::tunnel::path_mtu`]; 0: none did. With
    /// the next one the only fields that change, and the end of a cache line.
    pub path_mtu: Shared32,
    /// Tick until which that holds.
    pub path_mtu_until: Shared32,
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
    /// Flag: the destination is the director itself.
    pub const LOCAL: u32 = 32;
    /// Flag: the neighbour's address is IPv6.
    pub const V6: u32 = 64;
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

/// Key of what the locality schedulers remember.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// Destination, as on the wire; IPv4 in the first word, the rest 0.
    pub destination: [u32; 4],
    /// Index of the service, and from bit 12 on a tick that tells what a scheduler remembered before it was set
    /// anew. [`SERVICES`] fits 14 bits.
    pub service: u32,
}

/// Servers in a [`Cached`] set.
pub const CACHED_SERVERS: u32 = 24;

/// Servers that a locality scheduler sends a destination to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Tick of the last use.
    pub used: u32,
    /// Tick of the last change to the set.
    pub changed: u32,
    /// Their indices, 16 bits each, the latest in the lowest bits of the first word; [`NO_SLOT`]: none.
    pub servers: [u64; CACHED_SERVERS as usize / 4],
}

/// What a connection entry has to do with another one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where the other entry is, as [`Position::number`](crate::connection::Position::number).
    pub position: u32,
    /// The [`tenancy`](crate::connection::tenancy_of) of its way when the link was made.
    pub tenancy: u32,
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
    /// Four slots of the hash rings, each the index of a server or [`NO_SLOT`], the first in the lowest bits.
    fn ring(&self, word: u32) -> Option<&Shared64>;
    /// What a locality scheduler remembers of a destination.
    fn cached(&self, key: &CacheKey) -> Option<Cached>;
    /// Remember it.
    fn cache(&self, key: &CacheKey, cached: &Cached);
    /// What the entry at a position has to do with another.
    fn link(&self, position: u32) -> Option<Link>;
    /// Note that, or take it out (`None`). False when there is no room.
    fn set_link(&self, position: u32, link: Option<Link>) -> bool;
    /// A random number.
    fn random(&self) -> u32;
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
    // The following are what their names say elsewhere. Here so that the kernel object can have them as global
    // functions of numbers, which are verified once and not for each of their callers.

    /// [`schedule::choose`].
    fn choose(&self, service: u32, origin: Origin, high: u64, low: u64) -> u32
    where
        Self: Sized,
    {
        schedule::choose(self, service, origin, high, low)
    }
    /// [`connection::place`].
    fn place(&self, new: &New, now: u32) -> Position
    where
        Self: Sized,
    {
        connection::place(self, new, now)
    }
    /// [`connection::make_sure`].
    fn make_sure(&self, client: Client, peer: Peer, ours: Position) -> Position
    where
        Self: Sized,
    {
        connection::make_sure(self, client, peer, ours)
    }
    /// [`template::make_sure`].
    fn make_sure_of_template(&self, network: Client, peer: Peer, ours: Position) -> Position
    where
        Self: Sized,
    {
        template::make_sure(self, network, peer, ours)
    }
    /// [`connection::take_out`].
    fn take_out(&self, position: Position, seen: u32) -> bool
    where
        Self: Sized,
    {
        connection::take_out(self, position, seen)
    }
    /// [`learn::learn`].
    fn learn(&self, position: Position, packet: Seen, now: u32)
    where
        Self: Sized,
    {
        learn::learn(self, position, packet, now);
    }
    /// [`template::tell`].
    fn tell_template(&self, connection: Position)
    where
        Self: Sized,
    {
        template::tell(self, connection);
    }
    /// [`connection::search`].
    fn search(&self, client: Client, peer: Peer, except: Position, first_probe: u32) -> Position
    where
        Self: Sized,
    {
        connection::search(self, client, peer, except, first_probe)
    }
    /// Where a packet from `source` to `destination` (as on the wire) with this type of service goes.
    fn route(&self, source: u32, destination: u32, tos: u8) -> Route;
}

/// The tick that `now` is in.
#[inline(always)]
pub fn ticks(now: u64, config: &Config) -> u32 {
    (now >> (config.tick_shift.get() & 31)) as u32
}
