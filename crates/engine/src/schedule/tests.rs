//! Round robin and weighted round robin: known sequences, and random histories against a plain model.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;

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
            services: 1,
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

    fn at(&self, number: u8) -> u32 {
        self.tables
            .server_at(self.service, Self::end(number))
            .unwrap()
    }

    fn pick(&self) -> Option<u8> {
        let at = pick(&self.tables, self.service);
        let server = self.tables.server(at)?;
        Some(server.address.get().to_ne_bytes()[3])
    }

    fn picks(&self, count: usize) -> String {
        let letter = |picked: Option<u8>| picked.map_or('-', |number| (b'A' + number) as char);
        (0..count).map(|_| letter(self.pick())).collect()
    }
}

#[test]
fn rr_begins_with_the_newest_and_goes_around() {
    assert_eq!(Cluster::new(Scheduler::Rr, &[1, 1, 1]).picks(7), "CBACBAC");
}

#[test]
fn rr_looks_at_weights_only_for_zero() {
    assert_eq!(Cluster::new(Scheduler::Rr, &[5, 0, 1]).picks(5), "CACAC");
    assert_eq!(Cluster::new(Scheduler::Rr, &[0, 0]).picks(2), "--");
    assert_eq!(Cluster::new(Scheduler::Rr, &[]).picks(1), "-");
}

#[test]
fn rr_goes_on_after_the_predecessor_when_the_last_picked_server_leaves() {
    let cluster = Cluster::new(Scheduler::Rr, &[1, 1, 1, 1]);
    assert_eq!(cluster.picks(2), "DC");
    cluster.tables.remove_server(cluster.at(2)).unwrap();
    assert_eq!(cluster.picks(4), "BADB");
    let cluster = Cluster::new(Scheduler::Rr, &[1, 1, 1]);
    assert_eq!(cluster.picks(1), "C");
    cluster.tables.remove_server(cluster.at(2)).unwrap();
    assert_eq!(cluster.picks(3), "BAB");
}

#[test]
fn wrr_gives_the_known_sequences() {
    let rows: [(&[u32], &str); 6] = [
        (&[4, 3, 2], "CBAABACBACBAABACBA"),
        (&[1, 1, 1], "CBACBACBA"),
        (&[2, 4], "BABBABBAB"),
        (&[3, 1], "BAAABAAABAAA"),
        (&[100, 50], "BAABAABAA"),
        (&[0, 0], "--"),
    ];
    for (weights, sequence) in rows {
        let cluster = Cluster::new(Scheduler::Wrr, weights);
        assert_eq!(cluster.picks(sequence.len()), sequence, "{weights:?}");
    }
}

#[test]
fn the_longest_list_is_walked_to_its_end() {
    for scheduler in Scheduler::ALL {
        let mut cluster = Cluster::new(*scheduler, &[]);
        // Only the oldest, last in the list, has weight.
        for number in 0..SERVERS_PER_SERVICE {
            let [.., c, d] = number.to_be_bytes();
            let end = SocketAddrV4::new(Ipv4Addr::new(192, 168, c, d), 80);
            let weight = if number == 0 { 3 } else { 0 };
            let tables = &mut cluster.tables;
            tables.add_server(cluster.service, end, weight).unwrap();
        }
        assert_eq!(cluster.picks(6), "AAAAAA", "{scheduler:?}");
    }
}

#[test]
fn a_scheduler_stands_on_no_server_whose_slot_is_given_away() {
    let cluster = Cluster::new(Scheduler::Rr, &[1, 1, 1]);
    let leaving = cluster.at(1);
    cluster.tables.remove_server(leaving).unwrap();
    // Another processor picked it while it was taken out.
    let state = cluster.tables.scheduler_state(cluster.service).unwrap();
    state.0.set(pack(leaving, 0));
    list::forget(&cluster.tables, leaving).unwrap();
    assert_eq!(cluster.picks(2), "CA");
}

/// Round robin and weighted round robin as the reference tells them (§1, §1.1), over a list in a vector.
struct Model {
    scheduler: Scheduler,
    /// Newest first: number and weight.
    list: Vec<(u8, u32)>,
    /// Number of the server last picked; none: before the head.
    last: Option<u8>,
    current: i64,
}

impl Model {
    fn new(scheduler: Scheduler) -> Self {
        Self {
            scheduler,
            list: Vec::new(),
            last: None,
            current: 0,
        }
    }

    fn gcd(&self) -> i64 {
        let weights = self.list.iter().map(|s| s.1).filter(|w| *w > 0);
        let divides = |d: u32| weights.clone().all(|w| w.is_multiple_of(d));
        weights
            .clone()
            .min()
            .and_then(|least| (1..=least).rev().find(|d| divides(*d)))
            .unwrap_or(1) as i64
    }

    fn mark(&self) -> i64 {
        let greatest = self.list.iter().map(|s| s.1).max().unwrap_or(0) as i64;
        greatest - (self.gcd() - 1)
    }

    fn after_change(&mut self) {
        if self.scheduler == Scheduler::Wrr {
            self.last = None;
            let (gcd, mark) = (self.gcd(), self.mark());
            if self.current > mark || self.current == 0 {
                self.current = mark;
            } else if gcd > 1 {
                self.current = self.current / gcd * gcd + 1;
            }
        }
    }

    fn position(&self, number: u8) -> Option<usize> {
        self.list.iter().position(|s| s.0 == number)
    }

    fn remove(&mut self, number: u8) {
        let at = self.position(number).unwrap();
        if self.last == Some(number) {
            self.last = at.checked_sub(1).map(|before| self.list[before].0);
        }
        self.list.remove(at);
        self.after_change();
    }

    fn pick(&mut self) -> Option<u8> {
        let start = self.last.map_or(0, |last| self.position(last).unwrap() + 1);
        if self.scheduler == Scheduler::Rr {
            let n = self.list.len();
            let around = (0..n).map(|step| self.list[(start + step) % n]);
            self.last = around.into_iter().find(|s| s.1 > 0).map(|s| s.0);
            // Nothing usable: it stays where it was, but then there is nothing to compare.
            return self.last;
        }
        if self.list.iter().all(|s| s.1 == 0) {
            return None;
        }
        let mut at = start;
        loop {
            if at == self.list.len() {
                self.current -= self.gcd();
                if self.current <= 0 {
                    self.current = self.mark();
                }
                at = 0;
            }
            let (number, weight) = self.list[at];
            if weight > 0 && weight as i64 >= self.current {
                self.last = Some(number);
                return self.last;
            }
            at += 1;
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u32),
    Weigh(u8, u32),
    Remove(u8),
    Pick(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let weight = prop_oneof![Just(0u32), Just(1), 1u32..7, Just(10), Just(100)];
    let step = prop_oneof![
        (0u8..6, weight.clone()).prop_map(|(n, w)| Step::Add(n, w)),
        (0u8..6, weight).prop_map(|(n, w)| Step::Weigh(n, w)),
        (0u8..6).prop_map(Step::Remove),
        (1usize..9).prop_map(Step::Pick),
        (1usize..9).prop_map(Step::Pick),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn any_history_gives_the_sequence_of_the_reference(steps in steps(), wrr: bool) {
        let scheduler = if wrr { Scheduler::Wrr } else { Scheduler::Rr };
        let mut cluster = Cluster::new(scheduler, &[]);
        let mut model = Model::new(scheduler);
        for step in steps {
            match step {
                Step::Add(number, weight) if model.position(number).is_none() => {
                    model.list.insert(0, (number, weight));
                    model.after_change();
                    cluster.add(number, weight);
                }
                Step::Weigh(number, weight) => if let Some(at) = model.position(number) {
                    model.list[at].1 = weight;
                    model.after_change();
                    cluster.tables.set_weight(cluster.at(number), weight).unwrap();
                },
                Step::Remove(number) if model.position(number).is_some() => {
                    model.remove(number);
                    cluster.tables.remove_server(cluster.at(number)).unwrap();
                }
                Step::Pick(count) if model.list.iter().any(|s| s.1 > 0) => {
                    for _ in 0..count {
                        prop_assert_eq!(cluster.pick(), model.pick());
                    }
                }
                Step::Pick(_) => prop_assert_eq!(cluster.pick(), None),
                Step::Add(..) | Step::Remove(_) => {}
            }
        }
    }
}
