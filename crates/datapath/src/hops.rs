//! Next hops of servers: each change is a new slot, so that a packet sees the old one or the new one whole.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use furiwake_engine::tables::{Hop, Port, SERVER_HOPS};

use crate::{Error, NextHop, load::Maps, translate::wire};

/// Next hops as they were told, to be written again when an interface changes its ways.
#[derive(Debug, Default)]
pub(crate) struct Hops {
    told: HashMap<Ipv4Addr, NextHop>,
    /// Where the search for a free slot begins: slots rest as long as possible before they are used again.
    next: u32,
}

impl Hops {
    /// Point every server with this address to a next hop.
    pub(crate) fn set(
        &mut self,
        maps: &mut Maps,
        address: Ipv4Addr,
        hop: NextHop,
    ) -> Result<(), Error> {
        let owners: Vec<u32> = maps.index.at_address(&[wire(address), 0, 0, 0]).collect();
        let Some(&first) = owners.first() else {
            self.told.remove(&address);
            return Err(Error::NoServer(address.into()));
        };
        self.told.insert(address, hop);
        let wanted = Wanted::of(maps, &hop);
        let current = maps.server[first as usize].hop.get();
        let slot = match maps.hop.get(current as usize) {
            Some(slot) if current != 0 && wanted.is_in(slot) => current,
            _ => self.write(maps, &wanted)?,
        };
        for owner in owners {
            maps.index.set_hop(&maps.server[owner as usize], slot);
        }
        Ok(())
    }

    /// Write every next hop again that is not as it should be.
    pub(crate) fn refresh(&mut self, maps: &mut Maps) -> Result<(), Error> {
        let in_use = |a: &Ipv4Addr| {
            let address = [wire(*a), 0, 0, 0];
            maps.index.at_address(&address).next().is_some()
        };
        self.told.retain(|address, _| in_use(address));
        for (address, hop) in self.told.clone() {
            self.set(maps, address, hop)?;
        }
        Ok(())
    }

    fn write(&mut self, maps: &Maps, wanted: &Wanted) -> Result<u32, Error> {
        for _ in 1..SERVER_HOPS {
            self.next = self.next % (SERVER_HOPS - 1) + 1;
            if !maps.index.is_hop_used(self.next) {
                wanted.write(&maps.hop[self.next as usize]);
                return Ok(self.next);
            }
        }
        Err(Error::Full {
            what: "next hop",
            limit: SERVER_HOPS,
        })
    }
}

/// Interfaces and MAC addresses that the programs learned on the way to clients.
pub(crate) fn learned(maps: &Maps) -> HashSet<(u32, [u8; 6])> {
    let hops = maps.hop.iter().skip(SERVER_HOPS as usize);
    hops.filter(|hop| hop.flags.get() & Hop::RESOLVED != 0)
        .map(|hop| {
            let [a, b, c, d] = hop.macs[0].get().to_ne_bytes();
            let [e, f, ..] = hop.macs[1].get().to_ne_bytes();
            (hop.ifindex.get(), [a, b, c, d, e, f])
        })
        .collect()
}

/// What a slot should hold.
#[derive(Default)]
struct Wanted {
    macs: [u32; 3],
    ifindex: u32,
    gateway: u32,
    source: u32,
    mtu: u32,
    flags: u32,
}

impl Wanted {
    fn of(maps: &Maps, hop: &NextHop) -> Self {
        let xdp = |ifindex: u32| match maps.port.get(ifindex as usize) {
            Some(port) if port.mac_tail_flags.get() & Port::XDP != 0 => Hop::XDP,
            _ => 0,
        };
        match *hop {
            NextHop::Resolved {
                ifindex,
                mtu,
                neighbour: d,
                source: s,
                gateway,
                own_address,
            } => Self {
                macs: [
                    u32::from_ne_bytes([d[0], d[1], d[2], d[3]]),
                    u32::from_ne_bytes([d[4], d[5], s[0], s[1]]),
                    u32::from_ne_bytes([s[2], s[3], s[4], s[5]]),
                ],
                ifindex,
                gateway: wire(gateway),
                source: wire(own_address),
                mtu: mtu.into(),
                flags: Hop::ROUTED | Hop::RESOLVED | xdp(ifindex),
            },
            NextHop::Unresolved {
                ifindex,
                mtu,
                gateway,
                own_address,
            } => Self {
                ifindex,
                gateway: wire(gateway),
                source: wire(own_address),
                mtu: mtu.into(),
                flags: Hop::ROUTED,
                ..Self::default()
            },
            // Nothing is too long for these two.
            NextHop::Local => Self {
                mtu: u32::MAX >> 1,
                flags: Hop::LOCAL,
                ..Self::default()
            },
            NextHop::Unreachable => Self {
                mtu: u32::MAX >> 1,
                flags: Hop::UNREACHABLE,
                ..Self::default()
            },
        }
    }

    fn is_in(&self, slot: &Hop) -> bool {
        let macs = [slot.macs[0].get(), slot.macs[1].get(), slot.macs[2].get()];
        macs == self.macs
            && slot.ifindex.get() == self.ifindex
            && slot.gateway.get() == self.gateway
            && slot.source.get() == self.source
            && slot.mtu.get() == self.mtu
            && slot.flags.get() == self.flags
    }

    fn write(&self, slot: &Hop) {
        for (cell, mac) in slot.macs.iter().zip(self.macs) {
            cell.set(mac);
        }
        slot.ifindex.set(self.ifindex);
        slot.gateway.set(self.gateway);
        slot.source.set(self.source);
        slot.mtu.set(self.mtu);
        // What routers said was about another way.
        slot.path_mtu.set(0);
        slot.flags.set(self.flags);
    }
}
