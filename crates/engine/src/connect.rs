//! The stage that connects: which service, which server, and the entry for both.
//!
//! Entered for a packet that may make a connection ([`Verdict::Connect`]): one without an entry, or one that asks for
//! a connection where there is an entry already.

mod lookup;
mod persistence;
mod reuse;

use lookup::{FTP, FTP_DATA};
use persistence::Found;

use crate::{
    connection::{self, Client, New, Peer, Position, SAME_PORT, template},
    packet::{ETH, ICMP, IP, Ipv4, Packet, TCP, UDP, Wire},
    pipeline::{self, Verdict},
    reason::Reason,
    reject::Complaint,
    schedule::{self, Origin},
    settings,
    state::{RST, SYN},
    tables::{Config, NONE, Service, Tables, ticks},
    threshold,
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
    let Some(config) = tables.config() else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    let mut request = Request {
        client: Client::from_number(0),
        peer: Peer::from_number(0),
        flags: 0,
        is_tcp: false,
    };
    let is_read = if P::COMPLETE {
        read_request_apart(packet, &mut request)
    } else {
        read_request(packet, &mut request)
    };
    if !is_read {
        return Verdict::Drop(Reason::Inconsistent);
    }
    let (client, peer) = (request.client, request.peer);
    let there = connection::find_from(tables, client, peer, Position::NOWHERE, 0);
    if let Some(entry) = there.entry(tables)
        && !reuse::gives_way(tables, config, &entry, request.flags)
    {
        return Verdict::Send(NONE);
    }
    match make::<P, T>(tables, config, &request) {
        Connected::At(made) => {
            // Here and not where it was made: that is one call deeper, and Linux before 6.8 counts more
            // stack for each.
            match connection::settle(tables, client, peer, made) {
                Position::NOWHERE => Verdict::Drop(Reason::Raced),
                _ => Verdict::Send(NONE),
            }
        }
        Connected::Alone(server) => Verdict::Send(server),
        Connected::NoServer if P::FINAL => {
            let resets = config.settings.get() & settings::RESET_WITHOUT_SERVER != 0;
            Verdict::Reject(if resets && request.is_tcp {
                Complaint::Reset
            } else {
                Complaint::PortUnreachable
            })
        }
        Connected::NoServer | Connected::NotHere => Verdict::Leave,
        Connected::Pass(reason) => Verdict::Pass(reason),
        Connected::Drop(reason) => Verdict::Drop(reason),
    }
}

/// [`read_request`] out of line: a piece of the stack less for who calls.
#[inline(never)]
fn read_request_apart<P: Packet>(packet: &P, request: &mut Request) -> bool {
    read_request(packet, request)
}

/// Read who asks for what.
///
/// An ICMP error that is to make the connection that it is about (`schedule_icmp`) quotes a reply: it asks as the request
/// did, and by no flag, for nobody sends a SYN for that.
#[inline(always)]
fn read_request<P: Packet>(packet: &P, request: &mut Request) -> bool {
    let Some(ip) = packet.get::<Ipv4>(ETH) else {
        return false;
    };
    // The stage before has looked: the headers are there.
    let l4 = ETH + if P::COMPLETE { ip.header_length() } else { IP };
    if P::COMPLETE && ip.protocol == ICMP {
        let Some(quoted) = packet.load::<Ipv4>(l4 + 8) else {
            return false;
        };
        let Some(ports) = packet.load::<u32>(l4 + 8 + quoted.header_length()) else {
            return false;
        };
        let (first, last) = (connection::first(ports), connection::last(ports));
        request.client = Client::new(quoted.destination, last, quoted.protocol);
        request.peer = Peer::virtual_end(quoted.source, first);
        request.flags = if quoted.protocol == TCP { SYN } else { 0 };
        return true;
    }
    let Some(ports) = read::<P, u32>(packet, l4) else {
        return false;
    };
    let (first, last) = (connection::first(ports), connection::last(ports));
    request.client = Client::new(ip.source, first, ip.protocol);
    request.peer = Peer::virtual_end(ip.destination, last);
    if ip.protocol == TCP {
        let Some(flags) = read::<P, u8>(packet, l4 + 13) else {
            return false;
        };
        request.flags = flags;
        request.is_tcp = true;
    }
    true
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

/// A packet that may ask for a connection.
pub(crate) struct Request {
    client: Client,
    peer: Peer,
    /// TCP flags; 0 for UDP.
    flags: u8,
    /// Whether it is TCP itself, so that a reset can answer it.
    is_tcp: bool,
}

impl Request {
    /// Have the scheduler of a service pick a server for it, or [`NONE`].
    #[inline(always)]
    fn pick<T: Tables>(&self, tables: &T, service: u32) -> u32 {
        let origin = Origin::v4(self.client.address(), self.client.port());
        schedule::pick(tables, service, origin, self.peer.address() as u64, 0)
    }
}

/// What became of a packet that may ask for a connection.
enum Connected {
    /// Its entry, made but not settled.
    At(Position),
    /// It alone goes to this server.
    Alone(u32),
    /// There is no server for it.
    NoServer,
    /// It is for a later stage.
    NotHere,
    /// The host's own stack gets it.
    Pass(Reason),
    /// Nobody does.
    Drop(Reason),
}

/// Find the service, pick a server, make the connection (`ip_vs_schedule`).
#[inline(always)]
fn make<P: Packet, T: Tables>(tables: &T, config: &Config, request: &Request) -> Connected {
    let (client, peer) = (request.client, request.peer);
    let protocol = client.protocol();
    let index = lookup::service(tables, config, peer, protocol);
    let Some(service) = tables.service(index) else {
        return Connected::Pass(Reason::NoService);
    };
    if protocol == TCP && !is_opening(config, request.flags) {
        return Connected::Pass(Reason::NotSyn);
    }
    let is_one_packet = protocol == UDP && service.flags.get() & Service::ONE_PACKET != 0;
    if is_one_packet && !P::FINAL {
        // A server is chosen once and for a stage that can send to any: XDP has no way to tell tc.
        return Connected::NotHere;
    }
    if is_turn(config) {
        return Connected::Drop(Reason::DropRate);
    }
    if client.port() == FTP_DATA {
        return Connected::Pass(Reason::FtpData);
    }
    if !pipeline::is_unicast(client.address()) {
        return Connected::Pass(Reason::BadSource);
    }
    let now = ticks(tables.now(), config);
    let port = service.port_protocol.get() as u16;
    let is_persistent = service.persistence.get() != 0;
    let mut template = Position::NOWHERE;
    let mut server = NONE;
    if is_persistent {
        match persistence::template(tables, config, index, service, request, now) {
            Found::Held(held) => template = held,
            Found::NoServer => {}
            Found::TableFull => return Connected::Drop(Reason::TableFull),
            Found::Raced => return Connected::Drop(Reason::Raced),
        }
        if let Some(entry) = template.entry(tables) {
            server = entry.way.server.get();
        }
    } else if port == peer.port() {
        server = request.pick(tables, index);
    }
    if server == NONE {
        // To a port that happens to be one that FTP may use.
        return if port == FTP && peer.port() != FTP {
            Connected::Pass(Reason::NoService)
        } else {
            Connected::NoServer
        };
    }
    if is_one_packet {
        template::release(tables, template);
        return count_alone(tables, server);
    }
    let is_same_port = is_persistent && port != peer.port();
    let new = New {
        flags: if is_same_port { SAME_PORT } else { 0 },
        template,
        ..New::connection(client, peer, server)
    };
    match connection::insert(tables, &new, now) {
        Position::NOWHERE => {
            template::release(tables, template);
            Connected::Drop(Reason::TableFull)
        }
        position => Connected::At(position),
    }
}

/// Whether a TCP packet may make a connection.
#[inline(always)]
fn is_opening(config: &Config, flags: u8) -> bool {
    let is_sloppy = config.settings.get() & settings::SLOPPY_TCP != 0;
    flags & RST == 0 && (flags & SYN != 0 || is_sloppy)
}

/// Whether this is the one of so many new connections that is dropped (`ip_vs_todrop`).
#[inline(always)]
fn is_turn(config: &Config) -> bool {
    let rate = config.drop_rate.get();
    rate != 0 && config.drop_turn.add(1).checked_rem(rate) == Some(0)
}

/// Count a connection that lasts for one packet.
#[inline(always)]
fn count_alone<T: Tables>(tables: &T, index: u32) -> Connected {
    let (Some(server), Some(counts), Some(counters)) = (
        tables.server(index),
        tables.counts(index),
        tables.counters(index),
    ) else {
        return Connected::Drop(Reason::Inconsistent);
    };
    threshold::passed(server, counts);
    counters.connections.set(counters.connections.get() + 1);
    Connected::Alone(index)
}
