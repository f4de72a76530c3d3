//! The schedulers over host tables.

mod histories;
mod loads;
mod locality;
mod lots;
mod model;
mod ramps;
mod rings;
mod turns;

use std::net::{Ipv4Addr, SocketAddrV4};

use super::*;
use crate::{
    host::{HostTables, Sizes},
    list,
    packet::TCP,
    tables::pack,
};

/// A service on host tables, its servers known by letters.
struct Cluster {
    tables: HostTables,
    service: u32,
}

impl Cluster {
    fn new(scheduler: Scheduler, weights: &[u32]) -> Self {
        let mut tables = HostTables::new(Sizes {
            buckets: 1,
            services: 2,
            servers: SERVERS_PER_SERVICE + 8,
            server_hops: 1,
            ring_slots: 1 << 18,
        });
        let end = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80);
        let service = tables.add_service(end, TCP, scheduler).unwrap();
        let mut cluster = Self { tables, service };
        for (number, weight) in weights.iter().enumerate() {
            cluster.add(number as u8, *weight);
        }
        cluster
    }

    fn end(number: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, number), 80)
    }

    fn add(&mut self, number: u8, weight: u32) -> u32 {
        self.tables
            .add_server(self.service, Self::end(number), weight)
            .unwrap()
    }

    fn weigh(&self, number: u8, weight: u32) {
        let now = ticks(self.tables.now(), self.tables.settings()) / 125;
        list::set_weight(&self.tables, self.at(number), weight, now).unwrap();
    }

    fn at(&self, number: u8) -> u32 {
        self.tables
            .server_at(self.service, Self::end(number))
            .unwrap()
    }

    fn server(&self, number: u8) -> &Server {
        Tables::server(&self.tables, self.at(number)).unwrap()
    }

    fn record(&self) -> &Service {
        Tables::service(&self.tables, self.service).unwrap()
    }

    fn set_flags(&self, flags: u32) {
        self.record().flags.set(Service::USED | flags);
    }

    /// Give a server connections: active ones, and all of them.
    fn load(&self, number: u8, active: u32, total: u32) {
        let counts = self.tables.counts(self.at(number)).unwrap();
        counts.active.set(active);
        counts.total.set(total);
    }

    fn overload(&self, number: u8, overloaded: bool) {
        self.server(number).upper.set(1);
        let counts = self.tables.counts(self.at(number)).unwrap();
        counts.overloaded.set(u32::from(overloaded));
    }

    fn number(&self, at: u32) -> Option<u8> {
        let server = Tables::server(&self.tables, at)?;
        Some(server.address.get().to_ne_bytes()[3])
    }

    /// The server for a connection from a client to a destination.
    fn pick_for(&self, client: Origin, destination: Ipv4Addr) -> Option<u8> {
        let high = u32::from_ne_bytes(destination.octets()) as u64;
        self.number(pick(&self.tables, self.service, client, high, 0))
    }

    fn pick(&self) -> Option<u8> {
        self.pick_for(Origin::new(0, 0), Ipv4Addr::UNSPECIFIED)
    }

    fn picks(&self, count: usize) -> String {
        (0..count).map(|_| letter(self.pick())).collect()
    }

    /// As [`picks`](Self::picks), and each makes an active connection.
    fn connects(&self, count: usize) -> String {
        let connect = |_| {
            let picked = self.pick();
            if let Some(number) = picked {
                let counts = self.tables.counts(self.at(number)).unwrap();
                counts.active.add(1);
                counts.total.add(1);
            }
            letter(picked)
        };
        (0..count).map(connect).collect()
    }

    /// Owners of the ring's slots.
    fn ring(&self) -> Vec<Option<u8>> {
        let ring = self.record().ring.get();
        let slot = |at: u32| {
            let word = Tables::ring(&self.tables, at / 4).unwrap().get();
            self.number((word >> (16 * (at % 4))) as u16 as u32)
        };
        (ring as u32..)
            .take((ring >> 32) as usize)
            .map(slot)
            .collect()
    }

    /// How many slots each of the first servers has.
    fn shares<const N: usize>(&self) -> [usize; N] {
        let ring = self.ring();
        core::array::from_fn(|n| ring.iter().filter(|owner| **owner == Some(n as u8)).count())
    }
}

use crate::tables::ticks;

fn letter(picked: Option<u8>) -> char {
    picked.map_or('-', |number| (b'A' + number) as char)
}

fn client(a: u8, b: u8, c: u8, d: u8, port: u16) -> Origin {
    Origin::new(Ipv4Addr::new(a, b, c, d).to_bits(), port)
}

#[test]
fn names_and_numbers_name_one_scheduler_each() {
    for (at, scheduler) in Scheduler::ALL.iter().enumerate() {
        assert_eq!(Scheduler::from_name(scheduler.name()), Some(*scheduler));
        assert_eq!(Scheduler::from_number(*scheduler as u32), Some(*scheduler));
        assert!(!Scheduler::ALL[..at].contains(scheduler));
    }
    assert_eq!(Scheduler::ALL.len(), 16);
    assert_eq!(Scheduler::from_name("ip_vs_rr"), None);
    assert_eq!(Scheduler::from_number(0), None);
}

#[test]
fn none_schedules_nothing() {
    assert_eq!(Cluster::new(Scheduler::None, &[1, 1]).picks(2), "--");
}

#[test]
fn addresses_fold_to_numbers() {
    let bytes: [u8; 16] = core::array::from_fn(|n| n as u8);
    let half = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let words = [0x0001_0203u32, 0x0405_0607, 0x0809_0a0b, 0x0c0d_0e0f];
    let folded = words.into_iter().reduce(|a, b| a ^ b).unwrap();
    assert_eq!(fold(half(0), half(8)), folded);
    let v4 = u32::from_ne_bytes([10, 0, 0, 1]);
    assert_eq!(fold(v4 as u64, 0), 0x0a00_0001);
    assert_eq!(
        Origin::v4(v4, 40000u16.to_be()),
        Origin::new(0x0a00_0001, 40000)
    );
}

#[test]
fn the_longest_list_is_walked_to_its_end() {
    for scheduler in Scheduler::ALL {
        if matches!(scheduler, Scheduler::None | Scheduler::Dh) {
            continue;
        }
        let mut cluster = Cluster::new(*scheduler, &[]);
        // Only the oldest, last in the list, has weight.
        let end = |number: u32| {
            let [.., c, d] = number.to_be_bytes();
            SocketAddrV4::new(Ipv4Addr::new(192, 168, c, d), 80)
        };
        let first = scheduler.ring_slots().min(1) * (SERVERS_PER_SERVICE - 200);
        for number in first..SERVERS_PER_SERVICE {
            let weight = if number == first { 3 } else { 0 };
            let tables = &mut cluster.tables;
            tables
                .add_server(cluster.service, end(number), weight)
                .unwrap();
        }
        cluster.set_flags(Service::FLAG_1);
        let at = cluster.tables.server_at(cluster.service, end(first));
        for _ in 0..6 {
            let origin = Origin::new(0x0a00_0001, 0);
            let picked = pick(&cluster.tables, cluster.service, origin, 0, 0);
            assert_eq!(Some(picked), at, "{scheduler:?}");
        }
    }
}
