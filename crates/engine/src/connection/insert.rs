//! Entries come into the table: a way is claimed, a free one or one that gives way, then filled and published.

use super::{
    BUSY, Bucket, CONTROLLED, Client, DEAD, Entry, PROBES, Peer, Place, Position, TENANCIES,
    TENANCY, WAYS, find_from, is_half_open, pair, remove, template, tenancy_of, word,
};
use crate::{
    packet::UDP,
    reason::Reason,
    state::{self, State},
    tables::{Config, Link, Tables},
    threshold,
};

/// What an entry is made of.
#[derive(Clone, Copy, Debug)]
pub struct New {
    /// The client's end; of a template a network.
    pub client: Client,
    /// The virtual end.
    pub peer: Peer,
    /// Index of the server.
    pub server: u32,
    /// Flags of its word: [`SAME_PORT`](super::SAME_PORT) or none.
    pub flags: u32,
    /// The template that it is to be controlled by, held for it ([`template::find`]), or [`Position::NOWHERE`].
    pub template: Position,
    /// Seconds that it lives unless packets or connections move that.
    pub seconds: u32,
}

impl New {
    /// A connection without a template.
    #[inline(always)]
    pub const fn connection(client: Client, peer: Peer, server: u32) -> Self {
        Self {
            client,
            peer,
            server,
            flags: 0,
            template: Position::NOWHERE,
            seconds: state::FIRST_TIMEOUT,
        }
    }
}

/// Make an entry and count it; [`settle`] must follow, or [`template::settle`] for a template, which is held then.
///
/// [`Position::NOWHERE`] when no bucket has room; a half-open connection gives way before that happens.
#[inline(always)]
pub fn insert<T: Tables>(tables: &T, new: &New, now: u32) -> Position {
    tables.place(new, now)
}

/// What [`Tables::place`] does.
#[inline(always)]
pub fn place<T: Tables>(tables: &T, new: &New, now: u32) -> Position {
    let Some(config) = tables.config() else {
        return Position::NOWHERE;
    };
    let place = Place::of(new.client, config.seed.get());
    let position = find_room(tables, config, &place);
    match fill(tables, config, &place, position, new, now) {
        Some(()) => position,
        None => Position::NOWHERE,
    }
}

/// See whether another processor made the same connection meanwhile, and if so withdraw ours for it.
///
/// Both look after publishing, so at least one sees the other's. If both withdraw, the packet is given up
/// ([`Position::NOWHERE`]) and the client asks again. Apart from [`insert`], because the kernel has little stack.
#[inline(always)]
pub fn settle<T: Tables>(tables: &T, client: Client, peer: Peer, ours: Position) -> Position {
    tables.make_sure(client, peer, ours)
}

/// What [`Tables::make_sure`] does.
#[inline(always)]
pub fn make_sure<T: Tables>(tables: &T, client: Client, peer: Peer, ours: Position) -> Position {
    let Some(entry) = ours.entry(tables) else {
        return Position::NOWHERE;
    };
    let word = entry.way.word.get();
    if find_from(tables, client, peer, ours, 0) == Position::NOWHERE {
        return ours;
    }
    remove(tables, ours, word);
    find_from(tables, client, peer, ours, 0)
}

/// Claim a way for an entry: a free one, or else that of an entry that gives way.
#[inline(always)]
fn find_room<T: Tables>(tables: &T, config: &Config, place: &Place) -> Position {
    let mask = config.bucket_mask.get();
    let mut position = Position::NOWHERE;
    let mut probe = 0;
    tables.repeat(PROBES, || {
        let index = place.bucket(probe, mask);
        probe += 1;
        match tables.bucket(index) {
            Some(bucket) => position = claim(index, bucket),
            None => return true,
        }
        position != Position::NOWHERE
    });
    if position != Position::NOWHERE {
        return position;
    }
    // A loop of its own: before Linux 6.7 the verifier looks at the first turn of a loop alone, with what is known
    // then, and removes code that this turn does not reach.
    let mut probe = 0;
    tables.repeat(PROBES, || {
        let index = place.bucket(probe, mask);
        probe += 1;
        match tables.bucket(index) {
            Some(bucket) if put_one_out(tables, index, bucket) => {
                position = claim(index, bucket);
            }
            Some(_) => {}
            None => return true,
        }
        position != Position::NOWHERE
    });
    position
}

/// Claim a free way of a bucket, if it has one.
#[inline(always)]
fn claim(index: u32, bucket: &Bucket) -> Position {
    for lane in 0..WAYS as u32 {
        let tags = bucket.tags.get();
        if tags >> (16 * lane) & 0xffff == 0
            && bucket.tags.replace(tags, tags | BUSY << (16 * lane))
        {
            return Position::new(index, lane);
        }
    }
    Position::NOWHERE
}

/// Put out one entry of a bucket that has to give way.
#[inline(always)]
fn put_one_out<T: Tables>(tables: &T, index: u32, bucket: &Bucket) -> bool {
    for (lane, way) in bucket.ways.iter().enumerate() {
        let word = way.word.get();
        let position = Position::new(index, lane as u32);
        if bucket.tags.get() >> (16 * lane) & 0xffff > BUSY
            && is_half_open(word)
            && remove(tables, position, word)
        {
            tables.count(Reason::HalfOpenEvicted);
            return true;
        }
    }
    false
}

/// Fill a claimed way, publish it and count it.
#[inline(always)]
fn fill<T: Tables>(
    tables: &T,
    config: &Config,
    place: &Place,
    position: Position,
    new: &New,
    now: u32,
) -> Option<()> {
    let Entry { bucket, way, .. } = position.entry(tables)?;
    let client = new.client;
    way.client.set(client.address());
    way.virtual_address.set(new.peer.address());
    way.ports.set(pair(client.port(), new.peer.port()));
    way.server.set(new.server);
    let life = new.seconds.wrapping_mul(config.ticks_per_second.get());
    way.expires.set(now.wrapping_add(life));
    // Who makes a template holds it.
    way.hop.set(client.is_template() as u32);
    let fresh = match client.protocol() {
        _ if client.is_template() => State::TemplateNone,
        UDP => State::Udp,
        _ => State::None,
    };
    let tenancy = way.word.get().wrapping_add(TENANCY) & TENANCIES;
    let server = tables.server(new.server)?;
    let base = word(0, 0, server.method.get(), tenancy | new.flags) | client.kind();
    let base = base | link(tables, position, new, tenancy);
    // Dead until all else is in place: nobody may take it out, or count for it, before.
    way.word.set(base | DEAD as u32);
    let counts = tables.counts(new.server)?;
    let total = if client.is_template() {
        counts.persistent.add(1);
        counts.total.get()
    } else {
        counts.total.add(1).wrapping_add(1)
    };
    threshold::bound(server, counts, total);
    let home = place.bucket(0, config.bucket_mask.get());
    if home != position.bucket() {
        tables.bucket(home)?.spilled.add(1);
    }
    // The tag was 1 and becomes `tag`: no lane carries into the next.
    bucket
        .tags
        .add((place.tag - BUSY) << (16 * position.lane()));
    way.word.set(base | fresh as u32);
    if !client.is_template() {
        let counters = tables.counters(new.server)?;
        counters.connections.set(counters.connections.get() + 1);
    }
    Some(())
}

/// Note which template a connection is controlled by; gives the flag that says so. Without room for that note the
/// connection is on its own. For a template, note how long it lives.
#[inline(always)]
fn link<T: Tables>(tables: &T, position: Position, new: &New, tenancy: u32) -> u32 {
    let (link, flag) = if new.client.is_template() {
        let tenancy = tenancy_of(tenancy);
        let position = new.seconds;
        (Link { position, tenancy }, 0)
    } else {
        let Some(entry) = new.template.entry(tables) else {
            return 0;
        };
        let tenancy = tenancy_of(entry.way.word.get());
        let position = new.template.number();
        (Link { position, tenancy }, CONTROLLED)
    };
    if tables.set_link(position.number(), Some(link)) {
        return flag;
    }
    if flag != 0 {
        template::release(tables, new.template);
    }
    0
}
