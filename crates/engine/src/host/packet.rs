//! A packet in a vector, with the abilities that the stages have in the kernel.

use core::{mem, ptr};

use super::Frame;
use crate::{
    checksum::{self, Difference, fold},
    packet::{ETH, IP, L4Change, Packet, UDP, Wire, Wrap},
    tables::{Hop, NONE, Tables},
};

/// Stage: XDP on an interface whose packets come from a wire.
pub const XDP: u8 = 0;
/// Stage: XDP on veth.
pub const XDP_VETH: u8 = 1;
/// Stage: behind XDP, with a connection made or a server chosen; and the one that wraps packets there.
pub const XDP_NEXT: u8 = 2;
/// Stage: tc, plain packets; also with a connection made or a server chosen.
pub const TC: u8 = 3;
/// Stage: behind tc, everything.
pub const COMPLETE: u8 = 4;

/// Most bytes that the kernel's stages can sum, see its `tc.rs`: 148 chunks of 64, and a last one.
const SUMMABLE: usize = 149 * 64;

/// Most bytes that the kernel's stages can move to the front, see its `tc.rs`.
const MOVABLE: usize = 16384;

/// A frame at a stage: one of [`XDP`], [`XDP_VETH`], [`XDP_NEXT`], [`TC`], [`COMPLETE`].
#[derive(Clone, Debug)]
pub struct HostPacket<const STAGE: u8> {
    frame: Frame,
    chosen: Option<u32>,
}

impl<const STAGE: u8> HostPacket<STAGE> {
    const AT_XDP: bool = STAGE < TC;

    /// A frame at this stage.
    pub fn new(frame: Frame) -> Self {
        Self {
            frame,
            chosen: None,
        }
    }

    /// A frame that the stage that connects has seen, with the server that it chose for it alone or [`NONE`].
    pub fn chosen(frame: Frame, chosen: Option<u32>) -> Self {
        Self { frame, chosen }
    }

    /// The frame as it is now, for the next stage.
    pub fn into_frame(self) -> Frame {
        self.frame
    }

    fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        let end = offset.checked_add(mem::size_of::<T>())?;
        let bytes = self.frame.bytes.get(offset..end)?;
        // SAFETY: the slice has the size of a `T`, and any bytes are one.
        Some(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
    }

    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        let end = offset.checked_add(mem::size_of::<T>())?;
        let bytes = self.frame.bytes.get_mut(offset..end)?;
        // SAFETY: the slice has the size of a `T`, which is plain data without padding.
        unsafe { ptr::write_unaligned(bytes.as_mut_ptr().cast(), value) };
        Some(())
    }

    fn fix(&mut self, offset: usize, change: &L4Change) -> Option<()> {
        let field = self.read::<u16>(offset)?;
        let fixed = if !self.frame.is_unfinished || Self::AT_XDP {
            change.apply(field)
        } else if change.udp && field == 0 {
            0
        } else {
            // The field is a sum, not its complement, and only the pseudo header is in it.
            let (old, new) = change.address;
            match !Difference::none().word(old, new).apply(!field) {
                0 if change.udp => 0xffff,
                sum => sum,
            }
        };
        self.write(offset, fixed)
    }
}

impl<const STAGE: u8> Packet for HostPacket<STAGE> {
    const COMPLETE: bool = STAGE == COMPLETE;
    const FINAL: bool = !Self::AT_XDP;
    const NEEDS: u32 = if Self::AT_XDP {
        Hop::RESOLVED | Hop::XDP
    } else {
        Hop::RESOLVED
    };
    const MAY_BE_UNFINISHED: bool = STAGE == XDP_VETH;

    fn chosen_server(&self) -> u32 {
        self.chosen.unwrap_or(NONE)
    }

    fn is_chosen(&self) -> bool {
        self.chosen.is_some()
    }

    fn is_for_us<T: Tables>(&self, tables: &T) -> bool {
        let Some([head, tail]) = self.read::<[u32; 2]>(0) else {
            return false;
        };
        tables
            .port(self.frame.ifindex)
            .is_some_and(|port| port.is_destination(head, tail as u16))
    }

    fn len(&self) -> usize {
        self.frame.bytes.len()
    }

    fn segment_length(&self) -> Option<usize> {
        if Self::AT_XDP {
            return None;
        }
        let header = match self.read::<u8>(ETH + 9) {
            Some(UDP) => 8,
            _ => (self.read::<u8>(ETH + IP + 12)? >> 4) as usize * 4,
        };
        Some(self.frame.segment_size? as usize + IP + header)
    }

    fn get<T: Wire>(&self, offset: usize) -> Option<T> {
        self.read(offset)
    }

    fn put<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        self.write(offset, value)
    }

    fn load<T: Wire + Default>(&self, offset: usize) -> Option<T> {
        if Self::AT_XDP {
            return None;
        }
        self.read(offset)
    }

    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        if Self::AT_XDP {
            return None;
        }
        self.write(offset, value)
    }

    fn store_checksum(&mut self, offset: usize, value: u16) -> Option<()> {
        self.store(offset, value)
    }

    fn fix_checksum(&mut self, offset: usize, change: &L4Change) -> Option<()> {
        self.fix(offset, change)
    }

    fn fix_checksum_anywhere(&mut self, offset: usize, change: &L4Change) -> Option<()> {
        if Self::AT_XDP {
            return None;
        }
        self.fix(offset, change)
    }

    fn sum(&self, offset: usize, length: usize) -> Option<u64> {
        if Self::AT_XDP || length > SUMMABLE {
            return None;
        }
        let end = offset.checked_add(length)?;
        Some(fold(checksum::sum(self.frame.bytes.get(offset..end)?)) as u64)
    }

    fn cut_and_push(&mut self, keep: usize, room: usize) -> Option<()> {
        let bytes = &mut self.frame.bytes;
        if Self::AT_XDP || bytes.len() < ETH {
            return None;
        }
        bytes.truncate(ETH + keep);
        bytes.splice(ETH..ETH, core::iter::repeat_n(0, room));
        self.frame.segment_size = None;
        Some(())
    }
    fn wrap(&mut self, _wrap: Wrap, room: usize) -> Option<()> {
        let bytes = &mut self.frame.bytes;
        if bytes.len() < ETH {
            return None;
        }
        bytes.splice(ETH..ETH, core::iter::repeat_n(0, room));
        Some(())
    }

    fn put_summed<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        self.write(offset, value)
    }

    fn unwrap(&mut self, bytes: usize) -> Option<()> {
        let end = ETH.checked_add(bytes)?;
        // The kernel keeps an IP header at least.
        if Self::AT_XDP || self.frame.bytes.len() < end + IP {
            return None;
        }
        self.frame.bytes.drain(ETH..end);
        Some(())
    }

    fn send_front(&mut self, headers: usize, piece: usize, ifindex: u32) -> Option<()> {
        let end = headers.checked_add(piece)?;
        let rest = self.frame.bytes.len().checked_sub(end)?;
        if Self::AT_XDP || rest == 0 || rest > MOVABLE {
            return None;
        }
        let front = self.frame.bytes[..end].to_vec();
        self.frame.sent.push((ifindex, front));
        self.frame.bytes.drain(headers..end);
        Some(())
    }
}
