//! Decapsulation on the host: a frame in a vector, and rules in lists.

use core::{cell::RefCell, mem, ptr};

use super::{Address, Carrier, EVENTS, Event, Family, Rules, Settings, Verdict, process};
use crate::{
    checksum::{self, fold},
    packet::{ETH, Wire},
};

/// A frame that comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Whether segmentation is still to come.
    pub is_segmented: bool,
    /// Whether hardware found the outermost checksum right.
    pub is_verified: bool,
    /// Whether it is for another host.
    pub is_foreign: bool,
}

/// What is decapsulated, and where.
#[derive(Clone, Debug, Default)]
pub struct HostRules {
    /// Settings.
    pub settings: Settings,
    /// Virtual addresses.
    pub virtuals: Vec<Address>,
    /// Addresses that tunnels may come from.
    pub senders: Vec<Address>,
    /// The host's own addresses.
    pub local: Vec<Address>,
    counts: RefCell<Vec<(u64, u64)>>,
}

impl HostRules {
    /// Tunnels to `local` addresses that carry packets to `virtuals`, from anywhere.
    pub fn new(settings: Settings, virtuals: &[Address], local: &[Address]) -> Self {
        Self {
            settings,
            virtuals: virtuals.to_vec(),
            local: local.to_vec(),
            ..Self::default()
        }
    }

    /// What becomes of a frame.
    pub fn receive(&self, frame: &mut Frame) -> Verdict {
        process(frame, self)
    }

    /// Events so far with packets and bytes, without those that did not happen.
    pub fn counts(&self) -> Vec<(Event, u64, u64)> {
        let counts = self.counts.borrow();
        let happened = Event::ALL.iter().zip(counts.iter());
        happened
            .filter(|(_, (packets, _))| *packets > 0)
            .map(|(event, (packets, bytes))| (*event, *packets, *bytes))
            .collect()
    }
}

impl Rules for HostRules {
    fn settings(&self) -> Option<Settings> {
        Some(self.settings)
    }
    fn is_virtual(&self, address: &Address) -> bool {
        self.virtuals.contains(address)
    }
    fn may_send(&self, address: &Address) -> bool {
        self.senders.contains(address)
    }
    fn is_local(&self, _source: &Address, destination: &Address) -> bool {
        self.local.contains(destination)
    }
    fn count(&self, event: Event, bytes: u64) {
        let mut counts = self.counts.borrow_mut();
        counts.resize(EVENTS as usize, (0, 0));
        if let Some(count) = counts.get_mut(event as usize) {
            count.0 += 1;
            count.1 += bytes;
        }
    }
}

impl Carrier for Frame {
    fn is_for_us(&self) -> bool {
        !self.is_foreign
    }
    fn len(&self) -> usize {
        self.bytes.len()
    }
    fn is_segmented(&self) -> bool {
        self.is_segmented
    }
    fn is_verified(&self) -> bool {
        self.is_verified
    }
    fn load<T: Wire + Default>(&self, offset: usize) -> Option<T> {
        let end = offset.checked_add(mem::size_of::<T>())?;
        let bytes = self.bytes.get(offset..end)?;
        // SAFETY: the slice has the size of a `T`, and any bytes are one.
        Some(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
    }
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        let end = offset.checked_add(mem::size_of::<T>())?;
        let bytes = self.bytes.get_mut(offset..end)?;
        // SAFETY: the slice has the size of a `T`, which is plain data without padding.
        unsafe { ptr::write_unaligned(bytes.as_mut_ptr().cast(), value) };
        Some(())
    }
    fn sum(&self, offset: usize, length: usize) -> Option<u64> {
        let bytes = self.bytes.get(offset..offset.checked_add(length)?)?;
        Some(fold(checksum::sum(bytes)) as u64)
    }
    fn strip(&mut self, bytes: usize, family: Family) -> Option<()> {
        let end = ETH.checked_add(bytes)?;
        if end >= self.bytes.len() {
            return None;
        }
        self.bytes.drain(ETH..end);
        self.store(ETH - 2, family.ethertype())
    }
}
