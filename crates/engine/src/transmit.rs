//! Packets of a connection on their way: to the server by its forwarding method, back to the client, and what the
//! connection learns from them.

use crate::{
    connection::{self, Entry, Position},
    deliver::{self, Ask, Next},
    learn::{self, Seen},
    packet::{DONT_FRAGMENT, ETH, Ipv4, Packet, UDP},
    pipeline::{Flow, Verdict},
    reason::Reason,
    reject::{self, Complaint},
    rewrite::{self, Part, Rewrite},
    settings,
    state::Direction,
    tables::{Config, Hop, Outcome, Server, Tables, ticks},
    tunnel,
};

/// Forwarding method, IPVS's number: network address translation.
pub const MASQUERADE: u16 = 0;
/// Forwarding method, IPVS's number: encapsulation.
pub const TUNNEL: u16 = 2;
/// Forwarding method, IPVS's number: the frame goes to the server as it is.
pub const GATEWAY: u16 = 3;

/// What a packet is sent on by.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    /// Index of the server.
    pub(crate) server: u32,
    /// Its connection; [`Position::NOWHERE`] when the packet was scheduled for itself alone.
    pub(crate) position: Position,
    /// Forwarding method.
    pub(crate) method: u16,
    /// Whether the port at the server is the virtual one, whatever port the server has.
    pub(crate) same_port: bool,
}

impl Path {
    /// That of a connection.
    #[inline(always)]
    pub(crate) fn of(entry: &Entry<'_>) -> Self {
        let word = entry.way.word.get();
        Self {
            server: entry.way.server.get(),
            position: entry.position,
            method: connection::method_of(word),
            same_port: word & connection::SAME_PORT != 0,
        }
    }

    /// The port at the server for these of a packet.
    #[inline(always)]
    fn server_port(&self, server: &Server, ports: u32) -> u16 {
        let word = if self.same_port {
            connection::SAME_PORT
        } else {
            0
        };
        connection::server_port(server, word, ports)
    }

    /// That of a packet to this virtual port that was scheduled for itself alone.
    #[inline(always)]
    pub(crate) fn alone<T: Tables>(tables: &T, index: u32, port: u16) -> Option<Self> {
        let server = tables.server(index)?;
        let service = tables.service(server.service.get())?;
        let is_other_port = service.port_protocol.get() as u16 != port;
        Some(Self {
            server: index,
            position: Position::NOWHERE,
            method: server.method.get(),
            same_port: service.persistence.get() != 0 && is_other_port,
        })
    }
}

/// Send a packet to its server.
#[inline(always)]
pub(crate) fn to_server<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    flow: &Flow,
    path: Path,
    now: u32,
) -> Verdict {
    let ip = &flow.ip;
    let Some(server) = tables.server(path.server) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    if server.flags.get() & Server::AVAILABLE == 0 {
        // The stage that connects takes the entry out and starts anew, if that is wanted.
        // A later fragment has no ports to do that by.
        if config.settings.get() & settings::EXPIRE_NODEST_CONN != 0
            && !packet.is_chosen()
            && flow.part != Part::Later
        {
            return Verdict::Connect;
        }
        return Verdict::Drop(Reason::ServerRemoved);
    }
    let Some(hop) = tables.hop(server.hop.get()) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    let flags = hop.flags.get();
    let is_tunnel = path.method == TUNNEL;
    let mtu = if is_tunnel {
        tunnel::room(server.tunnel.get(), tunnel::path_mtu(hop, now))
    } else {
        hop.mtu.get()
    };
    let too_long = length_on_wire(packet, ip) > mtu as usize;
    if !P::COMPLETE {
        let lacks_checksum = match path.method {
            MASQUERADE => lacks_checksum(packet, ip),
            TUNNEL if tunnel::asks_for_checksum(server.tunnel.get()) => {
                !tunnel::has_known_sum(packet, ip)
            }
            _ => false,
        };
        if ip.ttl <= 1 || too_long || flags & P::NEEDS != P::NEEDS || lacks_checksum {
            return Verdict::Leave;
        }
    }
    if flow.part != Part::Later
        && let Some(entry) = path.position.entry(tables)
    {
        follow::<P, T>(tables, config, &entry, Direction::In, flow, now);
    }
    count_packet(tables, path.server, Direction::In, bytes(packet, ip));
    let is_local = P::COMPLETE && flags & Hop::LOCAL != 0;
    if P::COMPLETE && !is_local {
        let must_fit = !is_tunnel || config.settings.get() & settings::PMTU_DISC != 0;
        let complaint = if ip.ttl <= 1 {
            Some(Complaint::TimeExceeded)
        } else if flags & Hop::UNREACHABLE != 0 {
            Some(Complaint::HostUnreachable)
        } else if is_tunnel && mtu < tunnel::LEAST_ROOM {
            return Verdict::Drop(Reason::TooLong);
        } else if too_long && must_fit && ip.fragment & DONT_FRAGMENT != 0 {
            // IPVS has counted the hop by then.
            if rewrite::time_to_live(packet, ip, ip.ttl - 1).is_none() {
                return Verdict::Drop(Reason::RewriteFailed);
            }
            Some(Complaint::FragmentationNeeded(mtu))
        } else {
            // Without discovery the wrapped packet is fragmented whatever the flag says.
            None
        };
        if let Some(complaint) = complaint {
            if path.method != MASQUERADE {
                // IPVS takes its own error for one that the server sent.
                let length = reject::length_of_error(bytes(packet, ip) as usize);
                count_packet(tables, path.server, Direction::Out, length as u64);
            }
            return Verdict::Reject(complaint);
        }
    }
    if path.method != MASQUERADE {
        if is_local {
            return Verdict::Stack(Reason::LocalServer);
        }
        // The host would take the packet for itself.
        if P::COMPLETE && flags & Hop::ROUTED == 0 {
            return Verdict::Drop(Reason::NoRouteToServer);
        }
    }
    // What the host sends on counts as a hop there.
    let by_host = P::COMPLETE
        && path.method == MASQUERADE
        && (is_local || too_long || flags & Hop::ROUTED == 0);
    let ttl = if by_host { ip.ttl } else { ip.ttl - 1 };
    let changed = if path.method == MASQUERADE {
        let to = Rewrite {
            direction: Direction::In,
            old_port: connection::last(flow.ports),
            address: server.address.get(),
            port: path.server_port(server, flow.ports),
            ttl,
        };
        change(packet, flow, &to)
    } else {
        rewrite::time_to_live(packet, ip, ttl)
    };
    if changed.is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    if by_host {
        return Verdict::Stack(if is_local {
            Reason::LocalServer
        } else if too_long {
            Reason::Fragmented
        } else {
            Reason::RoutedByHost
        });
    }
    if is_tunnel {
        return Verdict::Encapsulate(path.server);
    }
    if P::COMPLETE && too_long {
        return Verdict::Encapsulate(path.server | tunnel::UNWRAPPED);
    }
    deliver::deliver_by_hop(packet, hop)
}

/// Send a reply to its client.
#[inline(always)]
pub(crate) fn to_client<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    flow: &Flow,
    entry: &Entry<'_>,
    now: u32,
) -> Verdict {
    let (ip, way) = (&flow.ip, entry.way);
    let index = way.server.get();
    let Some(server) = tables.server(index) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    if connection::method_of(way.word.get()) != MASQUERADE {
        // A server's own answer that happens to be routed through the director: it is only looked at, once.
        if !P::FINAL {
            return Verdict::Leave;
        }
        if flow.part != Part::Later {
            follow::<P, T>(tables, config, entry, Direction::Out, flow, now);
        }
        if server.flags.get() & Server::AVAILABLE != 0 {
            count_packet(tables, index, Direction::Out, bytes(packet, ip));
        }
        return Verdict::Stack(Reason::AnswerOfServer);
    }
    if !P::COMPLETE && lacks_checksum(packet, ip) {
        return Verdict::Leave;
    }
    let generation = config.route_generation.get().wrapping_add(now >> 9) & 0xffff;
    let known = way.hop.get();
    let next = if known >> 16 == generation && known & 0xffff != 0 {
        match tables.hop(known & 0xffff) {
            Some(hop) => Next::of(hop),
            None => return Verdict::Drop(Reason::Inconsistent),
        }
    } else if P::COMPLETE {
        // Not worth learning for what is rare, and the stack has no room for one more call.
        Next {
            route: tables.route(way.virtual_address.get(), ip.destination, ip.tos),
            flags: 0,
        }
    } else {
        let ask = Ask::new(way.virtual_address.get(), ip.tos, generation);
        deliver::learn_route(tables, entry.position, ip.destination, ask)
    };
    match next.route.outcome {
        Outcome::Resolved => {
            let too_long = length_on_wire(packet, ip) > next.route.mtu as usize;
            if !P::COMPLETE && (ip.ttl <= 1 || too_long || next.flags & P::NEEDS != P::NEEDS) {
                return Verdict::Leave;
            }
            if too_long {
                // With DF the host tells the server; without, it would have to fragment a packet whose source
                // is its own address by then, which it takes for forged.
                let honest = ip.fragment & DONT_FRAGMENT != 0;
                return if honest {
                    Verdict::Pass(Reason::ReplyUndeliverable)
                } else {
                    Verdict::Drop(Reason::TooLong)
                };
            }
        }
        _ if !P::COMPLETE => return Verdict::Leave,
        Outcome::Unresolved => {}
        Outcome::Disabled => return Verdict::Drop(Reason::ForwardingDisabled),
        Outcome::Local | Outcome::Unreachable => return Verdict::Drop(Reason::NoRouteToClient),
    }
    if ip.ttl <= 1 {
        return Verdict::Pass(Reason::ReplyUndeliverable);
    }
    if flow.part != Part::Later {
        follow::<P, T>(tables, config, entry, Direction::Out, flow, now);
    }
    if server.flags.get() & Server::AVAILABLE != 0 {
        count_packet(tables, index, Direction::Out, bytes(packet, ip));
    }
    let to = Rewrite {
        direction: Direction::Out,
        old_port: connection::first(flow.ports),
        address: way.virtual_address.get(),
        port: connection::last(way.ports.get()),
        ttl: ip.ttl - 1,
    };
    if change(packet, flow, &to).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    deliver::deliver_by_route(packet, &next.route)
}

/// [`to_server`] out of line, with a piece of the stack of its own; the verdict is [packed](Verdict::pack).
#[inline(never)]
pub(crate) fn to_server_apart<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    flow: &Flow,
    path: &Path,
) -> u64 {
    match tables.config() {
        Some(config) => {
            let now = ticks(tables.now(), config);
            to_server(packet, tables, config, flow, *path, now)
        }
        None => Verdict::Drop(Reason::Inconsistent),
    }
    .pack()
}

/// [`to_client`] out of line, with a piece of the stack of its own; the verdict is [packed](Verdict::pack).
#[inline(never)]
pub(crate) fn to_client_apart<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    flow: &Flow,
    position: Position,
) -> u64 {
    match (tables.config(), position.entry(tables)) {
        (Some(config), Some(entry)) => {
            let now = ticks(tables.now(), config);
            to_client(packet, tables, config, flow, &entry, now)
        }
        _ => Verdict::Drop(Reason::Inconsistent),
    }
    .pack()
}

/// Whether a plain packet is UDP without a checksum, which it gets before its address changes.
#[inline(always)]
fn lacks_checksum<P: Packet>(packet: &P, ip: &Ipv4) -> bool {
    ip.protocol == UDP && packet.get::<u16>(rewrite::L4 + 6) == Some(0)
}

#[inline(always)]
fn change<P: Packet>(packet: &mut P, flow: &Flow, to: &Rewrite) -> Option<()> {
    if P::COMPLETE {
        rewrite::general(packet, &flow.ip, flow.l4, flow.part, to)
    } else {
        rewrite::simple(packet, &flow.ip, to)
    }
}

/// Have a connection learn from a packet; out of line where that is rare.
#[inline(always)]
fn follow<P: Packet, T: Tables>(
    tables: &T,
    config: &Config,
    entry: &Entry<'_>,
    direction: Direction,
    flow: &Flow,
    now: u32,
) {
    let packet = Seen {
        direction,
        flags: flow.flags,
    };
    if P::COMPLETE {
        tables.learn(entry.position, packet, now);
    } else {
        learn::from_packet(tables, config, entry, packet, now);
    }
}

/// Count a packet of a server's connection.
#[inline(always)]
pub(crate) fn count_packet<T: Tables>(tables: &T, server: u32, direction: Direction, bytes: u64) {
    let Some(counters) = tables.counters(server) else {
        return;
    };
    match direction {
        Direction::In => {
            counters.in_packets.set(counters.in_packets.get() + 1);
            counters.in_bytes.set(counters.in_bytes.get() + bytes);
        }
        Direction::Out => {
            counters.out_packets.set(counters.out_packets.get() + 1);
            counters.out_bytes.set(counters.out_bytes.get() + bytes);
        }
    }
}

/// Bytes that a packet counts for: from the IP header on.
#[inline(always)]
fn bytes<P: Packet>(packet: &P, ip: &Ipv4) -> u64 {
    if ip.total_length == 0 {
        packet.len().saturating_sub(ETH) as u64
    } else {
        ip.length() as u64
    }
}

/// Length that must fit an MTU.
#[inline(always)]
fn length_on_wire<P: Packet>(packet: &P, ip: &Ipv4) -> usize {
    packet.segment_length().unwrap_or_else(|| ip.length())
}
