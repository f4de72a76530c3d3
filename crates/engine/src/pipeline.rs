//! The way of a packet: parse, connection, service, schedule, rewrite, forward.
//!
//! [`process`] is entered at every stage: XDP where there is one, then tc, then the complete stage behind tc.
//! The first two take the packets that are plain (IPv4 without options, whole, TCP or UDP with a checksum, next
//! hop known) and leave others, untouched and uncounted, to the next. That keeps the common way short, and
//! within what the BPF verifier and its 512 bytes of stack allow.

use crate::{
    checksum::{fold, pseudo_header},
    connection::{self, Client, Entry, Peer, Position},
    fragment,
    packet::{DONT_FRAGMENT, ETH, ETHERTYPE_IPV4, FRAGMENT, ICMP, Ipv4, Packet, TCP, UDP},
    reason::Reason,
    reject::Complaint,
    rewrite::{self, L4, Part, Rewrite},
    schedule,
    state::{self, ACK, Direction, FIN, RST, SYN, State},
    tables::{
        CLIENT_HOPS, Config, Filter, Hop, NONE, Outcome, Port, Route, SERVER_HOPS, Server,
        ServiceKey, Tables, ticks,
    },
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the next stage, untouched.
    Leave,
    /// To the stage for ICMP ([`crate::icmp::process`]), untouched.
    LeaveIcmp,
    /// To the host's own stack, untouched.
    Pass(Reason),
    /// To the host's own stack, rewritten: it has something to do that this cannot, such as to fragment.
    Stack(Reason),
    /// Dropped.
    Drop(Reason),
    /// To be answered with an error, by [`crate::reject::reject`].
    Reject(Complaint),
    /// Out of an interface; the Ethernet header is in place.
    Redirect(u32),
    /// Out of an interface (the first), to a neighbour (the second, as on the wire) that the kernel finds.
    Neighbour(u32, u32),
}

/// Decide about a packet, change it as decided, and count.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let verdict = if P::COMPLETE {
        complete(packet, tables)
    } else {
        plain(packet, tables)
    };
    match verdict {
        Verdict::Pass(reason) | Verdict::Stack(reason) if P::FINAL => tables.count(reason),
        Verdict::Drop(reason) => tables.count(reason),
        _ => {}
    }
    verdict
}

/// What is known of a packet of ours once its headers are read.
#[derive(Clone, Copy)]
struct Flow {
    ip: Ipv4,
    /// Offset of the TCP or UDP header.
    l4: usize,
    ports: u32,
    /// TCP flags; 0 for UDP.
    flags: u8,
    part: Part,
    to_virtual: bool,
    from_server: bool,
}

/// The stages for plain packets.
#[inline(always)]
fn plain<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    match packet.get::<u16>(12) {
        Some(ETHERTYPE_IPV4) => {}
        _ => return Verdict::Pass(Reason::NotIpv4),
    }
    let Some(ip) = packet.get::<Ipv4>(ETH) else {
        return Verdict::Pass(Reason::Truncated);
    };
    let Some(filter) = tables.filter() else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    let to_virtual = Filter::has(&filter.virtuals, ip.destination);
    let from_server = Filter::has(&filter.servers, ip.source);
    if ip.protocol == ICMP {
        // It may be about a connection whatever its own addresses are.
        return Verdict::LeaveIcmp;
    }
    if !to_virtual && !from_server {
        return Verdict::Pass(Reason::NoMatch);
    }
    if !packet.is_for_us(tables) {
        return Verdict::Pass(Reason::NotForUs);
    }
    if ip.version_ihl != 0x45 || ip.fragment & FRAGMENT != 0 {
        return Verdict::Leave;
    }
    if packet.len() < ETH + ip.length() {
        return Verdict::Pass(Reason::Truncated);
    }
    let flags = match ip.protocol {
        TCP if is_long_enough(packet, &ip, 40) => packet.get::<u8>(L4 + 13),
        UDP if is_long_enough(packet, &ip, 28) => {
            if packet.get::<u16>(L4 + 6) == Some(0) {
                return Verdict::Leave;
            }
            Some(0)
        }
        TCP | UDP => None,
        _ => return Verdict::Pass(Reason::OtherProtocol),
    };
    let (Some(flags), Some(ports)) = (flags, packet.get::<u32>(L4)) else {
        return Verdict::Pass(Reason::Truncated);
    };
    let flow = Flow {
        ip,
        l4: L4,
        ports,
        flags,
        part: Part::Whole,
        to_virtual,
        from_server,
    };
    if P::MAY_BE_UNFINISHED && is_unfinished(packet, &flow) {
        return Verdict::Leave;
    }
    forward(packet, tables, &flow)
}

/// Whether IP packet and frame reach over the headers. Super-packets of over 64 KiB carry no length (`BIG TCP`).
#[inline(always)]
fn is_long_enough<P: Packet>(packet: &P, ip: &Ipv4, needed: usize) -> bool {
    let claimed =
        ip.length() >= needed || (ip.total_length == 0 && packet.segment_length().is_some());
    claimed && packet.len() >= ETH + needed
}

/// Whether the checksum field holds just the sum of the pseudo header (see [`Packet::MAY_BE_UNFINISHED`]).
#[inline(always)]
fn is_unfinished<P: Packet>(packet: &P, flow: &Flow) -> bool {
    let ip = &flow.ip;
    let length = (ip.length() as u16).wrapping_sub(ip.header_length() as u16);
    let unfinished = fold(pseudo_header(
        ip.source,
        ip.destination,
        ip.protocol,
        length,
    ));
    let field = if ip.protocol == TCP {
        packet.get::<u16>(L4 + 16)
    } else {
        packet.get::<u16>(L4 + 6)
    };
    field == Some(unfinished)
}

/// The stage for everything but ICMP: also IP options, fragments, UDP without checksum.
#[inline(always)]
fn complete<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let Some(ip) = packet.get::<Ipv4>(ETH) else {
        return Verdict::Pass(Reason::Truncated);
    };
    let Some(filter) = tables.filter() else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    if packet.get::<u16>(12) != Some(ETHERTYPE_IPV4) {
        return Verdict::Pass(Reason::NotIpv4);
    }
    if !packet.is_for_us(tables) {
        return Verdict::Pass(Reason::NotForUs);
    }
    let header = ip.header_length();
    if ip.version_ihl >> 4 != 4 || header < 20 {
        return Verdict::Pass(Reason::Truncated);
    }
    let to_virtual = Filter::has(&filter.virtuals, ip.destination);
    let from_server = Filter::has(&filter.servers, ip.source);
    if !to_virtual && !from_server {
        return Verdict::Pass(Reason::NoMatch);
    }
    if ip.protocol != TCP && ip.protocol != UDP {
        return Verdict::Pass(Reason::OtherProtocol);
    }
    let part = fragment::part(&ip);
    let l4 = ETH + header;
    let (ports, flags) = if part == Part::Later {
        match fragment::find(tables, &ip) {
            Some(ports) => (ports, 0),
            None => return Verdict::Pass(Reason::FragmentUnknown),
        }
    } else {
        let needed = header + if ip.protocol == TCP { 20 } else { 8 };
        if packet.len() < ETH + ip.length() || !is_long_enough(packet, &ip, needed) {
            return Verdict::Pass(Reason::Truncated);
        }
        let flags = if ip.protocol == TCP {
            packet.load::<u8>(l4 + 13)
        } else {
            Some(0)
        };
        match (packet.load::<u32>(l4), flags) {
            (Some(ports), Some(flags)) => (ports, flags),
            _ => return Verdict::Pass(Reason::Truncated),
        }
    };
    let flow = Flow {
        ip,
        l4,
        ports,
        flags,
        part,
        to_virtual,
        from_server,
    };
    let verdict = forward(packet, tables, &flow);
    if part == Part::First
        && matches!(
            verdict,
            Verdict::Redirect(_) | Verdict::Neighbour(..) | Verdict::Stack(_)
        )
    {
        fragment::remember(tables, &ip, ports);
    }
    verdict
}

/// Find or make the connection of a packet and send it on.
#[inline(always)]
fn forward<P: Packet, T: Tables>(packet: &mut P, tables: &T, flow: &Flow) -> Verdict {
    let Some(config) = tables.config() else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    let now = ticks(tables.now(), config);
    let ip = &flow.ip;
    let (first, last) = (connection::first(flow.ports), connection::last(flow.ports));
    let (sender, recipient) = (
        Client::new(ip.source, first, ip.protocol),
        Peer::virtual_end(ip.destination, last),
    );
    let mut found = None;
    let mut direction = Direction::In;
    if flow.to_virtual {
        found = find::<P, T>(tables, config, sender, recipient)
            .filter(|entry| !is_reused(tables, entry, flow));
    }
    if found.is_none() && flow.from_server {
        direction = Direction::Out;
        let client = Client::new(ip.destination, last, ip.protocol);
        found = find::<P, T>(tables, config, client, Peer::server_end(ip.source, first));
    }
    if found.is_none() {
        if !flow.to_virtual || flow.part == Part::Later {
            return Verdict::Pass(Reason::NoConnection);
        }
        let connected = if P::COMPLETE {
            connect_apart(tables, sender, recipient, flow.flags)
        } else {
            connect(tables, sender, recipient, flow.flags, now)
        };
        match connected {
            Connected::At(made) => {
                direction = Direction::In;
                // Here and not where it was made: that is one call deeper, and Linux before 6.8 counts more
                // stack for each.
                found = connection::settle(tables, sender, recipient, made).entry(tables);
            }
            Connected::TableFull => return Verdict::Drop(Reason::TableFull),
            Connected::BadSource => return Verdict::Pass(Reason::BadSource),
            Connected::NoServer if P::COMPLETE => {
                return Verdict::Reject(Complaint::PortUnreachable);
            }
            Connected::NoServer => return Verdict::Leave,
            Connected::NoService => return Verdict::Pass(Reason::NoService),
            Connected::NotSyn => return Verdict::Pass(Reason::NotSyn),
            Connected::FtpData => return Verdict::Pass(Reason::FtpData),
        }
    }
    // One place to go on from, for the verifier follows each of its own.
    match found {
        Some(entry) => send(packet, tables, config, flow, &entry, direction, now),
        None => Verdict::Drop(Reason::Raced),
    }
}

/// Find the connection of a packet: in line where it has to be fast.
#[inline(always)]
fn find<'a, P: Packet, T: Tables>(
    tables: &'a T,
    config: &Config,
    client: Client,
    peer: Peer,
) -> Option<Entry<'a>> {
    if P::COMPLETE {
        connection::find_from(tables, client, peer, Position::NOWHERE, 0).entry(tables)
    } else {
        connection::find(tables, config, client, peer)
    }
}

/// Send a packet of a connection on.
#[inline(always)]
fn send<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    flow: &Flow,
    entry: &Entry<'_>,
    direction: Direction,
    now: u32,
) -> Verdict {
    let verdict = match direction {
        Direction::In if P::COMPLETE => to_server_apart(packet, tables, flow, entry.position),
        Direction::In => to_server(packet, tables, config, flow, entry, now),
        Direction::Out if P::COMPLETE => to_client_apart(packet, tables, flow, entry.position),
        Direction::Out => to_client(packet, tables, config, flow, entry, now),
    };
    let is_sent = matches!(
        verdict,
        Verdict::Redirect(_) | Verdict::Neighbour(..) | Verdict::Stack(_)
    );
    // Only now: what is not sent is quoted, or passed, as it came.
    if P::COMPLETE
        && is_sent
        && flow.ip.protocol == UDP
        && flow.part == Part::Whole
        && give_udp_checksum(packet, flow.l4).is_none()
    {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    verdict
}

/// Give a rewritten datagram a checksum if it has none.
#[inline(never)]
fn give_udp_checksum<P: Packet>(packet: &mut P, l4: usize) -> Option<()> {
    let ip = packet.get::<Ipv4>(ETH)?;
    rewrite::give_udp_checksum(packet, &ip, l4)
}

/// [`to_server`] out of line, with a piece of the stack of its own.
#[inline(never)]
fn to_server_apart<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    flow: &Flow,
    position: Position,
) -> Verdict {
    let (Some(config), Some(entry)) = (tables.config(), position.entry(tables)) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    to_server(
        packet,
        tables,
        config,
        flow,
        &entry,
        ticks(tables.now(), config),
    )
}

/// [`to_client`] out of line, with a piece of the stack of its own.
#[inline(never)]
fn to_client_apart<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    flow: &Flow,
    position: Position,
) -> Verdict {
    let (Some(config), Some(entry)) = (tables.config(), position.entry(tables)) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    to_client(
        packet,
        tables,
        config,
        flow,
        &entry,
        ticks(tables.now(), config),
    )
}

/// Whether a request asks for a new connection on the address and port of one that is over; that one then
/// makes room (sysctl `conn_reuse_mode`, reference §3.8).
#[inline(always)]
fn is_reused<T: Tables>(tables: &T, entry: &Entry<'_>, flow: &Flow) -> bool {
    if flow.flags & SYN == 0 {
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
fn connect<T: Tables>(tables: &T, client: Client, peer: Peer, flags: u8, now: u32) -> Connected {
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
    if !is_unicast(client.address()) {
        return Connected::BadSource;
    }
    match schedule::pick(tables, index) {
        NONE => Connected::NoServer,
        server => match connection::insert(tables, client, peer, server, now) {
            Position::NOWHERE => Connected::TableFull,
            position => Connected::At(position),
        },
    }
}

/// Whether an address (as on the wire) can be that of one host: not this network, loopback, multicast or above.
#[inline(always)]
pub(crate) const fn is_unicast(address: u32) -> bool {
    let first = address as u8;
    first != 0 && first != 127 && first < 224
}

/// [`connect`] out of line, with a piece of the stack of its own.
#[inline(never)]
fn connect_apart<T: Tables>(tables: &T, client: Client, peer: Peer, flags: u8) -> Connected {
    match tables.config() {
        Some(config) => connect(tables, client, peer, flags, ticks(tables.now(), config)),
        None => Connected::NoServer,
    }
}

#[inline(always)]
fn to_server<P: Packet, T: Tables>(
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
    if server.flags.get() & Server::AVAILABLE == 0 {
        return Verdict::Drop(Reason::ServerRemoved);
    }
    let Some(hop) = tables.hop(server.hop.get()) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    let too_long = length_on_wire(packet, ip) > hop.mtu.get() as usize;
    if !P::COMPLETE && (ip.ttl <= 1 || too_long || hop.flags.get() & P::NEEDS != P::NEEDS) {
        return Verdict::Leave;
    }
    if flow.part != Part::Later {
        touch(tables, config, entry, Direction::In, flow, now);
    }
    count_packet(tables, index, Direction::In, bytes(packet, ip));
    if P::COMPLETE {
        if ip.ttl <= 1 {
            return Verdict::Reject(Complaint::TimeExceeded);
        }
        if hop.flags.get() & Hop::UNREACHABLE != 0 {
            return Verdict::Drop(Reason::NoRouteToServer);
        }
        if too_long && ip.fragment & DONT_FRAGMENT != 0 {
            return Verdict::Reject(Complaint::FragmentationNeeded(hop.mtu.get()));
        }
    }
    // What the host sends on counts as a hop there.
    let by_host = P::COMPLETE && (too_long || hop.flags.get() & Hop::ROUTED == 0);
    let to = Rewrite {
        direction: Direction::In,
        old_port: connection::last(flow.ports),
        address: server.address.get(),
        port: connection::server_port(server, flow.ports),
        ttl: if by_host { ip.ttl } else { ip.ttl - 1 },
    };
    if change(packet, flow, &to).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    if by_host {
        return Verdict::Stack(if too_long {
            Reason::Fragmented
        } else {
            Reason::RoutedByHost
        });
    }
    deliver_by_hop(packet, hop)
}

#[inline(always)]
fn to_client<P: Packet, T: Tables>(
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
        learn_route(tables, entry.position, ip.destination, ask)
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
        touch(tables, config, entry, Direction::Out, flow, now);
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
    deliver_by_route(packet, &next.route)
}

#[inline(always)]
fn change<P: Packet>(packet: &mut P, flow: &Flow, to: &Rewrite) -> Option<()> {
    if P::COMPLETE {
        rewrite::general(packet, &flow.ip, flow.l4, flow.part, to)
    } else {
        rewrite::simple(packet, &flow.ip, to)
    }
}

/// Move an entry's state and deadline for a packet.
#[inline(always)]
fn touch<T: Tables>(
    tables: &T,
    config: &Config,
    entry: &Entry<'_>,
    direction: Direction,
    flow: &Flow,
    now: u32,
) {
    let way = entry.way;
    for _ in 0..4 {
        let seen = way.word.get();
        let old = connection::state_of(seen);
        if old == connection::DEAD {
            return;
        }
        let state = if flow.ip.protocol == TCP {
            state::tcp_next(old, direction, flow.flags)
        } else {
            old
        };
        let next = connection::with_state(seen, state) | heard(seen, direction, flow);
        if next == seen || connection::change(tables, way, seen, next) {
            let deadline = now.wrapping_add(config.timeouts[(state & 31) as usize].get());
            // The line is not dirtied for less than an eighth of a second.
            if deadline.wrapping_sub(way.expires.get()).wrapping_add(16) > 32 {
                way.expires.set(deadline);
            }
            return;
        }
    }
}

/// What a packet shows about its connection: flags for the entry's word.
#[inline(always)]
fn heard(seen: u32, direction: Direction, flow: &Flow) -> u32 {
    match direction {
        Direction::Out => connection::ANSWERED,
        Direction::In if seen & connection::ANSWERED == 0 => 0,
        // Of TCP a plain ACK: what opens or ends a connection is sent blindly with as little effort.
        Direction::In if flow.ip.protocol == TCP && flow.flags & (SYN | FIN | RST | ACK) != ACK => {
            0
        }
        Direction::In => connection::CONFIRMED,
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

/// Where a reply goes next.
struct Next {
    route: Route,
    /// Flags of the hop.
    flags: u32,
}

impl Next {
    #[inline(always)]
    fn of(hop: &Hop) -> Self {
        let macs = [hop.macs[0].get(), hop.macs[1].get(), hop.macs[2].get()];
        let outcome = Outcome::Resolved;
        let route = Route {
            outcome,
            macs,
            ifindex: hop.ifindex.get(),
            mtu: hop.mtu.get(),
            gateway: 0,
        };
        Self {
            route,
            flags: hop.flags.get(),
        }
    }
}

/// What a question for the way to a client holds besides the destination, in one number: source address, type
/// of service, generation of the answer.
#[derive(Clone, Copy)]
struct Ask(u64);

impl Ask {
    #[inline(always)]
    const fn new(source: u32, tos: u8, generation: u32) -> Self {
        Self(source as u64 | (tos as u64) << 32 | (generation as u64) << 48)
    }
}

/// Ask the kernel for the way to a client and note it in the connection.
#[inline(never)]
fn learn_route<T: Tables>(tables: &T, position: Position, destination: u32, ask: Ask) -> Next {
    let route = tables.route(ask.0 as u32, destination, (ask.0 >> 32) as u8);
    if route.outcome != Outcome::Resolved {
        return Next { route, flags: 0 };
    }
    let xdp = tables
        .port(route.ifindex)
        .is_some_and(|port| port.mac_tail_flags.get() & Port::XDP != 0);
    let flags = Hop::ROUTED | Hop::RESOLVED | if xdp { Hop::XDP } else { 0 };
    let index = learn_hop(tables, &route, flags);
    if index != 0
        && let Some(Entry { way, .. }) = position.entry(tables)
        && way.client.get() == destination
    {
        way.hop.set(index | ((ask.0 >> 48) as u32) << 16);
        // The way may have changed hands while the kernel was asked.
        if way.client.get() != destination {
            way.hop.set(0);
        }
    }
    Next { route, flags }
}

/// Find a next hop among those learned, or add it. 0 when there is no room near where it belongs.
#[inline(always)]
fn learn_hop<T: Tables>(tables: &T, route: &Route, flags: u32) -> u32 {
    let Route {
        macs, ifindex, mtu, ..
    } = *route;
    let hash = (macs[0] ^ macs[1].rotate_left(11) ^ ifindex.rotate_left(23))
        .wrapping_mul(0x9e37_79b1)
        >> 8;
    for probe in 0..4u32 {
        let index = SERVER_HOPS + (hash.wrapping_add(probe) & (CLIENT_HOPS - 1));
        let Some(hop) = tables.hop(index) else {
            return 0;
        };
        if hop.flags.get() == 0 && hop.flags.replace(0, Hop::CLAIMED) {
            hop.macs[0].set(macs[0]);
            hop.macs[1].set(macs[1]);
            hop.macs[2].set(macs[2]);
            hop.ifindex.set(ifindex);
            hop.mtu.set(mtu);
            hop.flags.add(flags - Hop::CLAIMED);
            return index;
        }
        let same = hop.macs[0].get() == macs[0]
            && hop.macs[1].get() == macs[1]
            && hop.macs[2].get() == macs[2]
            && hop.ifindex.get() == ifindex
            && hop.mtu.get() == mtu
            && hop.flags.get() == flags;
        if same {
            return index;
        }
    }
    0
}

/// Send to a server by its next hop.
#[inline(always)]
pub(crate) fn deliver_to_server<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    server: &Server,
) -> Verdict {
    match tables.hop(server.hop.get()) {
        Some(hop) if hop.flags.get() & Hop::ROUTED != 0 => deliver_by_hop(packet, hop),
        Some(hop) if hop.flags.get() & Hop::UNREACHABLE != 0 => {
            Verdict::Drop(Reason::NoRouteToServer)
        }
        Some(_) => Verdict::Stack(Reason::RoutedByHost),
        None => Verdict::Drop(Reason::Inconsistent),
    }
}

#[inline(always)]
fn deliver_by_hop<P: Packet>(packet: &mut P, hop: &Hop) -> Verdict {
    if P::COMPLETE && hop.flags.get() & Hop::RESOLVED == 0 {
        return Verdict::Neighbour(hop.ifindex.get(), hop.gateway.get());
    }
    redirect(
        packet,
        [hop.macs[0].get(), hop.macs[1].get(), hop.macs[2].get()],
        hop.ifindex.get(),
    )
}

/// Send a packet that is ready the way that a route says.
#[inline(always)]
pub(crate) fn deliver_by_route<P: Packet>(packet: &mut P, route: &Route) -> Verdict {
    match route.outcome {
        Outcome::Resolved => redirect(packet, route.macs, route.ifindex),
        Outcome::Unresolved => Verdict::Neighbour(route.ifindex, route.gateway),
        Outcome::Disabled => Verdict::Drop(Reason::ForwardingDisabled),
        Outcome::Local | Outcome::Unreachable => Verdict::Drop(Reason::NoRouteToClient),
    }
}

#[inline(always)]
fn redirect<P: Packet>(packet: &mut P, macs: [u32; 3], ifindex: u32) -> Verdict {
    match packet.put(0, macs) {
        Some(()) => Verdict::Redirect(ifindex),
        None => Verdict::Drop(Reason::RewriteFailed),
    }
}
