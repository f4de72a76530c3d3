//! lblc and lblcr: what is remembered of destinations.

use super::*;

impl Cluster {
    fn to(&self, destination: u8) -> char {
        let there = Ipv4Addr::new(10, 0, 0, destination);
        letter(self.pick_for(client(10, 9, 9, 9, 9), there))
    }
}

const BOTH: [Scheduler; 2] = [Scheduler::Lblc, Scheduler::Lblcr];

#[test]
fn a_destination_stays_with_its_server() {
    for scheduler in BOTH {
        let cluster = Cluster::new(scheduler, &[10, 10, 10]);
        assert_eq!(cluster.to(1), 'C');
        cluster.load(2, 1, 1);
        assert_eq!(cluster.to(2), 'B');
        cluster.load(1, 1, 1);
        assert_eq!(
            [cluster.to(1), cluster.to(2), cluster.to(3)],
            ['C', 'B', 'A']
        );
    }
}

#[test]
fn too_much_to_do_is_more_than_its_weight_while_another_has_less_than_half() {
    for scheduler in BOTH {
        let cluster = Cluster::new(scheduler, &[10, 10]);
        assert_eq!(cluster.to(1), 'B');
        cluster.load(1, 10, 10);
        assert_eq!(cluster.to(1), 'B');
        cluster.load(1, 11, 11);
        cluster.load(0, 5, 5);
        assert_eq!(cluster.to(1), 'B');
        cluster.load(0, 4, 4);
        assert_eq!(cluster.to(1), 'A');
    }
}

#[test]
fn lblc_replaces_and_lblcr_adds() {
    for (scheduler, then) in BOTH.into_iter().zip(['A', 'B']) {
        let cluster = Cluster::new(scheduler, &[10, 10]);
        assert_eq!(cluster.to(1), 'B');
        cluster.load(1, 11, 11);
        assert_eq!(cluster.to(1), 'A');
        // Now B is idle. lblc stays with A; lblcr takes the less loaded of the two.
        cluster.load(0, 3, 3);
        cluster.load(1, 0, 0);
        assert_eq!(cluster.to(1), then);
    }
}

#[test]
fn lblc_alone_stays_with_an_overloaded_server() {
    for (scheduler, then) in BOTH.into_iter().zip(['B', 'A']) {
        let cluster = Cluster::new(scheduler, &[10, 10]);
        assert_eq!(cluster.to(1), 'B');
        cluster.overload(1, true);
        assert_eq!(cluster.to(1), then);
    }
}

#[test]
fn quiesced_and_removed_servers_are_left() {
    for scheduler in BOTH {
        let cluster = Cluster::new(scheduler, &[1, 1, 1]);
        assert_eq!(cluster.to(1), 'C');
        cluster.weigh(2, 0);
        assert_eq!(cluster.to(1), 'B');
        let at = cluster.at(1);
        cluster.tables.remove_server(at).unwrap();
        assert_eq!(cluster.to(1), 'A');
        cluster.weigh(0, 0);
        assert_eq!(cluster.to(1), '-');
    }
}

#[test]
fn what_is_not_used_for_long_is_forgotten() {
    for scheduler in BOTH {
        let cluster = Cluster::new(scheduler, &[10, 10]);
        for expiration in [
            &cluster.tables.settings().lblc_expiration,
            &cluster.tables.settings().lblcr_expiration,
        ] {
            expiration.set(60);
        }
        assert_eq!(cluster.to(1), 'B');
        cluster.load(1, 1, 1);
        for _ in 0..3 {
            cluster.tables.advance_ms(59_000);
            assert_eq!(cluster.to(1), 'B');
        }
        cluster.tables.advance_ms(61_000);
        assert_eq!(cluster.to(1), 'A');
    }
}

#[test]
fn lblcr_lets_go_of_the_busiest_when_nothing_changed_for_long() {
    let cluster = Cluster::new(Scheduler::Lblcr, &[10, 10]);
    cluster.tables.settings().lblcr_expiration.set(60);
    assert_eq!(cluster.to(1), 'B');
    cluster.load(1, 11, 11);
    assert_eq!(cluster.to(1), 'A');
    cluster.load(0, 5, 5);
    for _ in 0..3 {
        cluster.tables.advance_ms(30_000);
        assert_eq!(cluster.to(1), 'A');
    }
    // B is gone from the set: it is not chosen although it is idle.
    cluster.load(1, 0, 0);
    assert_eq!(cluster.to(1), 'A');
}

#[test]
fn a_scheduler_set_anew_remembers_nothing() {
    for scheduler in BOTH {
        let cluster = Cluster::new(scheduler, &[10, 10]);
        assert_eq!(cluster.to(1), 'B');
        cluster.load(1, 1, 1);
        cluster.tables.advance_ms(100);
        cluster
            .tables
            .set_scheduler(cluster.service, scheduler)
            .unwrap();
        assert_eq!(cluster.to(1), 'A');
    }
}

#[test]
fn a_set_holds_the_latest_two_dozen() {
    let mut cluster = Cluster::new(Scheduler::Lblcr, &[]);
    for number in 0..30 {
        cluster.add(number, 10);
    }
    // Each in turn has too much to do.
    for number in (0..30).rev() {
        assert_eq!(cluster.to(1), letter(Some(number)));
        cluster.load(number, 11, 11);
    }
    // 29 to 24 have fallen out: that they are idle goes unnoticed, while 23 is idle.
    for number in 23..30 {
        cluster.load(number, number as u32 - 23, 0);
    }
    assert_eq!(cluster.to(1), letter(Some(23)));
    cluster.load(23, 9, 9);
    assert_eq!(cluster.to(1), letter(Some(23)));
}
