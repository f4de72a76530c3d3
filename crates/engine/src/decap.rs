//! What a real server behind a tunnel does: take the director's packet out of ipip, GUE or GRE.
//!
//! For machines whose kernel has no such device, or where nobody wants to set one up. A packet that is not
//! one of these tunnels, or whose inner destination is not a virtual address, is left as it came. The
//! headers are RFC 2003 and 4213 (ipip), RFC 2784 (GRE) and draft-ietf-intarea-gue (versions 0 and 1), around IPv4 and IPv6 both inside and outside.

use crate::{
    checksum::{Difference, fold, pseudo_header},
    packet::{ETH, ETHERTYPE_IPV4, FRAGMENT, FRAGMENT_OFFSET, IP, Ipv4, TCP, UDP, Wire},
};

mod event;
mod gre;
mod gue;
#[cfg(not(target_arch = "bpf"))]
pub mod host;
#[cfg(test)]
mod tests;

pub use event::{EVENTS, Event};

/// EtherType of IPv6, as it lies in memory.
pub const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();
/// Bytes of an IPv6 header (RFC 8200 §3).
pub const IP6: usize = 40;

const IPIP: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const FRAGMENT_HEADER: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// An address of either family, as on the wire; IPv4 as IPv6 maps it (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2).
pub type Address = [u32; 4];

/// An IPv4 address as an [`Address`].
#[inline(always)]
pub const fn mapped(address: u32) -> Address {
    [0, 0, 0xffffu32.to_be(), address]
}

/// What is decapsulated, in one value of a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Kinds of tunnels: [`Settings::IPIP`], [`Settings::GUE`], [`Settings::GRE`].
    pub kinds: u32,
    /// UDP port of GUE, as on the wire.
    pub gue_port: u32,
    /// Not 0 if only some senders are allowed, see [`Rules::may_send`].
    pub restricted: u32,
}

impl Settings {
    /// In [`Settings::kinds`]: IP in IP, any family in any.
    pub const IPIP: u32 = 1;
    /// In [`Settings::kinds`]: generic UDP encapsulation.
    pub const GUE: u32 = 2;
    /// In [`Settings::kinds`]: generic routing encapsulation.
    pub const GRE: u32 = 4;
}

/// An IP family, as a number so that it is always one thing to the verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family(u16);

impl Family {
    /// IPv4.
    pub const V4: Self = Self(ETHERTYPE_IPV4);
    /// IPv6.
    pub const V6: Self = Self(ETHERTYPE_IPV6);

    /// The EtherType, as on the wire.
    #[inline(always)]
    pub const fn ethertype(self) -> u16 {
        self.0
    }

    /// The family that an IP protocol number puts into another IP packet.
    #[inline(always)]
    const fn of_protocol(protocol: u8) -> Option<Self> {
        match protocol {
            IPIP => Some(Self::V4),
            IPV6 => Some(Self::V6),
            _ => None,
        }
    }

    /// The family that an EtherType names.
    #[inline(always)]
    const fn of_ethertype(ethertype: u16) -> Option<Self> {
        match ethertype {
            ETHERTYPE_IPV4 => Some(Self::V4),
            ETHERTYPE_IPV6 => Some(Self::V6),
            _ => None,
        }
    }
}

/// The bytes of a packet, beginning with its Ethernet header, as far as decapsulation needs them.
pub trait Carrier {
    /// Whether the frame is for this host and not of a VLAN whose tag the card took off.
    fn is_for_us(&self) -> bool;
    /// Bytes from the Ethernet header on.
    fn len(&self) -> usize;
    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether segmentation is still to come: then checksums are as well.
    fn is_segmented(&self) -> bool;
    /// Whether hardware found the outermost checksum right.
    fn is_verified(&self) -> bool;
    /// Read at any offset; `None` when the packet ends before.
    fn load<T: Wire + Default>(&self, offset: usize) -> Option<T>;
    /// Write at any even offset from the network header on; `None` when the packet ends before.
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()>;
    /// The sum of `length` bytes from `offset` on (not complemented); `None` when the packet ends before.
    fn sum(&self, offset: usize, length: usize) -> Option<u64>;
    /// Take out `bytes` after the Ethernet header, whose EtherType becomes the family's.
    fn strip(&mut self, bytes: usize, family: Family) -> Option<()>;
}

/// What is decapsulated, and the host it is for.
pub trait Rules {
    /// Settings.
    fn settings(&self) -> Option<Settings>;
    /// Whether an address is one of the virtual ones.
    fn is_virtual(&self, address: &Address) -> bool;
    /// Whether an address is one that tunnels may come from.
    fn may_send(&self, address: &Address) -> bool;
    /// Whether a packet between these (IPv4-mapped) addresses is for this host, by its routing.
    fn is_local(&self, source: &Address, destination: &Address) -> bool;
    /// Count an event, and bytes where it says so.
    fn count(&self, event: Event, bytes: u64);
}

/// What becomes of a packet.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the host's stack as it came.
    Leave,
    /// To the host's stack, without its tunnel.
    Deliver,
    /// Nowhere.
    Drop,
}

/// Decapsulate a packet, if it is one of ours.
#[inline(always)]
pub fn process<C: Carrier, R: Rules>(packet: &mut C, rules: &R) -> Verdict {
    if !packet.is_for_us() {
        return Verdict::Leave;
    }
    let Some(settings) = rules.settings() else {
        return Verdict::Leave;
    };
    match decapsulate(packet, rules, &settings) {
        Ok((kind, bytes)) => {
            rules.count(kind, bytes);
            Verdict::Deliver
        }
        Err(Event::None) => Verdict::Leave,
        Err(event) => {
            rules.count(event, 0);
            if event.drops() {
                Verdict::Drop
            } else {
                Verdict::Leave
            }
        }
    }
}

/// The outer header of a packet.
#[derive(Clone, Copy)]
struct Outer {
    /// Where what it carries begins.
    end: usize,
    /// Bytes that it carries, by its own account.
    payload: usize,
    source: Address,
    destination: Address,
    /// Sum of its pseudo header but for protocol and length.
    addresses: u64,
    protocol: u8,
    /// Its ECN field.
    ecn: u8,
    is_fragment: bool,
    /// Whether what it carries begins in this packet: not in a later fragment.
    has_start: bool,
}

/// What lies between the outer and the inner header.
#[derive(Clone, Copy)]
struct Tunnel {
    kind: Event,
    inner: Family,
    /// Where the inner header begins.
    start: usize,
    /// Where a checksum of the tunnel is, and how many bytes from the outer header's end on are in it; 0: none.
    checksum: usize,
    covered: usize,
    /// Sum of the pseudo header that is in the checksum.
    pseudo: u64,
    /// Remote checksum offload: where summing starts and where the sum goes, from the inner header on; 0: none.
    remote: (u16, u16),
}

/// The inner header.
#[derive(Clone, Copy)]
struct Inner {
    /// Version, header length and traffic class: its first two bytes, as a number.
    head: u16,
    /// Checksum of its header; IPv6 has none.
    checksum: u16,
}

/// Do it, or say why not. Gives the kind of tunnel and the bytes of the inner packet.
#[inline(always)]
fn decapsulate<C: Carrier, R: Rules>(
    packet: &mut C,
    rules: &R,
    settings: &Settings,
) -> Result<(Event, u64), Event> {
    let outer = outer(packet)?;
    let tunnel = tunnel(packet, settings, &outer)?;
    let inner = inner(packet, rules, &tunnel)?;
    if settings.restricted != 0 && !rules.may_send(&outer.source) {
        return Err(Event::SenderNotAllowed);
    }
    if !rules.is_local(&outer.source, &outer.destination) {
        return Err(Event::NotLocal);
    }
    if tunnel.checksum != 0 && !is_intact(packet, &outer, &tunnel) {
        return Err(Event::BadChecksum);
    }
    // The kernel would cut up the tunnel that it takes for being there still.
    if packet.is_segmented() && tunnel.kind == Event::Gue && carries_udp(packet, &tunnel) {
        return Err(Event::Failed);
    }
    // Before anything is changed.
    let head = decapsulated_ecn(&outer, &tunnel, &inner)?;
    if tunnel.remote.1 != 0 && !packet.is_segmented() {
        finish_checksum(packet, &tunnel)?;
    }
    if head != inner.head {
        set_head(packet, &tunnel, &inner, head).ok_or(Event::Failed)?;
    }
    packet
        .strip(tunnel.start - ETH, tunnel.inner)
        .ok_or(Event::Failed)?;
    Ok((tunnel.kind, (packet.len() - ETH) as u64))
}

/// Read the outer header. One whose checksum is wrong is left to the stack, which discards it.
#[inline(always)]
fn outer<C: Carrier>(packet: &C) -> Result<Outer, Event> {
    match packet.load::<u16>(ETH - 2) {
        Some(ETHERTYPE_IPV4) => outer_v4(packet),
        Some(ETHERTYPE_IPV6) => outer_v6(packet),
        _ => Err(Event::None),
    }
}

#[inline(always)]
fn outer_v4<C: Carrier>(packet: &C) -> Result<Outer, Event> {
    let ip: Ipv4 = packet.load(ETH).ok_or(Event::None)?;
    if !matches!(ip.protocol, IPIP | IPV6 | GRE | UDP) {
        return Err(Event::None);
    }
    let header = ip.header_length();
    if ip.version_ihl >> 4 != 4 || header < IP {
        return Err(Event::Malformed);
    }
    if packet.sum(ETH, header).map(fold) != Some(0xffff) {
        return Err(Event::Malformed);
    }
    let payload = payload(packet, ETH + header, ip.length().checked_sub(header))?;
    Ok(Outer {
        end: ETH + header,
        payload,
        source: mapped(ip.source),
        destination: mapped(ip.destination),
        addresses: ip.source as u64 + ip.destination as u64,
        protocol: ip.protocol,
        ecn: ip.tos & 3,
        is_fragment: ip.fragment & FRAGMENT != 0,
        has_start: ip.fragment & FRAGMENT_OFFSET == 0,
    })
}

/// Bytes that the outer header carries. A super-packet's length field may not hold them.
#[inline(always)]
fn payload<C: Carrier>(packet: &C, end: usize, claimed: Option<usize>) -> Result<usize, Event> {
    let there = packet.len().checked_sub(end).ok_or(Event::Malformed)?;
    if packet.is_segmented() {
        return Ok(there);
    }
    match claimed {
        Some(claimed) if claimed <= there => Ok(claimed),
        _ => Err(Event::Malformed),
    }
}

#[inline(always)]
fn outer_v6<C: Carrier>(packet: &C) -> Result<Outer, Event> {
    let ip: [u32; 10] = packet.load(ETH).ok_or(Event::None)?;
    let [first, second, s0, s1, s2, s3, d0, d1, d2, d3] = ip;
    let first = u32::from_be(first);
    let second = u32::from_be(second);
    let mut protocol = (second >> 8) as u8;
    let mut end = ETH + IP6;
    let mut carried = (second >> 16) as usize;
    // The kernel's ip6tnl puts a limit on nesting there (RFC 2473 §4.1.1).
    if protocol == DESTINATION_OPTIONS {
        let [next, words] = packet.load::<[u8; 2]>(end).ok_or(Event::None)?;
        let length = (words as usize + 1) * 8;
        protocol = next;
        end += length;
        carried = carried.wrapping_sub(length);
    }
    let is_fragment = protocol == FRAGMENT_HEADER;
    let mut has_start = true;
    if is_fragment {
        let [head, offset]: [u16; 2] = packet.load(end).ok_or(Event::None)?;
        protocol = (u16::from_be(head) >> 8) as u8;
        has_start = u16::from_be(offset) >> 3 == 0;
        end += 8;
        carried = carried.wrapping_sub(8);
    }
    if first >> 28 != 6 || !matches!(protocol, IPIP | IPV6 | GRE | UDP) {
        return Err(Event::None);
    }
    let words = [s0, s1, s2, s3, d0, d1, d2, d3];
    Ok(Outer {
        end,
        payload: payload(packet, end, Some(carried))?,
        source: [s0, s1, s2, s3],
        destination: [d0, d1, d2, d3],
        addresses: words.iter().map(|word| *word as u64).sum(),
        protocol,
        ecn: (first >> 20) as u8 & 3,
        is_fragment,
        has_start,
    })
}

/// Find the inner header.
#[inline(always)]
fn tunnel<C: Carrier>(packet: &C, settings: &Settings, outer: &Outer) -> Result<Tunnel, Event> {
    let kind = match outer.protocol {
        UDP => Settings::GUE,
        GRE => Settings::GRE,
        _ => Settings::IPIP,
    };
    if settings.kinds & kind == 0 {
        return Err(Event::None);
    }
    // UDP is a tunnel only by its port, which later fragments do not have.
    if kind == Settings::GUE && !(outer.has_start && gue::is_to_port(packet, outer, settings)) {
        return Err(Event::None);
    }
    if outer.is_fragment {
        return Err(Event::Fragment);
    }
    match kind {
        Settings::GUE => gue::parse(packet, outer),
        Settings::GRE => gre::parse(packet, outer),
        _ => Ok(Tunnel {
            kind: Event::Ipip,
            inner: Family::of_protocol(outer.protocol).ok_or(Event::None)?,
            start: outer.end,
            checksum: 0,
            covered: 0,
            pseudo: 0,
            remote: (0, 0),
        }),
    }
}

/// Read the inner header and see whether it is to a virtual address.
#[inline(always)]
fn inner<C: Carrier, R: Rules>(packet: &C, rules: &R, tunnel: &Tunnel) -> Result<Inner, Event> {
    let (version, inner, destination) = if tunnel.inner == Family::V4 {
        let ip: Ipv4 = packet.load(tunnel.start).ok_or(Event::Malformed)?;
        let head = (ip.version_ihl as u16) << 8 | ip.tos as u16;
        let checksum = ip.checksum;
        (4, Inner { head, checksum }, mapped(ip.destination))
    } else {
        let head: u16 = packet.load(tunnel.start).ok_or(Event::Malformed)?;
        let destination: Address = packet.load(tunnel.start + 24).ok_or(Event::Malformed)?;
        let head = u16::from_be(head);
        (6, Inner { head, checksum: 0 }, destination)
    };
    if inner.head >> 12 != version {
        return Err(Event::Malformed);
    }
    if !rules.is_virtual(&destination) {
        return Err(Event::NotVirtual);
    }
    Ok(inner)
}

/// Whether the tunnel's own checksum is right, or none that could be wrong: of a super-packet and of a packet
/// that hardware has yet to finish, as they come from a neighbour on the same machine.
#[inline(always)]
fn is_intact<C: Carrier>(packet: &C, outer: &Outer, tunnel: &Tunnel) -> bool {
    if packet.is_segmented() || packet.is_verified() {
        return true;
    }
    let Some(field) = packet.load::<u16>(tunnel.checksum) else {
        return false;
    };
    let sum = packet.sum(outer.end, tunnel.covered);
    if sum.map(|sum| fold(sum + tunnel.pseudo)) == Some(0xffff) {
        return true;
    }
    // Unfinished: the field holds the sum of the pseudo header, complemented only at the end.
    tunnel.pseudo != 0 && field == fold(tunnel.pseudo) || is_unfinished(packet, tunnel)
}

/// Whether the inner TCP or UDP checksum is one that hardware has yet to finish: the tunnel's was computed for
/// what will be there then.
#[inline(always)]
fn is_unfinished<C: Carrier>(packet: &C, tunnel: &Tunnel) -> bool {
    let Some((protocol, at, length, addresses)) = transport(packet, tunnel) else {
        return false;
    };
    let field = match protocol {
        TCP => at + 16,
        UDP => at + 6,
        _ => return false,
    };
    let pseudo = addresses + pseudo_header(0, 0, protocol, length);
    packet.load::<u16>(field) == Some(fold(pseudo))
}

/// Protocol, place, length and the sum of the addresses of what the inner packet carries.
#[inline(always)]
fn transport<C: Carrier>(packet: &C, tunnel: &Tunnel) -> Option<(u8, usize, u16, u64)> {
    if tunnel.inner == Family::V4 {
        let ip: Ipv4 = packet.load(tunnel.start)?;
        let header = ip.header_length();
        let length = ip.length().checked_sub(header)? as u16;
        let addresses = ip.source as u64 + ip.destination as u64;
        Some((ip.protocol, tunnel.start + header, length, addresses))
    } else {
        let [_, second]: [u32; 2] = packet.load(tunnel.start)?;
        let second = u32::from_be(second);
        let words: [u32; 8] = packet.load(tunnel.start + 8)?;
        let addresses = words.iter().map(|word| *word as u64).sum();
        let at = tunnel.start + IP6;
        Some(((second >> 8) as u8, at, (second >> 16) as u16, addresses))
    }
}

/// Whether the inner packet carries UDP.
#[inline(always)]
fn carries_udp<C: Carrier>(packet: &C, tunnel: &Tunnel) -> bool {
    let at = if tunnel.inner == Family::V4 { 9 } else { 6 };
    packet.load::<u8>(tunnel.start + at) == Some(UDP)
}

/// The inner header's first two bytes with the ECN field that RFC 6040 §4.2 says.
#[inline(always)]
fn decapsulated_ecn(outer: &Outer, tunnel: &Tunnel, inner: &Inner) -> Result<u16, Event> {
    const NOT_ECT: u16 = 0;
    const ECT_1: u16 = 1;
    const ECT_0: u16 = 2;
    const CE: u16 = 3;
    let shift = if tunnel.inner == Family::V4 { 0 } else { 4 };
    let was = inner.head >> shift & 3;
    let becomes = match (was, outer.ecn as u16) {
        // Congestion, and no way to tell.
        (NOT_ECT, CE) => return Err(Event::Congestion),
        (NOT_ECT, _) | (CE, _) => was,
        (_, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        _ => was,
    };
    Ok(inner.head & !(3 << shift) | becomes << shift)
}

/// Write the inner header's first two bytes.
#[inline(always)]
fn set_head<C: Carrier>(packet: &mut C, tunnel: &Tunnel, inner: &Inner, head: u16) -> Option<()> {
    packet.store(tunnel.start, head.to_be())?;
    if tunnel.inner == Family::V4 {
        let difference = Difference::none().half(inner.head.to_be(), head.to_be());
        packet.store(tunnel.start + 10, difference.apply(inner.checksum))?;
    }
    Some(())
}

/// Do what the sender left to us: complete the checksum whose field holds the sum of the pseudo header.
#[inline(always)]
fn finish_checksum<C: Carrier>(packet: &mut C, tunnel: &Tunnel) -> Result<(), Event> {
    let (protocol, at, length, _) = transport(packet, tunnel).ok_or(Event::Malformed)?;
    let (start, field) = (tunnel.remote.0 as usize, tunnel.remote.1 as usize);
    // Only what a sender's hardware would have been told: from the transport header on, into it.
    let place = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return Err(Event::Unsupported),
    };
    if tunnel.start + start != at || field != start + place {
        return Err(Event::Malformed);
    }
    let sum = packet.sum(at, length as usize).ok_or(Event::Malformed)?;
    let checksum = match !fold(sum) {
        0 if protocol == UDP => 0xffff,
        checksum => checksum,
    };
    packet.store(at + place, checksum).ok_or(Event::Failed)
}
