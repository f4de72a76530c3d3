//! ICMP errors about balanced connections, in both directions (`ip_vs_core.c`, `ip_vs_in_icmp` and
//! `ip_vs_out_icmp`): addresses and ports are translated in the message's own header and in the packet
//! it quotes.

use crate::{
    checksum::Difference,
    connection::{self, Client, Peer, Position, find_from},
    deliver,
    packet::{ETH, FRAGMENT, FRAGMENT_OFFSET, Ipv4, Packet, TCP, UDP},
    pipeline::Verdict,
    reason::Reason,
    rewrite,
    state::Direction,
    tables::{Filter, Hop, Server, Tables},
    transmit,
};

/// Types that are about a packet and concern both ends: unreachable, source quench, time exceeded.
const fn is_related(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 11)
}

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
    if ip.version_ihl >> 4 != 4 || ip.header_length() < 20 {
        return Verdict::Pass(Reason::Truncated);
    }
    if !packet.is_for_us(tables) {
        return Verdict::Pass(Reason::NotForUs);
    }
    match find(packet, tables, &ip) {
        Some(found) => send(packet, tables, &ip, &found),
        None => Verdict::Pass(Reason::IcmpUnrelated),
    }
}

/// An error message that belongs to a connection.
struct Related<'a> {
    entry: connection::Entry<'a>,
    server: &'a Server,
    direction: Direction,
    /// Offset of the ICMP header.
    at: usize,
    /// Header of the quoted packet.
    inner: Ipv4,
    /// Ports of the quoted packet.
    ports: u32,
}

#[inline(always)]
fn find<'a, P: Packet, T: Tables>(packet: &P, tables: &'a T, ip: &Ipv4) -> Option<Related<'a>> {
    let at = ETH + ip.header_length();
    if !is_related(packet.load::<u8>(at)?) || ip.fragment & FRAGMENT != 0 {
        return None;
    }
    let inner: Ipv4 = packet.load(at + 8)?;
    let known = inner.protocol == TCP || inner.protocol == UDP;
    if inner.version_ihl >> 4 != 4
        || inner.header_length() < 20
        || inner.fragment & FRAGMENT_OFFSET != 0
        || !known
    {
        return None;
    }
    let filter = tables.filter()?;
    let ports: u32 = packet.load(at + 8 + inner.header_length())?;
    let (first, last) = (connection::first(ports), connection::last(ports));
    // From the client's side it quotes a reply, from the server's side a request, both as they were there. The
    // filter only says what may be: both sides are tried.
    let mut found = None;
    let mut direction = Direction::In;
    if Filter::has(&filter.virtuals, ip.destination) {
        let client = Client::new(inner.destination, last, inner.protocol);
        let peer = Peer::virtual_end(inner.source, first);
        found = find_from(tables, client, peer, Position::NOWHERE, 0).entry(tables);
    }
    if found.is_none() && Filter::has(&filter.servers, inner.destination) {
        let client = Client::new(inner.source, first, inner.protocol);
        let peer = Peer::server_end(inner.destination, last);
        direction = Direction::Out;
        found = find_from(tables, client, peer, Position::NOWHERE, 0).entry(tables);
    }
    let entry = found?;
    let server = tables.server(entry.way.server.get())?;
    Some(Related {
        entry,
        server,
        direction,
        at,
        inner,
        ports,
    })
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
    if ip.ttl <= 1 {
        // No error about an error (RFC 1122 §3.2.2).
        return Verdict::Drop(Reason::TtlExceeded);
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
