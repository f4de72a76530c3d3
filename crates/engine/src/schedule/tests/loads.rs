//! lc, wlc, sed, nq, fo and ovf: who is best.

use super::*;

#[test]
fn lc_takes_the_fewest_connections_and_the_first_among_equals() {
    let cluster = Cluster::new(Scheduler::Lc, &[1, 9, 1]);
    assert_eq!(cluster.connects(7), "CBACBAC");
    // One active connection is worth more than 200 others, and less than 300.
    let cluster = Cluster::new(Scheduler::Lc, &[1, 1]);
    cluster.load(0, 0, 200);
    cluster.load(1, 1, 1);
    assert_eq!(cluster.picks(1), "A");
    cluster.load(0, 0, 300);
    assert_eq!(cluster.picks(1), "B");
}

#[test]
fn wlc_shares_by_weight() {
    let cluster = Cluster::new(Scheduler::Wlc, &[1, 2, 3]);
    assert_eq!(cluster.connects(12), "CBACBCCBACBC");
}

#[test]
fn sed_counts_the_connection_to_come_and_no_inactive_ones() {
    let cluster = Cluster::new(Scheduler::Sed, &[1, 2, 3]);
    assert_eq!(cluster.connects(6), "CBCCBA");
    let cluster = Cluster::new(Scheduler::Sed, &[1, 1]);
    cluster.load(1, 0, 100_000);
    assert_eq!(cluster.picks(1), "B");
}

#[test]
fn nq_takes_the_first_idle_server_whatever_its_weight() {
    let cluster = Cluster::new(Scheduler::Nq, &[1, 2, 3]);
    assert_eq!(cluster.connects(6), "CBACCB");
    let cluster = Cluster::new(Scheduler::Nq, &[1, 100]);
    cluster.load(1, 1, 1);
    assert_eq!(cluster.picks(1), "A");
}

#[test]
fn fo_keeps_to_the_highest_weight() {
    let cluster = Cluster::new(Scheduler::Fo, &[1, 3, 3, 2]);
    assert_eq!(cluster.connects(3), "CCC");
    cluster.overload(2, true);
    assert_eq!(cluster.connects(2), "BB");
    cluster.weigh(1, 0);
    assert_eq!(cluster.connects(2), "DD");
}

#[test]
fn ovf_goes_on_when_there_are_more_connections_than_weight() {
    let cluster = Cluster::new(Scheduler::Ovf, &[1, 2]);
    assert_eq!(cluster.connects(7), "BBBAA--");
}

#[test]
fn nothing_usable_is_no_server() {
    use Scheduler::{Fo, Lc, Nq, Ovf, Sed, Wlc};
    for scheduler in [Lc, Wlc, Sed, Nq, Fo, Ovf] {
        assert_eq!(Cluster::new(scheduler, &[]).picks(1), "-");
        assert_eq!(Cluster::new(scheduler, &[0, 0]).picks(1), "-");
        let cluster = Cluster::new(scheduler, &[1]);
        cluster.overload(0, true);
        assert_eq!(cluster.picks(1), "-");
        cluster.overload(0, false);
        assert_eq!(cluster.picks(1), "A");
    }
}
