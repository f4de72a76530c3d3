//! Tunnels: packets wrapped for a server that may be anywhere (`ip_vs_xmit.c`, `ip_vs_tunnel_xmit`).

use crate::{
    checksum::{fold, pseudo_header},
    deliver, fragment,
    packet::{
        DONT_FRAGMENT, ETH, ETHERTYPE_IPV4, FRAGMENT, ICMP, IP, Ipv4, Packet, TCP, UDP, Wrap,
    },
    pipeline::Verdict,
    reason::Reason,
    rewrite::L4,
    settings,
    tables::{Config, Hop, Server, Tables, ticks},
};

/// Tunnel kind in [`Server::tunnel`]: IP in IP (RFC 2003).
pub const IPIP: u32 = 0;
/// Tunnel kind in [`Server::tunnel`]: generic UDP encapsulation.
pub const GUE: u32 = 1;
/// Tunnel kind in [`Server::tunnel`]: generic routing encapsulation (RFC 2784).
pub const GRE: u32 = 2;

/// IP protocol number of IP in IP.
pub const PROTOCOL_IPIP: u8 = 4;
/// IP protocol number of GRE.
pub const PROTOCOL_GRE: u8 = 47;

/// Smallest packet that a tunnel must have room for, as every IPv4 link does (RFC 791).
pub const LEAST_ROOM: u32 = 68;

/// Source ports of GUE, as many as the kernel has for itself at first (`ip_local_port_range`).
const PORTS: (u32, u32) = (32768, 60999);

/// The header of GUE version 0 before an IPv4 packet, as it lies in memory: no options, protocol 4.
const GUE_HEADER: u32 = 0x0004_0000u32.to_be();
/// First word of a GRE header before an IPv4 packet, as it lies in memory.
const GRE_HEADER: u32 = 0x0000_0800u32.to_be();
/// In that word: there is a checksum.
const GRE_CHECKSUM: u32 = 0x8000_0000u32.to_be();

/// Mark on the index of a server in [`Verdict::Encapsulate`]: the packet goes to it as it is, but does not fit.
pub const UNWRAPPED: u32 = 1 << 31;

/// Bytes of headers that a tunnel with these parameters puts before an IPv4 packet, in IPv4.
#[inline(always)]
pub const fn overhead(tunnel: u32) -> u32 {
    let shim = match tunnel & 0xff {
        GUE => 12,
        GRE if asks_for_checksum(tunnel) => 8,
        GRE => 4,
        _ => 0,
    };
    IP as u32 + shim
}

/// Largest packet that fits a tunnel over a way with this MTU.
#[inline(always)]
pub const fn room(tunnel: u32, mtu: u32) -> u32 {
    mtu.saturating_sub(overhead(tunnel))
}

/// Largest packet that reaches the end of a tunnel over this hop, as far as is known: that of the interface, or what
/// a router on the way said in the last ten minutes ([`crate::icmp`]).
#[inline(always)]
pub fn path_mtu(hop: &Hop, now: u32) -> u32 {
    let (mtu, learned) = (hop.mtu.get(), hop.path_mtu.get());
    if learned == 0 {
        return mtu;
    }
    if (hop.path_mtu_until.get().wrapping_sub(now) as i32) < 0 {
        hop.path_mtu.set(0);
        return mtu;
    }
    if learned < mtu { learned } else { mtu }
}

/// Whether the outer header is to carry a checksum. Remote checksum offload looks the same on the wire for packets
/// that come from it.
#[inline(always)]
pub const fn asks_for_checksum(tunnel: u32) -> bool {
    tunnel & 0xff != IPIP && tunnel & (Server::CHECKSUM | Server::REMOTE_CHECKSUM) != 0
}

/// Bytes of UDP and GUE header before an IPv4 packet, by the first two bytes of the latter; `None` when that is not what
/// follows.
#[inline(always)]
pub(crate) const fn gue_length(header: [u8; 2]) -> Option<usize> {
    let [first, protocol] = header;
    // Version and control flag are 0.
    if first & 0xe0 != 0 || protocol != PROTOCOL_IPIP {
        return None;
    }
    Some(12 + (first & 0x1f) as usize * 4)
}

/// Bytes of GRE header before an IPv4 packet, by the first four; `None` when that is not what follows.
#[inline(always)]
pub(crate) const fn gre_length(header: [u8; 4]) -> Option<usize> {
    let [flags, version, high, low] = header;
    if flags & !0xb0 != 0 || version != 0 || high != 8 || low != 0 {
        return None;
    }
    // Checksum, key, sequence number.
    let optional = (flags >> 7) + (flags >> 5 & 1) + (flags >> 4 & 1);
    Some(4 + optional as usize * 4)
}

/// Whether the sum of a plain packet follows from its headers: its own checksum makes it so.
#[inline(always)]
pub(crate) fn has_known_sum<P: Packet>(packet: &P, ip: &Ipv4) -> bool {
    if ip.protocol != UDP {
        return true;
    }
    let length = (ip.length() as u16).wrapping_sub(IP as u16).to_be();
    packet.get::<u16>(L4 + 6) != Some(0) && packet.get::<u16>(L4 + 4) == Some(length)
}

/// Wrap a packet for a server and send it, or, for a server marked [`UNWRAPPED`], only fragment it. A stage of its own,
/// entered for [`Verdict::Encapsulate`]: the packet's time to live is lowered and it is counted.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T, server: u32) -> Verdict {
    let verdict = send(packet, tables, server);
    if let Verdict::Drop(reason) = verdict {
        tables.count(reason);
    }
    verdict
}

#[inline(always)]
fn send<P: Packet, T: Tables>(packet: &mut P, tables: &T, index: u32) -> Verdict {
    let Some(ip) = packet.get::<Ipv4>(ETH) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    let Some(config) = tables.config() else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    let Some(server) = tables.server(index & !UNWRAPPED) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    let Some(hop) = tables.hop(server.hop.get()) else {
        return Verdict::Drop(Reason::Inconsistent);
    };
    if P::COMPLETE && index & UNWRAPPED != 0 {
        if fragment::is_unfinished(packet, &ip) {
            return Verdict::Drop(Reason::TooLong);
        }
        return fragment::send(packet, tables, &ip, hop.mtu.get() as usize, hop);
    }
    wrap(packet, tables, config, &ip, server, hop)
}

#[inline(always)]
fn wrap<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    config: &Config,
    ip: &Ipv4,
    server: &Server,
    hop: &Hop,
) -> Verdict {
    let source = hop.source.get();
    if hop.flags.get() & Hop::ROUTED == 0 || source == 0 {
        return Verdict::Drop(Reason::NoRouteToServer);
    }
    let is_super = packet.segment_length().is_some();
    let tunnel = server.tunnel.get();
    // What a super-packet will be cut into would need one each; the kernel would not compute them.
    let sum = if asks_for_checksum(tunnel) && !is_super {
        inner_sum(packet, ip)
    } else {
        Sum::UNKNOWN
    };
    let flow = flow(packet, ip);
    let (wrap, shim) = match tunnel & 0xff {
        GUE => (Wrap::Udp, 12),
        GRE if sum.is_known => (Wrap::Gre, 8),
        GRE => (Wrap::Gre, 4),
        _ => (Wrap::Ip, 0),
    };
    let discovers = config.settings.get() & settings::PMTU_DISC != 0;
    let dont_fragment = if discovers {
        ip.fragment & DONT_FRAGMENT
    } else {
        0
    };
    let inner = if ip.total_length == 0 {
        packet.len().saturating_sub(ETH)
    } else {
        ip.length()
    };
    let outer = Ipv4 {
        version_ihl: 0x45,
        tos: outer_tos(ip.tos),
        total_length: ((IP + shim + inner) as u16).to_be(),
        id: identification(tables, ip, dont_fragment, flow),
        fragment: dont_fragment,
        ttl: ip.ttl,
        protocol: match wrap {
            Wrap::Udp => UDP,
            Wrap::Gre => PROTOCOL_GRE,
            Wrap::Ip | Wrap::InPieces => PROTOCOL_IPIP,
        },
        checksum: 0,
        source,
        destination: server.address.get(),
    };
    let mtu = path_mtu(hop, ticks(tables.now(), config)) as usize;
    let too_long = P::COMPLETE && !is_super && IP + shim + inner > mtu;
    if too_long && fragment::is_unfinished(packet, ip) {
        return Verdict::Drop(Reason::TooLong);
    }
    let room = if too_long { Wrap::InPieces } else { wrap };
    if packet.wrap(room, IP + shim).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    if write(packet, &outer, wrap, (tunnel >> 16) as u16, sum, flow).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    if too_long {
        return fragment::send(packet, tables, &outer, mtu, hop);
    }
    deliver::deliver_by_hop(packet, hop)
}

/// Write the headers before a packet that was moved to make room for them.
#[inline(always)]
fn write<P: Packet>(
    packet: &mut P,
    outer: &Ipv4,
    wrap: Wrap,
    port: u16,
    sum: Sum,
    flow: u32,
) -> Option<()> {
    packet.put(12, ETHERTYPE_IPV4)?;
    packet.put(ETH, outer.sealed())?;
    match wrap {
        Wrap::Ip | Wrap::InPieces => Some(()),
        Wrap::Udp => {
            let length = u16::from_be(outer.total_length).wrapping_sub(IP as u16);
            let ports = source_port(flow) as u32 | (port as u32) << 16;
            let checksum = !fold(
                pseudo_header(outer.source, outer.destination, UDP, length)
                    + ports as u64
                    + length.to_be() as u64
                    + GUE_HEADER as u64
                    + sum.value,
            );
            let checksum = match checksum {
                _ if !sum.is_known => 0,
                0 => 0xffff,
                checksum => checksum,
            };
            let length_checksum = length.to_be() as u32 | (checksum as u32) << 16;
            packet.put_summed(L4, [ports, length_checksum, GUE_HEADER])
        }
        Wrap::Gre if sum.is_known => {
            let first = GRE_HEADER | GRE_CHECKSUM;
            let checksum = !fold(first as u64 + sum.value);
            packet.put_summed(L4, [first, checksum as u32])
        }
        Wrap::Gre => packet.put_summed(L4, GRE_HEADER),
    }
}

/// A sum, if it is known; otherwise 0. Not an option: the verifier refuses to have one copied that holds nothing.
#[derive(Clone, Copy)]
struct Sum {
    is_known: bool,
    value: u64,
}

impl Sum {
    const UNKNOWN: Self = Self {
        is_known: false,
        value: 0,
    };

    #[inline(always)]
    const fn known(value: u64) -> Self {
        Self {
            is_known: true,
            value,
        }
    }
}

/// The sum of a packet from its IP header on. That of the header is nothing, by its checksum; that of a whole TCP
/// segment, UDP datagram or ICMP message follows from what its own checksum was made to complete, also where hardware
/// has yet to do so. Everything else is summed, where that is possible.
#[inline(always)]
fn inner_sum<P: Packet>(packet: &P, ip: &Ipv4) -> Sum {
    let header = ip.header_length();
    let length = ip.length().wrapping_sub(header) as u16;
    let is_whole = ip.fragment & FRAGMENT == 0;
    if is_whole && ip.protocol == ICMP {
        return Sum::known(0);
    }
    // What lacks it was left to a stage that can sum.
    let has_checksum = ip.protocol == TCP
        || ip.protocol == UDP
            && (!P::COMPLETE
                || packet
                    .load::<[u16; 2]>(ETH + header + 4)
                    .is_some_and(|[claimed, checksum]| checksum != 0 && claimed == length.to_be()));
    if is_whole && has_checksum {
        let completed = pseudo_header(ip.source, ip.destination, ip.protocol, length);
        return Sum::known(!fold(completed) as u64);
    }
    match packet.sum(ETH + header, length as usize) {
        Some(sum) => Sum::known(sum),
        None => Sum::UNKNOWN,
    }
}

/// A number by which the packets of a connection are told from others: they take the same way. Fragments of a datagram
/// have no ports but one.
#[inline(always)]
fn flow<P: Packet>(packet: &P, ip: &Ipv4) -> u32 {
    let has_ports = ip.fragment & FRAGMENT == 0 && (ip.protocol == TCP || ip.protocol == UDP);
    let ports = if !has_ports {
        None
    } else if P::COMPLETE {
        packet.load::<u32>(ETH + ip.header_length())
    } else {
        packet.get::<u32>(L4)
    };
    let mixed = ip.source.wrapping_mul(0x9e37_79b1) ^ ip.destination;
    let mixed = mixed.wrapping_mul(0x85eb_ca6b) ^ ports.unwrap_or(0) ^ (mixed >> 15);
    let mixed = mixed.wrapping_mul(0xc2b2_ae35) ^ ip.protocol as u32;
    mixed ^ (mixed >> 16)
}

/// The port, as on the wire, that a connection's packets come from.
#[inline(always)]
const fn source_port(flow: u32) -> u16 {
    let (first, last) = PORTS;
    let port = first as u64 + ((flow as u64 * (last - first) as u64) >> 32);
    (port as u16).to_be()
}

/// The inner DSCP and ECN; congestion that was experienced stays inside (`INET_ECN_encapsulate`, RFC 3168 §9.1.1).
#[inline(always)]
const fn outer_tos(tos: u8) -> u8 {
    const CONGESTION: u8 = 3;
    const CAPABLE: u8 = 2;
    if tos & CONGESTION == CONGESTION {
        tos & !CONGESTION | CAPABLE
    } else {
        tos
    }
}

/// What fragments of the wrapped packet would be known by. As the kernel, none where there can be no fragments.
#[inline(always)]
fn identification<T: Tables>(tables: &T, ip: &Ipv4, dont_fragment: u16, flow: u32) -> u16 {
    if dont_fragment != 0 {
        0
    } else if ip.fragment & DONT_FRAGMENT != 0 {
        // The inner one may be anything, always the same for instance (RFC 6864 §4.1).
        tables.random() as u16
    } else {
        ip.id ^ flow as u16
    }
}
