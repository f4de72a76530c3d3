//! Where packets go next: servers' hops as the daemon resolved them, clients' as the kernel's routing says.

use crate::{
    connection::{Entry, Position},
    packet::Packet,
    pipeline::Verdict,
    reason::Reason,
    tables::{CLIENT_HOPS, Hop, Outcome, Port, Route, SERVER_HOPS, Server, Tables},
};

/// Where a reply goes next.
pub(crate) struct Next {
    /// The way.
    pub(crate) route: Route,
    /// Flags of the hop.
    pub(crate) flags: u32,
}

impl Next {
    #[inline(always)]
    pub(crate) fn of(hop: &Hop) -> Self {
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
pub(crate) struct Ask(u64);

impl Ask {
    #[inline(always)]
    pub(crate) const fn new(source: u32, tos: u8, generation: u32) -> Self {
        Self(source as u64 | (tos as u64) << 32 | (generation as u64) << 48)
    }
}

/// Ask the kernel for the way to a client and note it in the connection.
#[inline(never)]
pub(crate) fn learn_route<T: Tables>(
    tables: &T,
    position: Position,
    destination: u32,
    ask: Ask,
) -> Next {
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
pub(crate) fn deliver_by_hop<P: Packet>(packet: &mut P, hop: &Hop) -> Verdict {
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
