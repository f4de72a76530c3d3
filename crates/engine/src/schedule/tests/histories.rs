//! Random histories against the plain model.

use proptest::prelude::*;

use super::{
    model::{Fellow, Model},
    *,
};

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u32),
    Weigh(u8, u32),
    Remove(u8),
    Load(u8, u32, u32),
    Overload(u8, bool),
    Pick(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let weight = prop_oneof![Just(0u32), Just(1), 1u32..7, Just(10), Just(100)];
    let count = prop_oneof![Just(0u32), 0u32..20, Just(1000)];
    let step = prop_oneof![
        2 => (0u8..6, weight.clone()).prop_map(|(n, w)| Step::Add(n, w)),
        1 => (0u8..6, weight).prop_map(|(n, w)| Step::Weigh(n, w)),
        1 => (0u8..6).prop_map(Step::Remove),
        2 => (0u8..6, count.clone(), count).prop_map(|(n, a, i)| Step::Load(n, a, a + i)),
        1 => (0u8..6, any::<bool>()).prop_map(|(n, o)| Step::Overload(n, o)),
        3 => (1usize..9).prop_map(Step::Pick),
    ];
    proptest::collection::vec(step, 1..40)
}

const MODELLED: [Scheduler; 8] = [
    Scheduler::Rr,
    Scheduler::Wrr,
    Scheduler::Lc,
    Scheduler::Wlc,
    Scheduler::Sed,
    Scheduler::Nq,
    Scheduler::Fo,
    Scheduler::Ovf,
];

proptest! {
    #[test]
    fn any_history_gives_the_sequence_of_the_reference(
        steps in steps(),
        scheduler in proptest::sample::select(&MODELLED[..]),
    ) {
        let mut cluster = Cluster::new(scheduler, &[]);
        let mut model = Model::new(scheduler);
        for step in steps {
            match step {
                Step::Add(number, weight) if model.position(number).is_none() => {
                    cluster.add(number, weight);
                    // One that comes back has its counts.
                    let counts = cluster.tables.counts(cluster.at(number)).unwrap();
                    let upper = cluster.server(number).upper.get();
                    model.list.insert(0, Fellow {
                        number,
                        weight,
                        active: counts.active.get(),
                        total: counts.total.get(),
                        overloaded: upper != 0 && counts.overloaded.get() != 0,
                    });
                    model.after_change();
                }
                Step::Add(..) => {}
                Step::Pick(count) => {
                    for _ in 0..count {
                        prop_assert_eq!(cluster.pick(), model.pick());
                    }
                }
                Step::Weigh(number, _)
                | Step::Remove(number)
                | Step::Load(number, ..)
                | Step::Overload(number, _) => {
                    let Some(at) = model.position(number) else {
                        continue;
                    };
                    match step {
                        Step::Weigh(_, weight) => {
                            model.list[at].weight = weight;
                            model.after_change();
                            cluster.weigh(number, weight);
                        }
                        Step::Load(_, active, total) => {
                            (model.list[at].active, model.list[at].total) = (active, total);
                            cluster.load(number, active, total);
                        }
                        Step::Overload(_, overloaded) => {
                            model.list[at].overloaded = overloaded;
                            cluster.overload(number, overloaded);
                        }
                        _ => {
                            model.remove(number);
                            cluster.tables.remove_server(cluster.at(number)).unwrap();
                        }
                    }
                }
            }
        }
    }

    /// A ring after any history is the one that a service set up at once has, whose servers are in the same order
    /// and remember the same weights; and whoever is picked owns a slot and is usable.
    #[test]
    fn any_history_gives_the_ring_of_its_end(
        steps in steps(),
        scheduler in proptest::sample::select(&[Scheduler::Dh, Scheduler::Sh, Scheduler::Mh][..]),
    ) {
        let mut cluster = Cluster::new(scheduler, &[]);
        let mut list: Vec<(u8, u32, u32)> = Vec::new();
        for step in steps {
            match step {
                Step::Add(number, weight) if list.iter().all(|s| s.0 != number) => {
                    list.insert(0, (number, weight, weight));
                    cluster.add(number, weight);
                }
                Step::Weigh(number, weight) => {
                    if let Some(server) = list.iter_mut().find(|s| s.0 == number) {
                        server.1 = weight;
                        if weight > 0 {
                            server.2 = weight;
                        }
                        cluster.weigh(number, weight);
                    }
                }
                Step::Remove(number) if list.iter().any(|s| s.0 == number) => {
                    list.retain(|s| s.0 != number);
                    cluster.tables.remove_server(cluster.at(number)).unwrap();
                }
                _ => {}
            }
        }
        let mut anew = Cluster::new(scheduler, &[]);
        for (number, weight, last) in list.iter().rev() {
            anew.add(*number, *last);
            anew.weigh(*number, *weight);
        }
        prop_assert_eq!(cluster.ring(), anew.ring());
        for last in 0..32 {
            let there = Ipv4Addr::new(10, 1, 1, last);
            let picked = cluster.pick_for(client(10, 0, 0, last, 0), there);
            prop_assert_eq!(picked, anew.pick_for(client(10, 0, 0, last, 0), there));
            if let Some(picked) = picked {
                prop_assert!(list.iter().any(|s| s.0 == picked && s.1 > 0));
            }
        }
    }
}
