//! The engine on the host, set up as the kernel object is, and the comparison of the two.

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_engine::{
    connection::{Bucket, Way},
    host::{self, Frame, Hook, HostTables, NextHop, Sizes},
    pipeline::Verdict,
    reason::Reason,
    schedule::Scheduler,
    tables::{Outcome, Route, Tables as _},
};

use super::choice::Change;
use crate::{
    director::{Director, Fate, Incoming, Received, next_hop},
    network::{GATEWAY, LOST_GATEWAY, Wire, mac_of, neighbour},
    row::one_space,
};

/// Ticks by which deadlines may differ: the clocks are not read at the same moment, and deadlines move only
/// when it is worth it.
const TOLERANCE: u32 = 40;

pub(crate) struct Twin {
    tables: HostTables,
    hook: Hook,
}

impl Twin {
    /// One that is as a new director is. Nothing ends by itself from now on.
    pub(crate) fn of(kernel: &Director) -> Self {
        let memory = kernel.datapath.memory();
        let mut tables = HostTables::new(Sizes {
            buckets: memory.connections.len() as u32,
            ..Sizes::SMALL
        });
        let (theirs, ours) = (memory.config, tables.settings());
        theirs.sweep_interval_ns.set(u64::MAX / 4);
        theirs.errors_per_second.set(u32::MAX);
        ours.errors_per_second.set(u32::MAX);
        ours.seed.set(theirs.seed.get());
        ours.bucket_mask.set(theirs.bucket_mask.get());
        ours.tick_shift.set(theirs.tick_shift.get());
        ours.ticks_per_second.set(theirs.ticks_per_second.get());
        ours.route_generation.set(theirs.route_generation.get());
        for (ours, theirs) in ours.timeouts.iter().zip(&theirs.timeouts) {
            ours.set(theirs.get());
        }
        for wire in Wire::ALL {
            tables.set_port(wire.ifindex(), wire.mac(), kernel.hook != Hook::Tc);
        }
        let wires = Wire::ALL.map(|wire| (wire, wire.ifindex()));
        tables.set_route_function(move |_, destination, _| {
            let ifindex = |wire| wires.iter().find(|(w, _)| *w == wire).unwrap().1;
            route(destination, ifindex)
        });
        Self {
            tables,
            hook: kernel.hook,
        }
    }

    pub(crate) fn set_clock(&self, jiffies: u64) {
        self.tables.set_jiffies(jiffies);
    }

    /// Carry out a change; false when it cannot be.
    pub(crate) fn change(&mut self, change: &Change) -> bool {
        let tables = &mut self.tables;
        let done = match *change {
            Change::AddService(key, scheduler) => {
                let added = tables.add_service(key.end, key.protocol(), scheduler);
                added.map(|_| ())
            }
            Change::EditService(key, scheduler) => tables
                .service_at(key.end, key.protocol())
                .and_then(|at| match is_other(tables, at, scheduler) {
                    true => tables.set_scheduler(at, scheduler),
                    false => Some(()),
                }),
            Change::AddServer(key, server, weight) => {
                let at = tables.service_at(key.end, key.protocol());
                at.and_then(|at| tables.add_server(at, server, weight).map(|_| ()))
            }
            // What is as it was is not planned.
            Change::EditServer(key, server, weight) => {
                find(tables, key, server).and_then(|at| match has_weight(tables, at, weight) {
                    true => Some(()),
                    false => tables.set_weight(at, weight),
                })
            }
            Change::RemoveServer(key, server) => {
                find(tables, key, server).and_then(|at| tables.remove_server(at))
            }
        };
        if let (Some(()), Change::AddServer(_, server, _)) = (done, change) {
            tell_next_hop(tables, *server.ip(), self.hook);
        }
        done.is_some()
    }

    pub(crate) fn receive(&self, incoming: &Incoming) -> Received {
        let frame = Frame::new(incoming.wire.ifindex(), incoming.frame.clone());
        let outcome = host::run_frame(self.hook, &self.tables, frame);
        let bytes = outcome.bytes;
        let fate = match outcome.verdict {
            Verdict::Pass(_) => {
                assert_eq!(bytes, incoming.frame);
                Fate::Passed
            }
            Verdict::Stack(_) => Fate::Stack(bytes),
            Verdict::Drop(_) => Fate::Dropped,
            Verdict::Redirect(_) => Fate::Sent(bytes),
            Verdict::Neighbour(..) => Fate::ToNeighbour(bytes),
            stage => unreachable!("{stage:?} has a next stage"),
        };
        Received {
            fate,
            at_xdp: outcome.at_xdp,
        }
    }

    /// Compare connections, their counts, schedulers and reasons.
    pub(crate) fn compare(&self, kernel: &Director, place: &str) {
        assert_eq!(kernel.reasons(), self.reasons(), "{place}");
        let memory = kernel.datapath.memory();
        for (index, (ours, theirs)) in self
            .tables
            .buckets()
            .iter()
            .zip(memory.connections)
            .enumerate()
        {
            let same = ours.tags.get() == theirs.tags.get()
                && ours.spilled.get() == theirs.spilled.get()
                && used(ours).zip(used(theirs)).all(|(o, t)| is_same(o, t));
            assert!(
                same,
                "{place}: bucket {index}\n  host: {ours:x?}\nkernel: {theirs:x?}"
            );
        }
        for (index, server) in memory.servers.iter().enumerate().take(64) {
            let (ours, theirs) = (
                self.tables.counts(index as u32).unwrap(),
                &memory.counts[index],
            );
            let ours = (ours.active.get(), ours.total.get());
            let theirs = (theirs.active.get(), theirs.total.get());
            assert_eq!(
                theirs, ours,
                "{place}: connections of server {index} {server:x?}"
            );
        }
        for (index, theirs) in memory.schedulers.iter().enumerate().take(16) {
            if self.is_service(index as u32) {
                let ours = self.tables.scheduler_state(index as u32).unwrap();
                assert_eq!(theirs.0.get(), ours.0.get(), "{place}: scheduler {index}");
            }
        }
    }

    fn is_service(&self, index: u32) -> bool {
        let service = self.tables.service(index);
        service.is_some_and(|service| service.flags.get() != 0)
    }

    fn reasons(&self) -> Vec<(Reason, u64)> {
        self.tables.reasons()
    }

    /// Compare packets and bytes of every server.
    pub(crate) fn compare_counters(&self, kernel: &mut Director, place: &str) {
        let text = kernel.command("ipvsadm -Ln --stats --exact");
        let servers = text.lines().map(one_space);
        let servers: Vec<String> = servers.filter(|l| l.starts_with("-> 192")).collect();
        let mut ours = Vec::new();
        for index in (0..16).filter(|&at| self.is_service(at)) {
            for at in self.tables.servers_of(index) {
                let server = self.tables.server(at).unwrap();
                let end = SocketAddrV4::new(
                    Ipv4Addr::from(server.address.get().to_ne_bytes()),
                    u16::from_be(server.port.get()),
                );
                let counters = self.tables.counters(at).unwrap();
                ours.push(format!(
                    "-> {end} {} {} {} {} {}",
                    counters.connections.get(),
                    counters.in_packets.get(),
                    counters.out_packets.get(),
                    counters.in_bytes.get(),
                    counters.out_bytes.get()
                ));
            }
        }
        let (mut theirs, mut ours) = (servers, ours);
        theirs.sort();
        ours.sort();
        assert_eq!(theirs, ours, "{place}");
    }
}

/// Entries that are in use, by the tags.
fn used(bucket: &Bucket) -> impl Iterator<Item = &Way> {
    let tags = bucket.tags.get();
    let is_used = move |lane: usize| tags >> (16 * lane) & 0xffff > 1;
    let ways = bucket.ways.iter().enumerate();
    ways.filter(move |(lane, _)| is_used(*lane))
        .map(|(_, way)| way)
}

fn is_same(ours: &Way, theirs: &Way) -> bool {
    let late = ours
        .expires
        .get()
        .wrapping_sub(theirs.expires.get())
        .wrapping_add(TOLERANCE);
    ours.client.get() == theirs.client.get()
        && ours.virtual_address.get() == theirs.virtual_address.get()
        && ours.ports.get() == theirs.ports.get()
        && ours.server.get() == theirs.server.get()
        && ours.word.get() == theirs.word.get()
        // The upper half follows the clock.
        && ours.hop.get() & 0xffff == theirs.hop.get() & 0xffff
        && late <= 2 * TOLERANCE
}

fn is_other(tables: &HostTables, service: u32, scheduler: Scheduler) -> bool {
    let service = tables.service(service);
    service.is_some_and(|service| service.scheduler.get() != scheduler as u32)
}

fn has_weight(tables: &HostTables, server: u32, weight: u32) -> bool {
    let server = tables.server(server);
    server.is_some_and(|server| server.weight.get() == weight)
}

fn find(tables: &HostTables, key: super::choice::Key, server: SocketAddrV4) -> Option<u32> {
    let service = tables.service_at(key.end, key.protocol())?;
    tables.server_at(service, server)
}

fn tell_next_hop(tables: &mut HostTables, server: Ipv4Addr, hook: Hook) {
    use furiwake_datapath::NextHop as Told;
    let takes_xdp = hook != Hook::Tc;
    let next = match next_hop(server) {
        Told::Resolved {
            ifindex,
            mtu,
            neighbour,
            source,
            gateway,
            ..
        } => NextHop {
            ifindex,
            mtu: mtu.into(),
            gateway,
            macs: Some((neighbour, source)),
            takes_xdp,
            source: Ipv4Addr::UNSPECIFIED,
        },
        Told::Unresolved {
            ifindex,
            mtu,
            gateway,
            ..
        } => NextHop {
            ifindex,
            mtu: mtu.into(),
            gateway,
            macs: None,
            takes_xdp: false,
            source: Ipv4Addr::UNSPECIFIED,
        },
        // The host's tables have no word for it.
        Told::Local | Told::Unreachable => return,
    };
    tables.set_next_hop(server, next).unwrap();
}

/// What the kernel's tables say about the way to an address, see `network.rs`.
fn route(destination: Ipv4Addr, ifindex: impl Fn(Wire) -> u32) -> Route {
    let (wire, gateway) = match destination.octets() {
        [172, 16, ..] => (Wire::Front, GATEWAY),
        [172, 17, ..] => (Wire::Front, LOST_GATEWAY),
        // Addresses of the director, and broadcasts, which it takes for itself.
        [10, 0, 0, 1..=10 | 254 | 255 | 0]
        | [192, 168, 1, 254 | 255 | 0]
        | [10, 9, 0, 254 | 255 | 0] => {
            return Route::none(Outcome::Local);
        }
        [10, 0, 0, _] => (Wire::Front, destination),
        [192, 168, 1, _] => (Wire::Back, destination),
        [10, 9, 0, _] => (Wire::Narrow, destination),
        _ => return Route::none(Outcome::Unreachable),
    };
    if neighbour(gateway).is_none() {
        return Route {
            ifindex: ifindex(wire),
            gateway: u32::from_ne_bytes(gateway.octets()),
            ..Route::none(Outcome::Unresolved)
        };
    }
    let macs = [mac_of(gateway), wire.mac()].concat();
    let word = |at: usize| u32::from_ne_bytes(macs[at..at + 4].try_into().unwrap());
    Route {
        outcome: Outcome::Resolved,
        macs: [word(0), word(4), word(8)],
        ifindex: ifindex(wire),
        mtu: wire.mtu().into(),
        gateway: 0,
    }
}
