//! Tunnels: packets wrapped for a server that may be anywhere (`ip_vs_xmit.c`, `ip_vs_tunnel_xmit`).

use crate::{
    packet::{IP, Packet},
    pipeline::Verdict,
    reason::Reason,
    tables::{Server, Tables},
};

/// Tunnel kind in [`Server::tunnel`]: IP in IP (RFC 2003).
pub const IPIP: u32 = 0;
/// Tunnel kind in [`Server::tunnel`]: generic UDP encapsulation.
pub const GUE: u32 = 1;
/// Tunnel kind in [`Server::tunnel`]: generic routing encapsulation (RFC 2784).
pub const GRE: u32 = 2;

/// Bytes of headers that a tunnel with these parameters puts before an IPv4 packet, in IPv4.
#[inline(always)]
pub const fn overhead(tunnel: u32) -> u32 {
    let shim = match tunnel & 0xff {
        GUE => 12,
        GRE if tunnel & (Server::CHECKSUM | Server::REMOTE_CHECKSUM) != 0 => 8,
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

/// Wrap a packet for a server and send it.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(_packet: &mut P, tables: &T, _server: u32) -> Verdict {
    tables.count(Reason::Inconsistent);
    Verdict::Drop(Reason::Inconsistent)
}
