//! ICMP errors about balanced connections, in both directions, and about tunnels (`ip_vs_core.c`, `ip_vs_in_icmp` and
//! `ip_vs_out_icmp`).
//!
//! Where addresses were translated they are translated in the message's own header and in the packet it quotes. With
//! other methods the message goes to the server as requests do, and what servers say is for the host to route. What is
//! said about a wrapped packet is said again, to the client, about the packet in it.

use crate::{
    checksum::Difference,
    connection::{self, Client, Peer, Position, find_from},
    deliver,
    packet::{DONT_FRAGMENT, ETH, FRAGMENT, FRAGMENT_OFFSET, Ipv4, Packet, TCP, UDP},
    pipeline::Verdict,
    reason::Reason,
    reject::{self, Complaint},
    rewrite, settings,
    state::Direction,
    tables::{Config, Filter, Hop, Server, Tables, ticks},
    transmit, tunnel,
};

/// Types that are about a packet and concern both ends: unreachable, source quench, time exceeded.
const fn is_related(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 11)
}

/// Smallest packet that a path is believed to be too narrow for, as the kernel (`ip_rt_min_pmtu`).
const LEAST_PATH_MTU: u32 = 552;
/// Seconds for which a path's length is remembered, as the kernel (`ip_rt_mtu_expires`).
const PATH_MTU_MEMORY: u32 = 600;

/// Translate an ICMP error; anything else passes. A stage of its own, entered for [`Verdict::LeaveIcmp`].
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let verdict = translate(packet, tables);
    if let Verdict::Drop(reason) | Verdict::Pass(reason) | Verdict::Stack(reason) = verdict {
        tables.count(reason);
    }
    verdict
}

#[inline(always)]
fn translate<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let Some(ip) = packet.get::<Ipv4>(ETH) else {
        return Verdict::Pass(Reason::Truncated);
    };
    let Some(config) = tables.config() else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    if ip.version_ihl >> 4 != 4 || ip.header_length() < 20 {
        return Verdict::Pass(Reason::Truncated);
    }
    if !packet.is_for_us(tables) {
        return Verdict::Pass(Reason::NotForUs);
    }
    let at = ETH + ip.header_length();
    let kind = packet.load::<u8>(at);
    if ip.fragment & FRAGMENT != 0 || !kind.is_some_and(is_related) {
        return Verdict::Pass(Reason::IcmpUnrelated);
    }
    let quoted = Quoted::read(packet, at + 8);
    if quoted.is_known
        && let Some(found) = find(tables, &ip, at, &quoted)
    {
        return send(packet, tables, &ip, &found);
    }
    if let Some(wrapped) = Wrapped::find(packet, tables, &ip, at + 8) {
        return wrapped.relay(packet, tables, config, &ip, at);
    }
    let schedules = config.settings.get() & settings::SCHEDULE_ICMP != 0;
    if schedules && !packet.is_chosen() && quoted.is_reply(tables, &ip) {
        return Verdict::Connect;
    }
    Verdict::Pass(Reason::IcmpUnrelated)
}

/// The packet that a message quotes, as far as is needed. Not an option: the verifier refuses to have one copied that
/// holds nothing.
#[derive(Clone, Copy)]
struct Quoted {
    /// Whether it is one that may be a connection's, and the rest holds something.
    is_known: bool,
    ip: Ipv4,
    /// Offset of its header.
    at: usize,
    /// Ports of it.
    ports: u32,
}

impl Quoted {
    /// Read what there is at an offset.
    #[inline(always)]
    fn read<P: Packet>(packet: &P, at: usize) -> Self {
        let mut quoted = Self {
            is_known: false,
            ip: packet.load(at).unwrap_or_default(),
            at,
            ports: 0,
        };
        let ip = &quoted.ip;
        if is_readable(ip) && (ip.protocol == TCP || ip.protocol == UDP) {
            let ports = packet.load(at + ip.header_length());
            quoted.is_known = ports.is_some();
            quoted.ports = ports.unwrap_or(0);
        }
        quoted
    }

    /// The connection of a request.
    #[inline(always)]
    fn as_request(&self) -> (Client, Peer) {
        let (first, last) = (connection::first(self.ports), connection::last(self.ports));
        (
            Client::new(self.ip.source, first, self.ip.protocol),
            Peer::virtual_end(self.ip.destination, last),
        )
    }

    /// The connection of a reply that came from a virtual address.
    #[inline(always)]
    fn as_reply(&self) -> (Client, Peer) {
        let (first, last) = (connection::first(self.ports), connection::last(self.ports));
        (
            Client::new(self.ip.destination, last, self.ip.protocol),
            Peer::virtual_end(self.ip.source, first),
        )
    }

    /// Whether a message is about a reply from where it goes to, which may be a virtual address.
    #[inline(always)]
    fn is_reply<T: Tables>(&self, tables: &T, ip: &Ipv4) -> bool {
        self.is_known
            && self.ip.source == ip.destination
            && tables
                .filter()
                .is_some_and(|filter| Filter::has(&filter.virtuals, ip.destination))
    }
}

/// Whether a quoted header is one, and that of a packet's beginning.
#[inline(always)]
fn is_readable(ip: &Ipv4) -> bool {
    ip.version_ihl >> 4 == 4 && ip.header_length() >= 20 && ip.fragment & FRAGMENT_OFFSET == 0
}

/// An error message that belongs to a connection.
struct Related<'a> {
    entry: connection::Entry<'a>,
    server: &'a Server,
    direction: Direction,
    /// Forwarding method of the connection.
    method: u16,
    /// Offset of the ICMP header.
    at: usize,
    /// Header of the quoted packet.
    inner: Ipv4,
    /// Ports of the quoted packet.
    ports: u32,
}

#[inline(always)]
fn find<'a, T: Tables>(
    tables: &'a T,
    ip: &Ipv4,
    at: usize,
    quoted: &Quoted,
) -> Option<Related<'a>> {
    let inner = quoted.ip;
    let filter = tables.filter()?;
    // From the client's side it quotes a reply, from the server's side a request, both as they were there. The
    // filter only says what may be: all are tried.
    let mut found = None;
    let mut direction = Direction::In;
    if Filter::has(&filter.virtuals, ip.destination) {
        let (client, peer) = quoted.as_reply();
        found = find_from(tables, client, peer, Position::NOWHERE, 0).entry(tables);
    }
    if found.is_none() && Filter::has(&filter.servers, inner.destination) {
        direction = Direction::Out;
        let (client, _) = quoted.as_request();
        let peer = Peer::server_end(inner.destination, connection::last(quoted.ports));
        found = find_from(tables, client, peer, Position::NOWHERE, 0).entry(tables);
    }
    if found.is_none() && Filter::has(&filter.virtuals, inner.destination) {
        direction = Direction::Out;
        let (client, peer) = quoted.as_request();
        found = find_from(tables, client, peer, Position::NOWHERE, 0)
            .entry(tables)
            .filter(|entry| method_of(entry) != transmit::MASQUERADE);
    }
    let entry = found?;
    let server = tables.server(entry.way.server.get())?;
    Some(Related {
        method: method_of(&entry),
        entry,
        server,
        direction,
        at,
        inner,
        ports: quoted.ports,
    })
}

#[inline(always)]
fn method_of(entry: &connection::Entry<'_>) -> u16 {
    connection::method_of(entry.way.word.get())
}

/// What a message about a tunnel is about.
struct Wrapped<'a> {
    server: &'a Server,
    /// Index of the server.
    index: u32,
    hop: &'a Hop,
    /// The packet in the tunnel.
    inner: Quoted,
}

impl<'a> Wrapped<'a> {
    /// See whether a message quotes, from `at` on, a packet that was wrapped here for a connection.
    #[inline(always)]
    fn find<P: Packet, T: Tables>(packet: &P, tables: &'a T, ip: &Ipv4, at: usize) -> Option<Self> {
        let outer: Ipv4 = packet.load(at)?;
        if !is_readable(&outer) || outer.source != ip.destination {
            return None;
        }
        let after = at + outer.header_length();
        let (kind, length) = match outer.protocol {
            tunnel::PROTOCOL_IPIP => (tunnel::IPIP, 0),
            UDP => (tunnel::GUE, tunnel::gue_length(packet.load(after + 8)?)?),
            tunnel::PROTOCOL_GRE => (tunnel::GRE, tunnel::gre_length(packet.load(after)?)?),
            _ => return None,
        };
        let inner = Quoted::read(packet, after + length);
        let filter = tables.filter()?;
        if !inner.is_known || !Filter::has(&filter.virtuals, inner.ip.destination) {
            return None;
        }
        let (client, peer) = inner.as_request();
        let entry = find_from(tables, client, peer, Position::NOWHERE, 0).entry(tables)?;
        let index = entry.way.server.get();
        let server = tables.server(index)?;
        let is_its_tunnel = method_of(&entry) == transmit::TUNNEL
            && server.address.get() == outer.destination
            && server.tunnel.get() & 0xff == kind;
        let hop = tables.hop(server.hop.get())?;
        is_its_tunnel.then_some(Self {
            server,
            index,
            hop,
            inner,
        })
    }

    /// Say it again to the client, about the packet in the tunnel.
    #[inline(always)]
    fn relay<P: Packet, T: Tables>(
        &self,
        packet: &mut P,
        tables: &T,
        config: &Config,
        ip: &Ipv4,
        at: usize,
    ) -> Verdict {
        let (Some(kind_code), Some(rest)) = (
            packet.load::<[u8; 2]>(at),
            packet.load::<u16>(at + 6).map(u16::from_be),
        ) else {
            return Verdict::Drop(Reason::TunnelError);
        };
        let mut rest = rest;
        if kind_code == [3, 4] {
            let now = ticks(tables.now(), config);
            learn_path_mtu(self.hop, rest as u32, now, config);
            if self.inner.ip.fragment & DONT_FRAGMENT == 0 {
                return Verdict::Drop(Reason::TunnelError);
            }
            let mtu = tunnel::path_mtu(self.hop, now);
            rest = tunnel::room(self.server.tunnel.get(), mtu) as u16;
        }
        let left = (ETH + ip.length()).saturating_sub(self.inner.at);
        if self.server.flags.get() & Server::AVAILABLE != 0 {
            // IPVS counts what is left of the message, then the error.
            for bytes in [left, reject::length_of_error(left)] {
                transmit::count_packet(tables, self.index, Direction::Out, bytes as u64);
            }
        }
        if packet.unwrap(self.inner.at - ETH).is_none() {
            return Verdict::Drop(Reason::RewriteFailed);
        }
        let [kind, code] = kind_code;
        Verdict::Reject(Complaint::Relayed(reject::relayed(kind, code, rest)))
    }
}

/// Remember for a while that the way to a server takes only packets of this length.
#[inline(always)]
fn learn_path_mtu(hop: &Hop, said: u32, now: u32, config: &Config) {
    let mtu = said.max(LEAST_PATH_MTU);
    if hop.flags.get() & Hop::ROUTED != 0 && mtu < tunnel::path_mtu(hop, now) {
        let memory = PATH_MTU_MEMORY * config.ticks_per_second.get();
        hop.path_mtu_until.set(now.wrapping_add(memory));
        hop.path_mtu.set(mtu);
    }
}

#[inline(always)]
fn send<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ipv4,
    found: &Related<'_>,
) -> Verdict {
    let way = found.entry.way;
    let is_available = found.server.flags.get() & Server::AVAILABLE != 0;
    if !is_available && found.direction == Direction::In {
        return Verdict::Drop(Reason::ServerRemoved);
    }
    if is_available {
        transmit::count_packet(
            tables,
            way.server.get(),
            found.direction,
            ip.length() as u64,
        );
    }
    if ip.ttl <= 1 && (found.method == transmit::MASQUERADE || found.direction == Direction::In) {
        // No error about an error (RFC 1122 §3.2.2).
        return Verdict::Drop(Reason::TtlExceeded);
    }
    if found.method != transmit::MASQUERADE {
        return match found.direction {
            Direction::In => send_as_it_is(packet, tables, ip, found),
            Direction::Out => Verdict::Stack(Reason::AnswerOfServer),
        };
    }
    let ports = way.ports.get();
    let (address, port) = match found.direction {
        Direction::In => (found.server.address.get(), way.server_port(found.server)),
        Direction::Out => (way.virtual_address.get(), connection::last(ports)),
    };
    // What the host sends on counts as a hop there.
    let hop = tables.hop(found.server.hop.get());
    let by_host = found.direction == Direction::In
        && hop.is_some_and(|hop| hop.flags.get() & Hop::ROUTED == 0);
    let ttl = if by_host { ip.ttl } else { ip.ttl - 1 };
    if write(packet, ip, found, (address, port), ttl).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    match found.direction {
        Direction::In => deliver::deliver_to_server(packet, tables, found.server),
        Direction::Out => {
            deliver::deliver_by_route(packet, &tables.route(address, ip.destination, ip.tos))
        }
    }
}

/// Send a message to a server that has the virtual address itself, as requests go there.
#[inline(always)]
fn send_as_it_is<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ipv4,
    found: &Related<'_>,
) -> Verdict {
    let Some(hop) = tables.hop(found.server.hop.get()) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    let flags = hop.flags.get();
    if flags & Hop::LOCAL != 0 {
        return Verdict::Stack(Reason::LocalServer);
    }
    if flags & Hop::ROUTED == 0 {
        return Verdict::Drop(Reason::NoRouteToServer);
    }
    if rewrite::time_to_live(packet, ip, ip.ttl - 1).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    if found.method == transmit::TUNNEL {
        return Verdict::Encapsulate(found.entry.way.server.get());
    }
    deliver::deliver_by_hop(packet, hop)
}

/// Put the new address and port into the outer header and, on the other side, into the quotation.
#[inline(always)]
fn write<P: Packet>(
    packet: &mut P,
    ip: &Ipv4,
    found: &Related<'_>,
    (address, port): (u32, u16),
    ttl: u8,
) -> Option<()> {
    let inner_at = found.at + 8;
    let ports_at = inner_at + found.inner.header_length();
    let (outer_old, outer_at, inner_old, inner_address_at, old_port, port_at) =
        match found.direction {
            Direction::In => (
                ip.destination,
                ETH + 16,
                found.inner.source,
                inner_at + 12,
                connection::first(found.ports),
                ports_at,
            ),
            Direction::Out => (
                ip.source,
                ETH + 12,
                found.inner.destination,
                inner_at + 16,
                connection::last(found.ports),
                ports_at + 2,
            ),
        };
    let inner_checksum = Difference::none()
        .word(inner_old, address)
        .apply(found.inner.checksum);
    let checksum = packet.load::<u16>(found.at + 2)?;
    let checksum = Difference::none()
        .word(inner_old, address)
        .half(found.inner.checksum, inner_checksum)
        .half(old_port, port)
        .apply(checksum);
    packet.store(found.at + 2, checksum)?;
    packet.store(inner_at + 10, inner_checksum)?;
    packet.store(inner_address_at, address)?;
    packet.store(port_at, port)?;
    packet.store(outer_at, address)?;
    packet.put(
        ETH + 8,
        rewrite::ttl_protocol_checksum(ip, outer_old, address, ttl),
    )
}
