//! ICMP errors that the director sends itself, from the virtual address (RFC 792, RFC 1812 §4.3.2).

use crate::{
    checksum::fold,
    deliver,
    packet::{ETH, FRAGMENT_OFFSET, ICMP, IP, Ipv4, Packet},
    pipeline::{self, Verdict},
    reason::Reason,
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
    if !tables.may_send_error() {
        return Verdict::Drop(Reason::ErrorLimited);
    }
    // Super-packets of over 64 KiB carry no length.
    let length = if ip.total_length == 0 {
        packet.len().saturating_sub(ETH)
    } else {
        ip.length()
    };
    let keep = length.min(LONGEST - ROOM);
    if write(packet, &ip, complaint, keep).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    tables.count(reason);
    deliver::deliver_by_route(packet, &tables.route(ip.destination, ip.source, TOS))
}

impl Complaint {
    /// The reason that the packet is counted under.
    #[inline(always)]
    const fn reason(self) -> Reason {
        match self {
            Self::TimeExceeded => Reason::TtlExceeded,
            Self::PortUnreachable => Reason::NoServer,
            Self::FragmentationNeeded(_) => Reason::TooLong,
        }
    }

    /// As two numbers, for the kernel to hand from stage to stage.
    #[inline(always)]
    pub const fn to_numbers(self) -> (u32, u32) {
        match self {
            Self::TimeExceeded => (0, 0),
            Self::PortUnreachable => (1, 0),
            Self::FragmentationNeeded(mtu) => (2, mtu),
        }
    }

    /// Back from two numbers.
    #[inline(always)]
    pub const fn from_numbers(kind: u32, mtu: u32) -> Self {
        match kind {
            0 => Self::TimeExceeded,
            1 => Self::PortUnreachable,
            _ => Self::FragmentationNeeded(mtu),
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
        Complaint::PortUnreachable => (3, 3, 0),
        Complaint::FragmentationNeeded(mtu) => (3, 4, mtu & 0xffff),
    };
    let mut header = Ipv4 {
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
    header.checksum = !fold(
        (header.version_ihl as u64 | (header.tos as u64) << 8)
            + header.total_length as u64
            + header.id as u64
            + (header.ttl as u64 | (header.protocol as u64) << 8)
            + header.source as u64
            + header.destination as u64,
    );
    packet.put(ETH, header)?;
    packet.put(ETH + IP, kind as u32 | (code as u32) << 8)?;
    packet.put(ETH + IP + 4, rest.to_be())?;
    let sum = packet.sum(ETH + IP, 8 + keep)?;
    packet.put(ETH + IP + 2, !fold(sum))
}
