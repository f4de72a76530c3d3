//! twos: how often who is drawn.

use super::*;

impl Cluster {
    fn drawn<const N: usize>(&self, times: usize) -> [usize; N] {
        let picks = self.picks(times);
        core::array::from_fn(|n| picks.matches(letter(Some(n as u8))).count())
    }
}

#[test]
fn idle_servers_are_drawn_by_weight() {
    let drawn: [usize; 3] = Cluster::new(Scheduler::Twos, &[1, 0, 3]).drawn(4000);
    // Costs are equal: it is the first of two draws, (w + 1) / (W + 1) for the first in the list.
    assert_eq!(drawn[1], 0);
    assert!((600..1000).contains(&drawn[0]), "{drawn:?}");
}

#[test]
fn the_less_loaded_of_two_is_taken() {
    let cluster = Cluster::new(Scheduler::Twos, &[1, 1]);
    cluster.load(1, 5, 5);
    let drawn: [usize; 2] = cluster.drawn(4000);
    // B only if both draws fall on it: (2/3)^2.
    assert!((1600..2000).contains(&drawn[1]), "{drawn:?}");
}

#[test]
fn nobody_is_drawn_where_nobody_is_usable() {
    assert_eq!(Cluster::new(Scheduler::Twos, &[]).picks(1), "-");
    assert_eq!(Cluster::new(Scheduler::Twos, &[0]).picks(1), "-");
    let cluster = Cluster::new(Scheduler::Twos, &[1, 1]);
    cluster.overload(0, true);
    assert_eq!(cluster.picks(50), "B".repeat(50));
}

#[test]
fn great_weights_are_drawn_as_well() {
    let cluster = Cluster::new(Scheduler::Twos, &[i32::MAX as u32; 3]);
    let drawn: [usize; 3] = cluster.drawn(3000);
    assert!(drawn[1] > 500 && drawn[2] > 500, "{drawn:?}");
}
