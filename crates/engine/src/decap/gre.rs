//! Generic routing encapsulation.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |C| |K|S| Reserved0       | Ver |         Protocol Type         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      Checksum (optional)      |       Reserved1 (optional)    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//! RFC 2784 §2, with K and S of RFC 2890 §2.

use super::{Carrier, Event, Family, Outer, Tunnel};

const CHECKSUM: u16 = 0x8000;
/// The version, and the bits that a receiver must not accept set if it does not know them (RFC 2784 §2.3). A key
/// or numbers make it another tunnel, perhaps one that this host has a device for.
const REFUSED: u16 = 0x7c07;

/// Read the header.
#[inline(always)]
pub(super) fn parse<C: Carrier>(packet: &C, outer: &Outer) -> Result<Tunnel, Event> {
    let [flags, protocol]: [u16; 2] = packet.load(outer.end).ok_or(Event::Malformed)?;
    let flags = u16::from_be(flags);
    if flags & REFUSED != 0 {
        return Err(Event::Unsupported);
    }
    let has_checksum = flags & CHECKSUM != 0;
    Ok(Tunnel {
        kind: Event::Gre,
        inner: Family::of_ethertype(protocol).ok_or(Event::Unsupported)?,
        start: outer.end + if has_checksum { 8 } else { 4 },
        checksum: if has_checksum { outer.end + 4 } else { 0 },
        covered: outer.payload,
        pseudo: 0,
        remote: (0, 0),
    })
}
