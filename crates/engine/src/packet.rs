//! The bytes of a packet: header layouts and the one accessor through which all code reaches them.

use crate::{
    checksum::{Difference, fold},
    tables::Tables,
};

/// An IPv4 header without options (RFC 791 §3.1).
///
/// Fields are in wire order. In the kernel the layout is natural, so that each field is one access; packets
/// there start two bytes off a word boundary, which makes the IP header aligned. On the host bytes lie
/// anywhere, so it is packed.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(target_arch = "bpf", repr(C))]
#[cfg_attr(not(target_arch = "bpf"), repr(C, packed))]
pub struct Ipv4 {
    /// Version (4) and header length in words.
    pub version_ihl: u8,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Length of the packet from this header on, big-endian.
    pub total_length: u16,
    /// Identification, big-endian.
    pub id: u16,
    /// Flags and fragment offset, big-endian.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: u16,
    /// Source address, as on the wire.
    pub source: u32,
    /// Destination address, as on the wire.
    pub destination: u32,
}

/// Bytes of an Ethernet header.
pub const ETH: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IP: usize = 20;
/// EtherType of IPv4, as it lies in memory.
pub const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of SCTP.
pub const SCTP: u8 = 132;
/// Don't-fragment flag in [`Ipv4::fragment`], as it lies in memory.
pub const DONT_FRAGMENT: u16 = 0x4000u16.to_be();
/// More-fragments flag and offset in [`Ipv4::fragment`], as they lie in memory.
pub const FRAGMENT: u16 = 0x3fffu16.to_be();
/// The more-fragments flag alone.
pub const MORE_FRAGMENTS: u16 = 0x2000u16.to_be();
/// The offset alone.
pub const FRAGMENT_OFFSET: u16 = 0x1fffu16.to_be();

impl Ipv4 {
    /// Length of the header in bytes, as it claims.
    #[inline(always)]
    pub const fn header_length(&self) -> usize {
        (self.version_ihl & 0xf) as usize * 4
    }

    /// Length of the packet from the IP header on, as it claims.
    #[inline(always)]
    pub const fn length(&self) -> usize {
        u16::from_be(self.total_length) as usize
    }

    /// With its checksum; without options.
    #[inline(always)]
    pub const fn sealed(mut self) -> Self {
        self.checksum = !fold(
            (self.version_ihl as u64 | (self.tos as u64) << 8)
                + self.total_length as u64
                + self.id as u64
                + self.fragment as u64
                + (self.ttl as u64 | (self.protocol as u64) << 8)
                + self.source as u64
                + self.destination as u64,
        );
        self
    }
}

/// What a packet is wrapped in, besides an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// Nothing.
    Ip,
    /// UDP, and what is between it and the packet.
    Udp,
    /// GRE.
    Gre,
    /// Whatever it is, it is to be cut up: the kernel does not shorten what it knows to be wrapped.
    InPieces,
}

/// Marks types that any bytes are a valid value of and that have no padding that matters.
///
/// # Safety
/// The type must be plain data: every bit pattern valid, no references, no `Drop`.
pub unsafe trait Wire: Copy {}

// SAFETY: integers, arrays of them and a struct of them are plain data.
unsafe impl Wire for u8 {}
// SAFETY: as above.
unsafe impl Wire for u16 {}
// SAFETY: as above.
unsafe impl Wire for u32 {}
// SAFETY: as above.
unsafe impl<T: Wire, const N: usize> Wire for [T; N] {}
// SAFETY: as above.
unsafe impl Wire for Ipv4 {}

/// A packet at one of the hooks, beginning with its Ethernet header.
pub trait Packet {
    /// Whether this stage does the rare and costly things: errors, fragments, IP options, ICMP, whole
    /// checksums, neighbours that are not known. Where it is false such packets are left to the next stage
    /// ([`Verdict::Leave`](crate::pipeline::Verdict::Leave)), unchanged and uncounted (though their connection may
    /// have been made already: the next stage then finds it).
    const COMPLETE: bool;

    /// Whether what this stage passes to the host is seen by no later one, so that it must be counted here.
    const FINAL: bool;

    /// Flags that a next hop must have for this stage to send there (see [`crate::tables::Hop`]).
    const NEEDS: u32;

    /// Whether checksums of TCP and UDP may be unfinished without any other sign (XDP on veth): the field then
    /// holds the sum of the pseudo header, for hardware to complete.
    const MAY_BE_UNFINISHED: bool;

    /// What the stage that connects chose, when it has seen this packet: a server for this packet alone, or
    /// [`NONE`](crate::tables::NONE).
    fn chosen_server(&self) -> u32;

    /// Whether the stage that connects has seen this packet.
    fn is_chosen(&self) -> bool;

    /// Whether the frame is addressed to the interface it came in by: others see frames that are not for them
    /// when a switch floods or somebody listens.
    fn is_for_us<T: Tables>(&self, tables: &T) -> bool;

    /// Bytes from the Ethernet header on.
    fn len(&self) -> usize;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the largest IP packet that this will be on the wire, when segmentation is still to come.
    fn segment_length(&self) -> Option<usize>;

    /// Read at an offset that is known when compiling; `None` when the packet ends before.
    fn get<T: Wire>(&self, offset: usize) -> Option<T>;

    /// Write at an offset that is known when compiling; `None` when the packet ends before.
    fn put<T: Wire>(&mut self, offset: usize, value: T) -> Option<()>;

    /// Read at any offset; `None` when the packet ends before. Only where [`COMPLETE`](Self::COMPLETE).
    fn load<T: Wire + Default>(&self, offset: usize) -> Option<T>;

    /// Write at any offset; `None` when the packet ends before. Only where [`COMPLETE`](Self::COMPLETE).
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()>;

    /// Write a checksum where none was. Only where [`COMPLETE`](Self::COMPLETE).
    fn store_checksum(&mut self, offset: usize, value: u16) -> Option<()>;

    /// Bring the TCP or UDP checksum at `offset`, known when compiling, up to date with changed addresses
    /// (they count through the pseudo header, also in a checksum that hardware has yet to finish) and
    /// ports. A UDP checksum of zero stays zero.
    fn fix_checksum(&mut self, offset: usize, change: &L4Change) -> Option<()>;

    /// As [`fix_checksum`](Self::fix_checksum) at any offset. Only where [`COMPLETE`](Self::COMPLETE).
    fn fix_checksum_anywhere(&mut self, offset: usize, change: &L4Change) -> Option<()>;

    /// The sum of `length` bytes from `offset` on (not folded to the end, not complemented). Only where
    /// [`COMPLETE`](Self::COMPLETE); `None` when the packet ends before or is longer than the hook can sum.
    fn sum(&self, offset: usize, length: usize) -> Option<u64>;

    /// Make this packet an error message: cut it after `keep` bytes of its IP packet and put `room` bytes
    /// between its Ethernet and IP header. Only where [`COMPLETE`](Self::COMPLETE).
    fn cut_and_push(&mut self, keep: usize, room: usize) -> Option<()>;

    /// Put `room` bytes between Ethernet and IP header, for the headers of a tunnel. At XDP the Ethernet header has to
    /// be written anew, its type too.
    fn wrap(&mut self, wrap: Wrap, room: usize) -> Option<()>;

    /// Write, at an offset that is known when compiling, what was not in the packet when it came: where the kernel
    /// holds the sum of the whole packet, that is brought up to date.
    fn put_summed<T: Wire>(&mut self, offset: usize, value: T) -> Option<()>;

    /// Take `bytes` bytes out between Ethernet and IP header. Only where [`COMPLETE`](Self::COMPLETE).
    fn unwrap(&mut self, bytes: usize) -> Option<()>;

    /// Send the first `headers` and `piece` bytes out of an interface, as a frame of its own, and take the piece out
    /// of this packet. Only where [`COMPLETE`](Self::COMPLETE); the packet must not be a super-packet nor have an
    /// unfinished checksum.
    fn send_front(&mut self, headers: usize, piece: usize, ifindex: u32) -> Option<()>;
}

/// What changes in the pseudo header and header of TCP or UDP.
#[derive(Clone, Copy, Debug)]
pub struct L4Change {
    /// Address before and after.
    pub address: (u32, u32),
    /// Port before and after.
    pub port: (u16, u16),
    /// Whether the checksum is UDP's.
    pub udp: bool,
}

impl L4Change {
    /// The checksum field after this change, for hooks whose packets carry whole checksums.
    #[inline(always)]
    pub const fn apply(&self, field: u16) -> u16 {
        let difference = Difference::none()
            .word(self.address.0, self.address.1)
            .half(self.port.0, self.port.1);
        if !self.udp {
            difference.apply(field)
        } else if field == 0 {
            0
        } else {
            difference.apply_udp(field)
        }
    }
}
