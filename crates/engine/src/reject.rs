//! Errors that the director sends itself: ICMP, most of it from the virtual address (RFC 792, RFC 1812 §4.3.2), and
//! resets.

use crate::{
    checksum::{fold, pseudo_header},
    deliver,
    packet::{DONT_FRAGMENT, ETH, FRAGMENT_OFFSET, ICMP, IP, Ipv4, Packet, TCP},
    pipeline::{self, Verdict},
    reason::Reason,
    state::{ACK, FIN, RST, SYN},
    tables::Tables,
};

/// What the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// Type 11 code 0: time to live exceeded in transit.
    TimeExceeded,
    /// Type 3 code 3: port unreachable; IPVS says so for TCP as well.
    PortUnreachable,
    /// Type 3 code 4: fragmentation needed, with the MTU (RFC 1191).
    FragmentationNeeded(u32),
    /// Type 3 code 1: host unreachable.
    HostUnreachable,
    /// No ICMP but a reset of the connection that a TCP segment asks for.
    Reset,
    /// What a router or server said about a tunnel, about the packet in it: type, code and lower half of the word
    /// after the checksum, see [`relayed`].
    Relayed(u32),
}

/// A message for [`Complaint::Relayed`].
#[inline(always)]
pub const fn relayed(kind: u8, code: u8, rest: u16) -> u32 {
    (kind as u32) << 24 | (code as u32) << 16 | rest as u32
}

/// IP header and ICMP header in front of the quotation.
const ROOM: usize = IP + 8;
/// Longest error message (RFC 1812 §4.3.2.3).
const LONGEST: usize = 576;

/// Turn a packet into an error about it and send it back; or drop it when no error may be sent. A stage of its
/// own, entered for [`Verdict::Reject`].
#[inline(always)]
pub fn reject<P: Packet, T: Tables>(packet: &mut P, tables: &T, complaint: Complaint) -> Verdict {
    let verdict = send(packet, tables, complaint);
    if let Verdict::Drop(reason) = verdict {
        tables.count(reason);
    }
    verdict
}

#[inline(always)]
fn send<P: Packet, T: Tables>(packet: &mut P, tables: &T, complaint: Complaint) -> Verdict {
    let reason = complaint.reason();
    let Some(ip) = packet.get::<Ipv4>(ETH) else {
        return Verdict::Drop(reason);
    };
    if ip.fragment & FRAGMENT_OFFSET != 0 || !pipeline::is_unicast(ip.source) {
        return Verdict::Drop(reason);
    }
    if ip.protocol == ICMP {
        // No error about an error (RFC 1122 §3.2.2): one that was to make a connection (`schedule_icmp`).
        return Verdict::Drop(reason);
    }
    if !tables.may_send_error() {
        return Verdict::Drop(Reason::ErrorLimited);
    }
    if let Complaint::Reset = complaint {
        return reset(packet, tables, &ip);
    }
    // Super-packets of over 64 KiB carry no length.
    let length = if ip.total_length == 0 {
        packet.len().saturating_sub(ETH)
    } else {
        ip.length()
    };
    // What is quoted in turn may have been cut.
    let length = if let Complaint::Relayed(_) = complaint {
        length.min(packet.len().saturating_sub(ETH))
    } else {
        length
    };
    let keep = length.min(LONGEST - ROOM);
    if write(packet, &ip, complaint, keep).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    tables.count(reason);
    deliver::deliver_by_route(packet, &tables.route(ip.destination, ip.source, TOS))
}

/// Bytes that an error is long about a packet of which so many are at hand.
#[inline(always)]
pub(crate) fn length_of_error(quoted: usize) -> usize {
    quoted.min(LONGEST - ROOM) + ROOM
}

/// Answer a segment of no connection with a reset (RFC 9293 §3.10.7.1).
#[inline(always)]
fn reset<P: Packet, T: Tables>(packet: &mut P, tables: &T, ip: &Ipv4) -> Verdict {
    let Some(segment) = Segment::read(packet, ip) else {
        return Verdict::Drop(Reason::RewriteFailed);
    };
    if segment.flags & RST != 0 {
        return Verdict::Drop(Reason::NoServer);
    }
    if segment.answer(packet, ip).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    tables.count(Reason::NoServer);
    deliver::deliver_by_route(packet, &tables.route(ip.destination, ip.source, 0))
}

/// What a reset depends on.
struct Segment {
    ports: u32,
    sequence: u32,
    acknowledgment: u32,
    flags: u8,
    /// Bytes of payload.
    payload: u32,
}

impl Segment {
    #[inline(always)]
    fn read<P: Packet>(packet: &P, ip: &Ipv4) -> Option<Self> {
        let at = ETH + ip.header_length();
        let header = (packet.load::<u8>(at + 12)? >> 4) as usize * 4;
        let length = if ip.total_length == 0 {
            packet.len().saturating_sub(ETH)
        } else {
            ip.length()
        };
        Some(Self {
            ports: packet.load(at)?,
            sequence: u32::from_be(packet.load(at + 4)?),
            acknowledgment: packet.load(at + 8)?,
            flags: packet.load(at + 13)?,
            payload: length.saturating_sub(ip.header_length() + header) as u32,
        })
    }

    /// Make the packet the reset of this segment.
    #[inline(always)]
    fn answer<P: Packet>(&self, packet: &mut P, ip: &Ipv4) -> Option<()> {
        const TCP_HEADER: usize = 20;
        const OFFSET: u32 = 0x50;
        packet.cut_and_push(ip.header_length() + TCP_HEADER, 0)?;
        let taken =
            self.payload + u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        let (sequence, acknowledgment, flags) = if self.flags & ACK != 0 {
            (self.acknowledgment, 0, RST)
        } else {
            (0, self.sequence.wrapping_add(taken).to_be(), RST | ACK)
        };
        let header = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length: ((IP + TCP_HEADER) as u16).to_be(),
            id: 0,
            fragment: DONT_FRAGMENT,
            ttl: 64,
            protocol: TCP,
            checksum: 0,
            source: ip.destination,
            destination: ip.source,
        };
        let ports = self.ports.rotate_right(16);
        let last = OFFSET | (flags as u32) << 8;
        let checksum = !fold(
            pseudo_header(header.source, header.destination, TCP, TCP_HEADER as u16)
                + ports as u64
                + sequence as u64
                + acknowledgment as u64
                + last as u64,
        );
        packet.put(ETH, header.sealed())?;
        packet.put(
            ETH + IP,
            [ports, sequence, acknowledgment, last, checksum as u32],
        )
    }
}

impl Complaint {
    /// The reason that the packet is counted under.
    #[inline(always)]
    const fn reason(self) -> Reason {
        match self {
            Self::TimeExceeded => Reason::TtlExceeded,
            Self::PortUnreachable => Reason::NoServer,
            Self::FragmentationNeeded(_) => Reason::TooLong,
            Self::HostUnreachable => Reason::NoRouteToServer,
            Self::Reset => Reason::NoServer,
            Self::Relayed(_) => Reason::TunnelError,
        }
    }

    /// As two numbers, for the kernel to hand from stage to stage.
    #[inline(always)]
    pub const fn to_numbers(self) -> (u32, u32) {
        match self {
            Self::TimeExceeded => (0, 0),
            Self::PortUnreachable => (1, 0),
            Self::FragmentationNeeded(mtu) => (2, mtu),
            Self::HostUnreachable => (3, 0),
            Self::Reset => (4, 0),
            Self::Relayed(message) => (5, message),
        }
    }

    /// Back from two numbers.
    #[inline(always)]
    pub const fn from_numbers(kind: u32, argument: u32) -> Self {
        match kind {
            0 => Self::TimeExceeded,
            1 => Self::PortUnreachable,
            2 => Self::FragmentationNeeded(argument),
            3 => Self::HostUnreachable,
            4 => Self::Reset,
            _ => Self::Relayed(argument),
        }
    }
}

/// Type of service of the kernel's own errors: internetwork control.
const TOS: u8 = 0xc0;

#[inline(always)]
fn write<P: Packet>(packet: &mut P, ip: &Ipv4, complaint: Complaint, keep: usize) -> Option<()> {
    packet.cut_and_push(keep, ROOM)?;
    let (kind, code, rest) = match complaint {
        Complaint::TimeExceeded => (11u8, 0u8, 0u32),
        Complaint::FragmentationNeeded(mtu) => (3, 4, mtu & 0xffff),
        Complaint::HostUnreachable => (3, 1, 0),
        Complaint::Relayed(message) => (
            (message >> 24) as u8,
            (message >> 16) as u8,
            message & 0xffff,
        ),
        Complaint::PortUnreachable | Complaint::Reset => (3, 3, 0),
    };
    let header = Ipv4 {
        version_ihl: 0x45,
        tos: TOS,
        total_length: ((ROOM + keep) as u16).to_be(),
        id: ip.id,
        fragment: 0,
        ttl: 64,
        protocol: ICMP,
        checksum: 0,
        source: ip.destination,
        destination: ip.source,
    };
    packet.put(ETH, header.sealed())?;
    packet.put(ETH + IP, kind as u32 | (code as u32) << 8)?;
    packet.put(ETH + IP + 4, rest.to_be())?;
    let sum = packet.sum(ETH + IP, 8 + keep)?;
    packet.put(ETH + IP + 2, !fold(sum))
}
