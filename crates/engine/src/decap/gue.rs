//! Generic UDP encapsulation.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Source port          |       Destination port        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |            Length             |           Checksum            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | 0 |C|   Hlen  |  Proto/ctype  |             Flags             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      Fields, Hlen words: first the private flags, if so       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//! draft-ietf-intarea-gue, version 0; in version 1 the IP packet follows UDP at once. The private flag of remote
//! checksum offload is the kernel's (`include/net/gue.h`): two 16-bit offsets, where to start and where the sum goes.

use super::{Carrier, Event, Family, Outer, Settings, Tunnel};
use crate::packet::UDP;

const UDP_HEADER: usize = 8;
const GUE_HEADER: usize = 4;
/// In the flags.
const PRIVATE: u16 = 1;
/// In the private flags.
const REMOTE_CHECKSUM: u32 = 1 << 31;

/// Whether a UDP packet is to the port of GUE.
#[inline(always)]
pub(super) fn is_to_port<C: Carrier>(packet: &C, outer: &Outer, settings: &Settings) -> bool {
    packet
        .load::<u16>(outer.end + 2)
        .is_some_and(|port| port as u32 == settings.gue_port)
}

/// Read the headers.
#[inline(always)]
pub(super) fn parse<C: Carrier>(packet: &C, outer: &Outer) -> Result<Tunnel, Event> {
    let [_, _, length, checksum]: [u16; 4] = packet.load(outer.end).ok_or(Event::Malformed)?;
    let length = u16::from_be(length) as usize;
    let covered = if packet.is_segmented() {
        outer.payload
    } else {
        length
    };
    if covered < UDP_HEADER || covered > outer.payload {
        return Err(Event::Malformed);
    }
    let at = outer.end + UDP_HEADER;
    let head: [u8; 4] = packet.load(at).ok_or(Event::Malformed)?;
    let (inner, start, remote) = match head[0] >> 6 {
        0 => version_0(packet, at, head)?,
        1 => (direct(head[0])?, at, (0, 0)),
        _ => return Err(Event::Unsupported),
    };
    if start > outer.end + covered {
        return Err(Event::Malformed);
    }
    Ok(Tunnel {
        kind: Event::Gue,
        inner,
        start,
        checksum: if checksum == 0 { 0 } else { outer.end + 6 },
        covered,
        pseudo: outer.addresses + (UDP as u16).to_be() as u64 + (covered as u16).to_be() as u64,
        remote,
    })
}

/// The family, the place of the inner header, and what remote checksum offload says.
#[inline(always)]
fn version_0<C: Carrier>(
    packet: &C,
    at: usize,
    [first, protocol, high, low]: [u8; 4],
) -> Result<(Family, usize, (u16, u16)), Event> {
    const CONTROL: u8 = 0x20;
    let fields = (first & 0x1f) as usize * 4;
    let start = at + GUE_HEADER + fields;
    let flags = u16::from_be_bytes([high, low]);
    // Fields of flags that are not known may mean anything: that this is a fragment, or encrypted.
    if first & CONTROL != 0 || flags & !PRIVATE != 0 {
        return Err(Event::Unsupported);
    }
    let inner = Family::of_protocol(protocol).ok_or(Event::Unsupported)?;
    if flags & PRIVATE == 0 {
        return Ok((inner, start, (0, 0)));
    }
    if fields < 4 {
        return Err(Event::Malformed);
    }
    let private: u32 = packet.load(at + GUE_HEADER).ok_or(Event::Malformed)?;
    let private = u32::from_be(private);
    if private & !REMOTE_CHECKSUM != 0 {
        return Err(Event::Unsupported);
    }
    if private == 0 {
        return Ok((inner, start, (0, 0)));
    }
    if fields < 8 {
        return Err(Event::Malformed);
    }
    let [from, to]: [u16; 2] = packet.load(at + GUE_HEADER + 4).ok_or(Event::Malformed)?;
    let (from, to) = (u16::from_be(from), u16::from_be(to));
    if to == 0 {
        return Err(Event::Malformed);
    }
    Ok((inner, start, (from, to)))
}

/// The family of a packet whose IP header follows UDP at once.
#[inline(always)]
fn direct(first: u8) -> Result<Family, Event> {
    match first >> 4 {
        4 => Ok(Family::V4),
        6 => Ok(Family::V6),
        _ => Err(Event::Unsupported),
    }
}
