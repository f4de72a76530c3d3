//! rr and wrr: known sequences.

use super::*;

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

#[test]
fn wrr_finds_the_light_server_when_the_heavy_one_is_overloaded() {
    let cluster = Cluster::new(Scheduler::Wrr, &[1, 60_000]);
    assert_eq!(cluster.picks(4), "BABB");
    cluster.overload(1, true);
    assert_eq!(cluster.picks(3), "AAA");
    cluster.overload(0, true);
    assert_eq!(cluster.picks(1), "-");
    cluster.overload(1, false);
    assert_eq!(cluster.picks(2), "BB");
}

#[test]
fn rr_and_wrr_pass_over_overloaded_servers() {
    for scheduler in [Scheduler::Rr, Scheduler::Wrr] {
        let cluster = Cluster::new(scheduler, &[1, 1, 1]);
        cluster.overload(1, true);
        assert_eq!(cluster.picks(4), "CACA");
        // A threshold of 0 is none, whatever was noted before.
        cluster.server(1).upper.set(0);
        assert_eq!(cluster.picks(3), "CBA");
    }
}
