//! The connection table: one entry for both directions of a connection, found from either.
//!
//! A bucketed table in one array. An entry's home bucket is a hash of what both directions carry: the
//! client's address and port and the protocol. A request has them as its source, a reply as its
//! destination, so that neither direction needs an index of its own, and both touch the same cache line.
//!
//! A bucket is 128 bytes: a word of four 16-bit tags, then four ways of 28 bytes. A lookup compares all
//! tags at once and reads only the way whose tag matches. When a bucket is full, entries go to the next of
//! [`PROBES`] places that the hash names; the home bucket counts how many of its entries live elsewhere, so
//! that a lookup goes on only if there are any.
//!
//! No locks. A way is claimed by putting `BUSY` into its tag with compare-and-swap, filled, then published
//! by its real tag. Everything that changes later and is counted is in one word (state, protocol, flags),
//! changed by compare-and-swap: who succeeds does the counting, so counts are exact whoever else works on
//! the entry. An entry is taken out by making that word [`DEAD`] first.
//!
//! Persistence templates ([`template`]) are entries as well, with a network in place of the client.

mod insert;
mod remove;
pub mod template;

pub use insert::{New, insert, make_sure, place, settle};
pub use remove::{change, is_half_open, remove, take_out};

use crate::{
    packet::{SCTP, TCP, UDP},
    shared::{Shared32, Shared64},
    tables::{Config, NONE, Server, Tables},
};

/// Ways in a bucket.
pub const WAYS: usize = 4;
/// Buckets that an entry may be in.
pub const PROBES: u32 = 8;

/// Tag of a way that is being filled.
const BUSY: u64 = 1;
/// One in every lane of a word of tags.
const LANES: u64 = 0x0001_0001_0001_0001;

/// One entry.
#[repr(C)]
#[derive(Debug, Default, Clone)]
pub struct Way {
    /// Client's address, as on the wire.
    pub client: Shared32,
    /// Virtual address, as on the wire.
    pub virtual_address: Shared32,
    /// Ports as they lie in a request: the client's in the first two bytes, the virtual one in the last.
    pub ports: Shared32,
    /// Index of the server.
    pub server: Shared32,
    /// State (bits 0–4), protocol (5–7), forwarding method (8–10), flags (11–19), how often the way was given to an
    /// entry (20–31).
    pub word: Shared32,
    /// Tick at which the entry ends unless packets move it.
    pub expires: Shared32,
    /// Next hop towards the client: index (bits 0–15) and the generation it is good for (16–31). Of a template: how
    /// many connections it controls.
    pub hop: Shared32,
}

impl Way {
    /// The port that the entry has at its server.
    #[inline(always)]
    pub fn server_port(&self, server: &Server) -> u16 {
        server_port(server, self.word.get(), self.ports.get())
    }
}

/// Four entries in two cache lines.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct Bucket {
    /// Four tags of 16 bits: 0 is a free way, 1 one being filled.
    pub tags: Shared64,
    /// Entries whose home this is and that live in another bucket.
    pub spilled: Shared32,
    /// Zero.
    pub reserved: Shared32,
    /// The entries.
    pub ways: [Way; WAYS],
}

/// Flag of [`Way::word`]: the server answered.
pub const ANSWERED: u32 = 1 << 11;
/// Flag of [`Way::word`]: the client spoke after the server had answered, as one that gets the answers does.
pub const CONFIRMED: u32 = 1 << 12;
/// Flag of [`Way::word`]: a persistence template.
pub const TEMPLATE: u32 = 1 << 13;
/// Flag of [`Way::word`]: a template made it and is told when it ends, see [`Tables::link`].
pub const CONTROLLED: u32 = 1 << 14;
/// Flag of [`Way::word`]: an IPv6 connection, which takes two ways.
pub const V6: u32 = 1 << 15;
/// Flag of [`Way::word`]: the port at the server is the virtual one, whatever port the server has. So it is under
/// persistent services on every port, and with the data connections of FTP.
pub const SAME_PORT: u32 = 1 << 16;
/// One in the part of [`Way::word`] that counts who had the way before (bits 20–31): a word that was seen is
/// never taken for the like word of a later entry.
const TENANCY: u32 = 1 << 20;
const TENANCIES: u32 = !(TENANCY - 1);
const STATE: u32 = 0x1f;
/// What tells entries of one client and port apart before addresses do: protocol, family, template or not.
const KIND: u32 = 7 << 5 | TEMPLATE | V6;

/// State number of an entry that is being taken out.
pub const DEAD: u8 = 0x1f;

/// State number in a way's word.
#[inline(always)]
pub const fn state_of(word: u32) -> u8 {
    (word & STATE) as u8
}

/// A word with another state.
#[inline(always)]
pub const fn with_state(word: u32, state: u8) -> u32 {
    word & !STATE | state as u32
}

/// IP protocol in a way's word; 0 for a template by firewall mark.
#[inline(always)]
pub const fn protocol_of(word: u32) -> u8 {
    match word >> 5 & 7 {
        1 => TCP,
        2 => UDP,
        3 => SCTP,
        _ => 0,
    }
}

/// The number in the IP header as the three bits of a word.
#[inline(always)]
const fn protocol_code(protocol: u8) -> u32 {
    match protocol {
        TCP => 1,
        UDP => 2,
        SCTP => 3,
        _ => 0,
    }
}

/// Forwarding method in a way's word.
#[inline(always)]
pub const fn method_of(word: u32) -> u16 {
    (word >> 8 & 7) as u16
}

/// How often a way was given to an entry, from its word.
#[inline(always)]
pub const fn tenancy_of(word: u32) -> u32 {
    word >> 20
}

/// A word of these parts, in its first tenancy.
#[inline(always)]
pub const fn word(state: u8, protocol: u8, method: u16, flags: u32) -> u32 {
    state as u32 | protocol_code(protocol) << 5 | (method as u32) << 8 | flags
}

/// What both directions of a connection carry: the client's address and port, and the protocol. One number, so
/// that it can be passed in a register: BPF has five of them for arguments and little stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client(u64);

impl Client {
    const TEMPLATE: u64 = 1 << 24;

    /// Address and port as on the wire.
    #[inline(always)]
    pub const fn new(address: u32, port: u16, protocol: u8) -> Self {
        Self((address as u64) << 32 | (port as u64) << 8 | protocol as u64)
    }

    /// As a number.
    #[inline(always)]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// From its number.
    #[inline(always)]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Clients of a network, as on the wire, as a persistence template has them.
    #[inline(always)]
    pub const fn network(address: u32, protocol: u8) -> Self {
        Self((address as u64) << 32 | Self::TEMPLATE | protocol as u64)
    }

    /// That of an entry.
    #[inline(always)]
    fn of(way: &Way, word: u32) -> Self {
        let (address, port) = (way.client.get(), first(way.ports.get()));
        let entry = Self::new(address, port, protocol_of(word));
        if word & TEMPLATE != 0 {
            Self(entry.0 | Self::TEMPLATE)
        } else {
            entry
        }
    }

    /// Address, as on the wire.
    #[inline(always)]
    pub const fn address(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Port, as on the wire.
    #[inline(always)]
    pub const fn port(self) -> u16 {
        (self.0 >> 8) as u16
    }

    /// IP protocol.
    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        self.0 as u8
    }

    /// Whether it stands for a persistence template.
    #[inline(always)]
    pub const fn is_template(self) -> bool {
        self.0 & Self::TEMPLATE != 0
    }

    /// The bits of [`KIND`] that its entry has.
    #[inline(always)]
    const fn kind(self) -> u32 {
        let template = if self.is_template() { TEMPLATE } else { 0 };
        protocol_code(self.protocol()) << 5 | template
    }
}

/// The other end of a packet: the virtual address of a request, the server of a reply. One number as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(u64);

impl Peer {
    const SERVER: u64 = 1 << 48;

    /// A request's destination, as on the wire.
    #[inline(always)]
    pub const fn virtual_end(address: u32, port: u16) -> Self {
        Self(address as u64 | (port as u64) << 32)
    }

    /// A reply's source, as on the wire.
    #[inline(always)]
    pub const fn server_end(address: u32, port: u16) -> Self {
        Self(address as u64 | (port as u64) << 32 | Self::SERVER)
    }

    /// As a number.
    #[inline(always)]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// From its number.
    #[inline(always)]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Address, as on the wire.
    #[inline(always)]
    pub const fn address(self) -> u32 {
        self.0 as u32
    }

    /// Port, as on the wire.
    #[inline(always)]
    pub const fn port(self) -> u16 {
        (self.0 >> 32) as u16
    }

    const fn is_server(self) -> bool {
        self.0 & Self::SERVER != 0
    }
}

/// An entry that was found.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Where it is.
    pub position: Position,
    /// Its bucket.
    pub bucket: &'a Bucket,
    /// The entry.
    pub way: &'a Way,
}

/// The place of a way in the table: bucket and lane in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(u32);

impl Position {
    /// No place.
    pub const NOWHERE: Self = Self(NONE);

    /// Lane of a bucket.
    #[inline(always)]
    pub const fn new(bucket: u32, lane: u32) -> Self {
        Self(bucket << 2 | lane & 3)
    }

    /// The entry there.
    #[inline(always)]
    pub fn entry<T: Tables>(self, tables: &T) -> Option<Entry<'_>> {
        if self == Self::NOWHERE {
            return None;
        }
        let bucket = tables.bucket(self.0 >> 2)?;
        Some(Entry {
            position: self,
            bucket,
            way: bucket.ways.get(self.lane() as usize)?,
        })
    }

    /// As a number.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// From its number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    const fn lane(self) -> u32 {
        self.0 & 3
    }

    const fn bucket(self) -> u32 {
        self.0 >> 2
    }
}

/// Where entries of a client are: the keyed hash, cut into its uses.
#[derive(Clone, Copy)]
struct Place {
    home: u32,
    step: u32,
    tag: u64,
}

impl Place {
    #[inline(always)]
    fn of(client: Client, seed: u64) -> Self {
        // The secret is added and multiplied by, so that differences between clients do not become known
        // differences between buckets. Cheap, and no cryptography: it makes aiming at a bucket hard, not impossible.
        let h = (client.0 ^ seed).wrapping_mul(seed.rotate_left(29) | 1);
        let h = (h ^ h >> 32 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let h = h ^ h >> 32;
        let tag = h >> 48;
        // Tags 0 and 1 mean something else.
        Self {
            home: h as u32,
            step: (h >> 16) as u32 | 1,
            tag: if tag < 2 { tag + 2 } else { tag },
        }
    }

    #[inline(always)]
    fn bucket(&self, probe: u32, mask: u32) -> u32 {
        self.home.wrapping_add(self.step.wrapping_mul(probe)) & mask
    }
}

/// Find the connection of a packet.
#[inline(always)]
pub fn find<'a, T: Tables>(
    tables: &'a T,
    config: &Config,
    client: Client,
    peer: Peer,
) -> Option<Entry<'a>> {
    let place = Place::of(client, config.seed.get());
    let index = place.bucket(0, config.bucket_mask.get());
    let bucket = tables.bucket(index)?;
    if let Some(found) = find_in(
        tables,
        index,
        bucket,
        &place,
        client,
        peer,
        Position::NOWHERE,
    ) {
        return Some(found);
    }
    if bucket.spilled.get() == 0 {
        return None;
    }
    find_from(tables, client, peer, Position::NOWHERE, 1).entry(tables)
}

/// Find an entry from a probe on, but not the one at `except`. Out of line, for where [`find`] goes on after an entry's
/// home, and for where speed does not matter.
#[inline(always)]
pub fn find_from<T: Tables>(
    tables: &T,
    client: Client,
    peer: Peer,
    except: Position,
    first_probe: u32,
) -> Position {
    tables.search(client, peer, except, first_probe)
}

/// What [`Tables::search`] does.
#[inline(always)]
pub fn search<T: Tables>(
    tables: &T,
    client: Client,
    peer: Peer,
    except: Position,
    first_probe: u32,
) -> Position {
    let Some(config) = tables.config() else {
        return Position::NOWHERE;
    };
    let place = Place::of(client, config.seed.get());
    let mask = config.bucket_mask.get();
    let mut position = Position::NOWHERE;
    let mut probe = first_probe;
    tables.repeat(PROBES.saturating_sub(first_probe), || {
        let index = place.bucket(probe, mask);
        probe += 1;
        let Some(bucket) = tables.bucket(index) else {
            return true;
        };
        if let Some(found) = find_in(tables, index, bucket, &place, client, peer, except) {
            position = found.position;
            return true;
        }
        // Entries are counted in their home before they are published elsewhere.
        probe == 1 && bucket.spilled.get() == 0
    });
    position
}

#[inline(always)]
fn find_in<'a, T: Tables>(
    tables: &'a T,
    index: u32,
    bucket: &'a Bucket,
    place: &Place,
    client: Client,
    peer: Peer,
    except: Position,
) -> Option<Entry<'a>> {
    let differ = bucket.tags.get() ^ (place.tag * LANES);
    // A lane that equals the tag is zero now; the usual trick tells in one step whether there is one.
    if differ.wrapping_sub(LANES) & !differ & 0x8000_8000_8000_8000 == 0 {
        return None;
    }
    for (lane, way) in bucket.ways.iter().enumerate() {
        let position = Position::new(index, lane as u32);
        if differ >> (16 * lane) & 0xffff == 0
            && position != except
            && is_connection(tables, way, client, peer)
        {
            return Some(Entry {
                position,
                bucket,
                way,
            });
        }
    }
    None
}

#[inline(always)]
fn is_connection<T: Tables>(tables: &T, way: &Way, client: Client, peer: Peer) -> bool {
    let word = way.word.get();
    if way.client.get() != client.address()
        || word & KIND != client.kind()
        || state_of(word) == DEAD
    {
        return false;
    }
    let ports = way.ports.get();
    if first(ports) != client.port() {
        return false;
    }
    if !peer.is_server() {
        return way.virtual_address.get() == peer.address()
            && last(ports) == peer.port()
            && (!client.is_template() || template::has_port(word, peer.port()));
    }
    match tables.server(way.server.get()) {
        Some(server) => {
            server.address.get() == peer.address()
                && server_port(server, word, ports) == peer.port()
        }
        None => false,
    }
}

/// The port that a connection with this word and these ports has at a server.
#[inline(always)]
pub fn server_port(server: &Server, word: u32, ports: u32) -> u16 {
    match server.port.get() {
        port if port != 0 && word & SAME_PORT == 0 => port,
        _ => last(ports),
    }
}

/// The port in the first two bytes of a pair.
#[inline(always)]
pub const fn first(ports: u32) -> u16 {
    (ports & 0xffff) as u16
}

/// The port in the last two bytes of a pair.
#[inline(always)]
pub const fn last(ports: u32) -> u16 {
    (ports >> 16) as u16
}

/// A pair of ports as it lies in a packet (little-endian machines only, as BPF here is).
#[inline(always)]
pub const fn pair(first: u16, last: u16) -> u32 {
    first as u32 | (last as u32) << 16
}

#[cfg(test)]
mod tests;
