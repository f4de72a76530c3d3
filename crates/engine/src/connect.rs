//! The stage that connects: which service, which server, and the entry for both.
//!
//! Entered for a packet that may make a connection ([`Verdict::Connect`]): one without an entry, or one that asks for
//! a connection where there is an entry already.

use crate::{
    connection::{self, Client, Entry, Peer, Position},
    packet::{ETH, IP, Ipv4, Packet, TCP, Wire},
    pipeline::{self, Verdict},
    reason::Reason,
    reject::Complaint,
    schedule::{self, Origin},
    state::{RST, SYN, State},
    tables::{NONE, ServiceKey, Tables, ticks},
};

/// Make the connection of a packet, if it is to have one, and send it back to a stage that finds it.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let verdict = connect(packet, tables);
    match verdict {
        Verdict::Pass(reason) if P::FINAL => tables.count(reason),
        Verdict::Drop(reason) => tables.count(reason),
        _ => {}
    }
    verdict
}

#[inline(always)]
fn connect<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let (Some(ip), Some(config)) = (packet.get::<Ipv4>(ETH), tables.config()) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    // The stage before has looked: the headers are there.
    let l4 = ETH + if P::COMPLETE { ip.header_length() } else { IP };
    let Some(ports) = read::<P, u32>(packet, l4) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    let mut flags = 0;
    if ip.protocol == TCP {
        match read::<P, u8>(packet, l4 + 13) {
            Some(read) => flags = read,
            None => return Verdict::Drop(Reason::Inconsistent),
        }
    }
    let (first, last) = (connection::first(ports), connection::last(ports));
    let client = Client::new(ip.source, first, ip.protocol);
    let peer = Peer::virtual_end(ip.destination, last);
    let there = connection::find_from(tables, client, peer, Position::NOWHERE, 0);
    if let Some(entry) = there.entry(tables)
        && !gives_way(tables, &entry, flags)
    {
        return Verdict::Send(NONE);
    }
    let now = ticks(tables.now(), config);
    match make(tables, client, peer, flags, now) {
        Connected::At(made) => {
            // Here and not where it was made: that is one call deeper, and Linux before 6.8 counts more
            // stack for each.
            match connection::settle(tables, client, peer, made) {
                Position::NOWHERE => Verdict::Drop(Reason::Raced),
                _ => Verdict::Send(NONE),
            }
        }
        Connected::TableFull => Verdict::Drop(Reason::TableFull),
        Connected::BadSource => Verdict::Pass(Reason::BadSource),
        Connected::NoServer if P::FINAL => Verdict::Reject(Complaint::PortUnreachable),
        Connected::NoServer => Verdict::Leave,
        Connected::NoService => Verdict::Pass(Reason::NoService),
        Connected::NotSyn => Verdict::Pass(Reason::NotSyn),
        Connected::FtpData => Verdict::Pass(Reason::FtpData),
    }
}

/// Read where the stage can.
#[inline(always)]
fn read<P: Packet, W: Wire + Default>(packet: &P, offset: usize) -> Option<W> {
    if P::COMPLETE {
        packet.load(offset)
    } else {
        packet.get(offset)
    }
}

/// Whether a request asks for a new connection on the address and port of one that is over; that one then
/// makes room (sysctl `conn_reuse_mode`, reference §3.8).
#[inline(always)]
fn gives_way<T: Tables>(tables: &T, entry: &Entry<'_>, flags: u8) -> bool {
    if flags & SYN == 0 {
        return false;
    }
    let word = entry.way.word.get();
    let state = connection::state_of(word);
    let over = state == State::TimeWait as u8 || state == State::Close as u8;
    over && connection::remove(tables, entry.position, word)
}

/// What became of a packet that may ask for a connection.
enum Connected {
    /// Its entry, made but not settled.
    At(Position),
    TableFull,
    BadSource,
    NoServer,
    NoService,
    NotSyn,
    FtpData,
}

/// Find the service, pick a server, make the connection.
#[inline(always)]
fn make<T: Tables>(tables: &T, client: Client, peer: Peer, flags: u8, now: u32) -> Connected {
    let protocol = client.protocol();
    let key = ServiceKey::v4(peer.address(), peer.port(), protocol);
    let Some(index) = tables.find_service(&key) else {
        return Connected::NoService;
    };
    if protocol == TCP && (flags & SYN == 0 || flags & RST != 0) {
        return Connected::NotSyn;
    }
    if client.port() == 20u16.to_be() {
        return Connected::FtpData;
    }
    if !pipeline::is_unicast(client.address()) {
        return Connected::BadSource;
    }
    let origin = Origin::v4(client.address(), client.port());
    match schedule::pick(tables, index, origin, peer.address() as u64, 0) {
        NONE => Connected::NoServer,
        server => match connection::insert(tables, client, peer, server, now) {
            Position::NOWHERE => Connected::TableFull,
            position => Connected::At(position),
        },
    }
}
