//! The way of a packet that has a connection: parse, find the connection, send it on.
//!
//! [`process`] is entered at XDP where there is one, at tc, and in the complete stage behind tc. The first two take
//! the packets that are plain (IPv4 without options, whole, TCP or UDP with a checksum, next hop known) and leave
//! others, untouched and uncounted, to the next. A packet that may make a connection goes to the stage that connects
//! ([`crate::connect`]) and comes back to one of these. Each stage is a program of its own: that keeps the common way
//! short, and all of them within what the BPF verifier and its 512 bytes of stack allow.

use crate::{
    checksum::{fold, pseudo_header},
    connection::{self, Client, Entry, Peer, Position},
    fragment,
    packet::{ETH, ETHERTYPE_IPV4, FRAGMENT, ICMP, Ipv4, Packet, TCP, UDP},
    reason::Reason,
    reject::Complaint,
    rewrite::{self, L4, Part},
    state::{ACK, SYN},
    tables::{Config, Filter, NONE, Tables, ticks},
    transmit::{self, MASQUERADE, Path},
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the next stage, untouched.
    Leave,
    /// To the stage for ICMP ([`crate::icmp::process`]), untouched.
    LeaveIcmp,
    /// To the stage that connects ([`crate::connect::process`]), untouched.
    Connect,
    /// From the stage that connects back to one that sends, with what [`Packet::chosen_server`] is to give there:
    /// [`NONE`] when the connection is in the table.
    Send(u32),
    /// To the stage that wraps packets ([`crate::tunnel::process`]), for this server.
    Encapsulate(u32),
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

impl Verdict {
    const LEAVE: u8 = 0;
    const LEAVE_ICMP: u8 = 1;
    const CONNECT: u8 = 2;
    const SEND: u8 = 3;
    const ENCAPSULATE: u8 = 4;
    const PASS: u8 = 5;
    const STACK: u8 = 6;
    const DROP: u8 = 7;
    const REJECT: u8 = 8;
    const REDIRECT: u8 = 9;
    const NEIGHBOUR: u8 = 10;

    /// As one number, in which all bits mean something: the verifier refuses to copy the unused part of an enum, and
    /// a result that is returned in memory leaves whatever in the register for results, which it refuses when it
    /// happens to be an address.
    ///
    /// An interface's index has 24 bits here; [`Verdict::Neighbour`] with a higher one becomes a drop.
    #[inline(always)]
    pub(crate) const fn pack(self) -> u64 {
        const fn with(kind: u8, value: u32) -> u64 {
            kind as u64 | (value as u64) << 32
        }
        match self {
            Self::Leave => Self::LEAVE as u64,
            Self::LeaveIcmp => Self::LEAVE_ICMP as u64,
            Self::Connect => Self::CONNECT as u64,
            Self::Send(server) => with(Self::SEND, server),
            Self::Encapsulate(server) => with(Self::ENCAPSULATE, server),
            Self::Pass(reason) => with(Self::PASS, reason as u32),
            Self::Stack(reason) => with(Self::STACK, reason as u32),
            Self::Drop(reason) => with(Self::DROP, reason as u32),
            Self::Reject(complaint) => {
                let (kind, argument) = complaint.to_numbers();
                with(Self::REJECT, argument) | (kind as u64) << 8
            }
            Self::Redirect(ifindex) => with(Self::REDIRECT, ifindex),
            Self::Neighbour(ifindex, gateway) if ifindex >> 24 == 0 => {
                with(Self::NEIGHBOUR, gateway) | (ifindex as u64) << 8
            }
            Self::Neighbour(..) => with(Self::DROP, Reason::Inconsistent as u32),
        }
    }

    /// Back from [`pack`](Self::pack).
    #[inline(always)]
    pub(crate) const fn unpack(packed: u64) -> Self {
        let high = (packed >> 32) as u32;
        let middle = (packed >> 8) as u32 & 0xff_ffff;
        match packed as u8 {
            Self::LEAVE => Self::Leave,
            Self::LEAVE_ICMP => Self::LeaveIcmp,
            Self::CONNECT => Self::Connect,
            Self::SEND => Self::Send(high),
            Self::ENCAPSULATE => Self::Encapsulate(high),
            Self::PASS => Self::Pass(Reason::from_number(high)),
            Self::STACK => Self::Stack(Reason::from_number(high)),
            Self::REJECT => Self::Reject(Complaint::from_numbers(middle, high)),
            Self::REDIRECT => Self::Redirect(high),
            Self::NEIGHBOUR => Self::Neighbour(middle, high),
            _ => Self::Drop(Reason::from_number(high)),
        }
    }
}

/// Decide about a packet, change it as decided, and count.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let packed = if P::COMPLETE {
        complete(packet, tables)
    } else {
        plain(packet, tables)
    };
    let verdict = Verdict::unpack(packed);
    match verdict {
        Verdict::Pass(reason) | Verdict::Stack(reason) if P::FINAL => tables.count(reason),
        Verdict::Drop(reason) => tables.count(reason),
        _ => {}
    }
    verdict
}

/// What is known of a packet of ours once its headers are read.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) ip: Ipv4,
    /// Offset of the TCP or UDP header.
    pub(crate) l4: usize,
    pub(crate) ports: u32,
    /// TCP flags; of UDP [`ACK`]: every datagram may be an answer to one.
    pub(crate) flags: u8,
    pub(crate) part: Part,
    to_virtual: bool,
    from_server: bool,
}

/// The stages for plain packets.
#[inline(always)]
fn plain<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> u64 {
    match packet.get::<u16>(12) {
        Some(ETHERTYPE_IPV4) => {}
        _ => return Verdict::Pass(Reason::NotIpv4).pack(),
    }
    let Some(ip) = packet.get::<Ipv4>(ETH) else {
        return Verdict::Pass(Reason::Truncated).pack();
    };
    let Some(filter) = tables.filter() else {
        return Verdict::Drop(Reason::Inconsistent).pack();
    };
    let to_virtual = Filter::has(&filter.virtuals, ip.destination);
    let from_server = Filter::has(&filter.servers, ip.source);
    if ip.protocol == ICMP {
        // It may be about a connection whatever its own addresses are.
        return Verdict::LeaveIcmp.pack();
    }
    if !to_virtual && !from_server && !Filter::has(&filter.virtuals, ip.source) {
        return Verdict::Pass(Reason::NoMatch).pack();
    }
    if !packet.is_for_us(tables) {
        return Verdict::Pass(Reason::NotForUs).pack();
    }
    if ip.version_ihl != 0x45 || ip.fragment & FRAGMENT != 0 {
        return Verdict::Leave.pack();
    }
    if packet.len() < ETH + ip.length() {
        return Verdict::Pass(Reason::Truncated).pack();
    }
    let flags = match ip.protocol {
        TCP if is_long_enough(packet, &ip, 40) => packet.get::<u8>(L4 + 13),
        UDP if is_long_enough(packet, &ip, 28) => Some(ACK),
        TCP | UDP => None,
        _ => return Verdict::Pass(Reason::OtherProtocol).pack(),
    };
    let (Some(flags), Some(ports)) = (flags, packet.get::<u32>(L4)) else {
        return Verdict::Pass(Reason::Truncated).pack();
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
        return Verdict::Leave.pack();
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
fn complete<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> u64 {
    let Some(ip) = packet.get::<Ipv4>(ETH) else {
        return Verdict::Pass(Reason::Truncated).pack();
    };
    let Some(filter) = tables.filter() else {
        return Verdict::Drop(Reason::Inconsistent).pack();
    };
    if packet.get::<u16>(12) != Some(ETHERTYPE_IPV4) {
        return Verdict::Pass(Reason::NotIpv4).pack();
    }
    if !packet.is_for_us(tables) {
        return Verdict::Pass(Reason::NotForUs).pack();
    }
    let header = ip.header_length();
    if ip.version_ihl >> 4 != 4 || header < 20 {
        return Verdict::Pass(Reason::Truncated).pack();
    }
    let to_virtual = Filter::has(&filter.virtuals, ip.destination);
    let from_server = Filter::has(&filter.servers, ip.source);
    if !to_virtual && !from_server && !Filter::has(&filter.virtuals, ip.source) {
        return Verdict::Pass(Reason::NoMatch).pack();
    }
    if ip.protocol != TCP && ip.protocol != UDP {
        return Verdict::Pass(Reason::OtherProtocol).pack();
    }
    let part = fragment::part(&ip);
    let l4 = ETH + header;
    let (ports, flags) = if part == Part::Later {
        match fragment::find(tables, &ip) {
            Some(ports) => (ports, 0),
            None => return Verdict::Pass(Reason::FragmentUnknown).pack(),
        }
    } else {
        let needed = header + if ip.protocol == TCP { 20 } else { 8 };
        if packet.len() < ETH + ip.length() || !is_long_enough(packet, &ip, needed) {
            return Verdict::Pass(Reason::Truncated).pack();
        }
        let flags = if ip.protocol == TCP {
            packet.load::<u8>(l4 + 13)
        } else {
            Some(ACK)
        };
        match (packet.load::<u32>(l4), flags) {
            (Some(ports), Some(flags)) => (ports, flags),
            _ => return Verdict::Pass(Reason::Truncated).pack(),
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
    if part == Part::First && is_sent(verdict) {
        fragment::remember(tables, &ip, ports);
    }
    verdict
}

/// Find the connection of a packet and send it on; without one, ask for it.
#[inline(always)]
fn forward<P: Packet, T: Tables>(packet: &mut P, tables: &T, flow: &Flow) -> u64 {
    let Some(config) = tables.config() else {
        return Verdict::Drop(Reason::Inconsistent).pack();
    };
    let now = ticks(tables.now(), config);
    let ip = &flow.ip;
    let (first, last) = (connection::first(flow.ports), connection::last(flow.ports));
    let alone = packet.chosen_server();
    if alone != NONE {
        let Some(path) = Path::alone(tables, alone, last) else {
            return Verdict::Drop(Reason::Inconsistent).pack();
        };
        return send_in(packet, tables, config, flow, path, now);
    }
    let mut found = None;
    if flow.to_virtual {
        let client = Client::new(ip.source, first, ip.protocol);
        found = find::<P, T>(
            tables,
            config,
            client,
            Peer::virtual_end(ip.destination, last),
        );
    }
    if let Some(entry) = found {
        // A request for a connection may end the one that is there. The stage that connects decides.
        if flow.flags & SYN != 0 && !packet.is_chosen() {
            return Verdict::Connect.pack();
        }
        return send_in(packet, tables, config, flow, Path::of(&entry), now);
    }
    let client = Client::new(ip.destination, last, ip.protocol);
    if flow.from_server {
        found = find::<P, T>(tables, config, client, Peer::server_end(ip.source, first));
    }
    if found.is_none() && comes_from_virtual(tables, ip.source) {
        // Not of a masqueraded connection: its answers come from the server, and who forges one would vouch for it.
        found = find::<P, T>(tables, config, client, Peer::virtual_end(ip.source, first))
            .filter(|entry| connection::method_of(entry.way.word.get()) != MASQUERADE);
    }
    match found {
        Some(entry) => send_out(packet, tables, config, flow, &entry, now),
        None if packet.is_chosen() => Verdict::Drop(Reason::Raced).pack(),
        None if flow.to_virtual && flow.part != Part::Later => Verdict::Connect.pack(),
        None => Verdict::Pass(Reason::NoConnection).pack(),
    }
}

/// Whether a packet from this address, as on the wire, may come from a virtual one: an answer of a server that has it
/// itself. Out of line, for it is rarely asked, and the stack is short.
#[inline(never)]
fn comes_from_virtual<T: Tables>(tables: &T, source: u32) -> bool {
    tables
        .filter()
        .is_some_and(|filter| Filter::has(&filter.virtuals, source))
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

/// Send a request on.
#[inline(always)]
fn send_in<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    flow: &Flow,
    path: Path,
    now: u32,
) -> u64 {
    let verdict = if P::COMPLETE {
        transmit::to_server_apart(packet, tables, flow, &path)
    } else {
        transmit::to_server(packet, tables, config, flow, path, now).pack()
    };
    if path.method == MASQUERADE {
        summed(packet, flow, verdict)
    } else {
        verdict
    }
}

/// Send a reply on.
#[inline(always)]
fn send_out<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    flow: &Flow,
    entry: &Entry<'_>,
    now: u32,
) -> u64 {
    let verdict = if P::COMPLETE {
        transmit::to_client_apart(packet, tables, flow, entry.position)
    } else {
        transmit::to_client(packet, tables, config, flow, entry, now).pack()
    };
    summed(packet, flow, verdict)
}

/// Have a datagram that is sent carry a checksum. Only now: what is not sent is quoted, or passed, as it came.
#[inline(always)]
fn summed<P: Packet>(packet: &mut P, flow: &Flow, verdict: u64) -> u64 {
    if P::COMPLETE
        && is_sent(verdict)
        && flow.ip.protocol == UDP
        && flow.part == Part::Whole
        && give_udp_checksum(packet, flow.l4).is_none()
    {
        return Verdict::Drop(Reason::RewriteFailed).pack();
    }
    verdict
}

/// Whether a packet with this verdict left, or is about to, changed as decided.
#[inline(always)]
const fn is_sent(packed: u64) -> bool {
    matches!(
        packed as u8,
        Verdict::ENCAPSULATE | Verdict::STACK | Verdict::REDIRECT | Verdict::NEIGHBOUR
    )
}

/// Give a rewritten datagram a checksum if it has none.
#[inline(never)]
fn give_udp_checksum<P: Packet>(packet: &mut P, l4: usize) -> Option<()> {
    let ip = packet.get::<Ipv4>(ETH)?;
    rewrite::give_udp_checksum(packet, &ip, l4)
}

/// Whether an address (as on the wire) can be that of one host: not this network, loopback, multicast or above.
#[inline(always)]
pub(crate) const fn is_unicast(address: u32) -> bool {
    let first = address as u8;
    first != 0 && first != 127 && first < 224
}
