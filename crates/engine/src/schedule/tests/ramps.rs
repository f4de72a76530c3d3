//! Slow start: what a new server gets.

use super::*;

/// Two servers with many connections of which the second began only now.
fn ramping(scheduler: Scheduler) -> Cluster {
    let cluster = Cluster::new(scheduler, &[1, 1]);
    cluster.record().slow_start.set(100);
    let now = ticks(cluster.tables.now(), cluster.tables.settings()) / 125;
    cluster.server(0).since.set(now.wrapping_sub(1000));
    cluster.server(1).since.set(now);
    cluster
}

fn share_of_new(cluster: &Cluster, count: usize) -> usize {
    cluster.connects(count).matches('B').count()
}

#[test]
fn a_new_servers_share_grows_in_a_straight_line() {
    for scheduler in [Scheduler::Lc, Scheduler::Wlc, Scheduler::Sed, Scheduler::Nq] {
        let cluster = ramping(scheduler);
        assert!(share_of_new(&cluster, 100) <= 2, "{scheduler:?}");
        cluster.tables.advance_ms(50_500);
        let cluster = ramping(scheduler);
        cluster.tables.advance_ms(50_500);
        // Half the weight: a third of the connections.
        assert_eq!(share_of_new(&cluster, 90), 30, "{scheduler:?}");
        let cluster = ramping(scheduler);
        cluster.tables.advance_ms(101_000);
        assert_eq!(share_of_new(&cluster, 90), 45, "{scheduler:?}");
    }
}

#[test]
fn rr_and_wrr_let_a_new_server_wait() {
    for scheduler in [Scheduler::Rr, Scheduler::Wrr] {
        let cluster = ramping(scheduler);
        assert!(share_of_new(&cluster, 200) < 20, "{scheduler:?}");
        cluster.tables.advance_ms(101_000);
        assert_eq!(share_of_new(&cluster, 200), 100, "{scheduler:?}");
        // With nobody else it is its turn.
        let cluster = ramping(scheduler);
        cluster.weigh(0, 0);
        assert_eq!(cluster.picks(9), "BBBBBBBBB", "{scheduler:?}");
    }
}

#[test]
fn a_returning_server_starts_anew() {
    let cluster = ramping(Scheduler::Wlc);
    cluster.tables.advance_ms(200_000);
    cluster.weigh(1, 0);
    cluster.tables.advance_ms(200_000);
    cluster.weigh(1, 1);
    assert!(share_of_new(&cluster, 100) <= 2);
    // A change of a weight above zero is no return.
    cluster.tables.advance_ms(101_000);
    cluster.weigh(1, 2);
    cluster.load(0, 0, 0);
    cluster.load(1, 0, 0);
    assert_eq!(share_of_new(&cluster, 90), 60);
}

#[test]
fn failover_knows_no_slow_start() {
    let cluster = ramping(Scheduler::Fo);
    cluster.weigh(1, 2);
    assert_eq!(cluster.picks(2), "BB");
}
