//! dh, sh, mh and maglev: who owns which slot, and who takes over.

use super::*;

fn pattern(cluster: &Cluster, count: usize) -> String {
    cluster.ring().into_iter().take(count).map(letter).collect()
}

fn at(cluster: &Cluster, client: Origin) -> char {
    letter(cluster.pick_for(client, Ipv4Addr::UNSPECIFIED))
}

/// Slot of sh for a client: only that slot's owner is usable in a ring of 256 servers of one slot each.
fn slot_of(client: Origin, by_port: bool) -> u8 {
    let mut cluster = Cluster::new(Scheduler::Sh, &[]);
    // The newest comes first.
    for number in (0..=255).rev() {
        cluster.add(number, 1);
    }
    cluster.set_flags(if by_port { Service::FLAG_2 } else { 0 });
    cluster.pick_for(client, Ipv4Addr::UNSPECIFIED).unwrap()
}

#[test]
fn clients_fall_into_the_known_slots_of_sh() {
    assert_eq!(slot_of(client(10, 0, 0, 1, 0), false), 39);
    assert_eq!(slot_of(client(10, 0, 0, 1, 40000), false), 39);
    assert_eq!(slot_of(client(10, 0, 0, 1, 40000), true), 203);
    assert_eq!(slot_of(client(192, 0, 2, 55, 0), false), 211);
    let v6 = Origin::new(0x2001_0db8 ^ 1, 0);
    assert_eq!(slot_of(v6, false), 63);
}

#[test]
fn sh_deals_slots_by_weight_and_one_for_none() {
    let cluster = Cluster::new(Scheduler::Sh, &[1, 1, 1]);
    assert_eq!(pattern(&cluster, 6), "CBACBA");
    assert_eq!(cluster.shares(), [85, 85, 86]);
    let cluster = Cluster::new(Scheduler::Sh, &[4, 0, 2]);
    assert_eq!(pattern(&cluster, 8), "CCBAAAAC");
    assert_eq!(cluster.shares(), [145, 37, 74]);
    // As in IPVS the newest starves the others (W21); who wants to be fair takes maglev.
    let cluster = Cluster::new(Scheduler::Sh, &[1000, 1000]);
    assert_eq!(cluster.shares(), [0, 256]);
    let cluster = Cluster::new(Scheduler::Maglev, &[1000, 1000]);
    assert_eq!(cluster.shares(), [32769, 32768]);
}

#[test]
fn sh_follows_every_change() {
    let mut cluster = Cluster::new(Scheduler::Sh, &[1, 1]);
    assert_eq!(pattern(&cluster, 4), "BABA");
    cluster.add(2, 2);
    assert_eq!(pattern(&cluster, 8), "CCBACCBA");
    cluster.weigh(2, 0);
    assert_eq!(pattern(&cluster, 6), "CBACBA");
    cluster.tables.remove_server(cluster.at(1)).unwrap();
    assert_eq!(pattern(&cluster, 4), "CACA");
    cluster.tables.remove_server(cluster.at(0)).unwrap();
    cluster.tables.remove_server(cluster.at(2)).unwrap();
    assert_eq!(pattern(&cluster, 4), "----");
    assert_eq!(cluster.picks(1), "-");
}

#[test]
fn sh_refuses_clients_of_an_unusable_server_unless_it_may_fall_back() {
    let cluster = Cluster::new(Scheduler::Sh, &[1, 1, 1]);
    // Slot 39: the pattern CBA has C there. With fallback, slot 2 * 39 is C again, then B.
    let who = client(10, 0, 0, 1, 0);
    assert_eq!(at(&cluster, who), 'C');
    cluster.overload(2, true);
    assert_eq!(at(&cluster, who), '-');
    cluster.set_flags(Service::FLAG_1);
    assert_eq!(at(&cluster, who), 'B');
    cluster.weigh(1, 0);
    assert_eq!(at(&cluster, who), 'A');
    cluster.weigh(0, 0);
    assert_eq!(at(&cluster, who), '-');
}

#[test]
fn dh_goes_by_the_destination_and_ignores_weights() {
    let cluster = Cluster::new(Scheduler::Dh, &[9, 1, 1]);
    assert_eq!(cluster.shares(), [85, 85, 86]);
    let there = Ipv4Addr::new(10, 0, 0, 1);
    for port in 0..9 {
        let picked = cluster.pick_for(client(10, 0, 0, port as u8, port), there);
        assert_eq!(letter(picked), 'C');
    }
    cluster.weigh(2, 0);
    // Neither the ring nor another server helps.
    cluster.set_flags(Service::FLAG_1);
    assert_eq!(letter(cluster.pick_for(client(10, 0, 0, 1, 0), there)), '-');
}

/// Servers 10.0.1.1 to 3.
fn mh_cluster(weights: [u32; 3]) -> Cluster {
    let mut cluster = Cluster::new(Scheduler::Mh, &[]);
    for (number, weight) in weights.into_iter().enumerate() {
        let end = SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, number as u8 + 1), 80);
        let tables = &mut cluster.tables;
        tables.add_server(cluster.service, end, weight).unwrap();
    }
    cluster
}

#[test]
fn mh_populates_the_known_ring() {
    let cluster = mh_cluster([1, 1, 1]);
    let ring = cluster.ring();
    let count = |number| ring.iter().filter(|o| **o == Some(number)).count();
    assert_eq!([count(1), count(2), count(3)], [1364, 1364, 1365]);
    let owner = |who| cluster.pick_for(who, Ipv4Addr::UNSPECIFIED).unwrap();
    assert_eq!(owner(client(10, 0, 0, 1, 0)), 1);
    assert_eq!(owner(client(192, 0, 2, 55, 0)), 2);
    assert_eq!(owner(client(198, 51, 100, 7, 0)), 2);
    let ring = mh_cluster([4, 2, 1]).ring();
    let count = |number| ring.iter().filter(|o| **o == Some(number)).count();
    assert_eq!([count(1), count(2), count(3)], [2338, 1170, 585]);
}

#[test]
fn clients_fall_into_the_known_slots_of_mh() {
    let cluster = mh_cluster([1, 1, 1]);
    let owner_of_slot = |slot: usize| cluster.ring()[slot];
    let owner = |who| cluster.pick_for(who, Ipv4Addr::UNSPECIFIED);
    let v6 = Origin::new(0x2001_0db8 ^ 1, 0);
    for (who, slot) in [
        (client(10, 0, 0, 1, 0), 3711),
        (client(192, 0, 2, 55, 0), 3792),
        (v6, 3457),
    ] {
        assert_eq!(owner(who), owner_of_slot(slot));
    }
    cluster.set_flags(Service::FLAG_2);
    assert_eq!(owner(client(10, 0, 0, 1, 40000)), owner_of_slot(2940));
}

#[test]
fn mh_keeps_its_ring_when_a_weight_becomes_zero_and_gives_none_to_one_that_never_had() {
    let mut cluster = Cluster::new(Scheduler::Mh, &[1, 1, 0]);
    assert_eq!(cluster.shares::<3>()[2], 0);
    let before = cluster.ring();
    cluster.weigh(1, 0);
    assert_eq!(cluster.ring(), before);
    cluster.weigh(1, 2);
    assert_ne!(cluster.ring(), before);
    cluster.add(3, 1);
    assert!(cluster.shares::<4>()[3] > 0);
}

#[test]
fn mh_refuses_clients_of_an_unusable_server_unless_it_may_fall_back() {
    let cluster = Cluster::new(Scheduler::Mh, &[1, 1, 1]);
    let clients = || (0..=255).map(|d| client(10, 0, 0, d, 0));
    let before: Vec<char> = clients().map(|who| at(&cluster, who)).collect();
    cluster.weigh(1, 0);
    for (who, before) in clients().zip(&before) {
        let refused = if *before == 'B' { '-' } else { *before };
        assert_eq!(at(&cluster, who), refused);
    }
    cluster.set_flags(Service::FLAG_1);
    for (who, before) in clients().zip(&before) {
        let now = at(&cluster, who);
        assert!(now == *before || *before == 'B' && now != '-');
    }
}

#[test]
fn maglev_makes_the_same_ring_in_whatever_order_servers_were_added() {
    let weights = [3u32, 1, 7, 1, 2];
    let ring = |order: &[u8]| {
        let mut cluster = Cluster::new(Scheduler::Maglev, &[]);
        cluster.add(9, 5);
        for number in order {
            cluster.add(*number, weights[*number as usize]);
        }
        cluster.tables.remove_server(cluster.at(9)).unwrap();
        cluster.ring()
    };
    let first = ring(&[0, 1, 2, 3, 4]);
    assert!(first == ring(&[4, 3, 2, 1, 0]));
    assert!(first == ring(&[2, 4, 0, 1, 3]));
}

#[test]
fn maglev_shares_are_true_to_the_weights() {
    let cluster = Cluster::new(Scheduler::Maglev, &[1, 2, 3]);
    assert_eq!(cluster.shares(), [10923, 21846, 32768]);
    let cluster = Cluster::new(Scheduler::Maglev, &[65535, 1]);
    assert_eq!(cluster.shares(), [65536, 1]);
    // Weight 0 counts as 1.
    let cluster = Cluster::new(Scheduler::Maglev, &[1, 0]);
    assert_eq!(cluster.shares(), [32769, 32768]);
    assert!(cluster.ring().iter().all(Option::is_some));
}

#[test]
fn maglev_moves_few_clients_when_a_server_leaves() {
    let cluster = Cluster::new(Scheduler::Maglev, &[1; 10]);
    let before = cluster.ring();
    cluster.tables.remove_server(cluster.at(4)).unwrap();
    let after = cluster.ring();
    let moved = before.iter().zip(&after);
    let moved = moved.filter(|(b, a)| **b != Some(4) && a != b).count();
    assert!(moved < before.len() / 20, "{moved}");
}

#[test]
fn maglev_refuses_nobody_while_a_server_is_usable() {
    let cluster = Cluster::new(Scheduler::Maglev, &[1; 20]);
    let clients = || (0..=255).map(|d| client(10, 0, 0, d, 0));
    let before: Vec<char> = clients().map(|who| at(&cluster, who)).collect();
    cluster.weigh(3, 0);
    cluster.overload(4, true);
    for (who, before) in clients().zip(&before) {
        let now = at(&cluster, who);
        let stays = !"DE".contains(*before);
        assert!(if stays {
            now == *before
        } else {
            !"DE-".contains(now)
        });
    }
    // Three are left: few clients find them in the ring, the others are spread as well.
    for number in 3..20 {
        cluster.weigh(number, 0);
    }
    let count = |letter| clients().filter(|who| at(&cluster, *who) == letter).count();
    let counts = ['A', 'B', 'C'].map(count);
    assert_eq!(counts.iter().sum::<usize>(), 256);
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    (0..3).for_each(|number| cluster.weigh(number, 0));
    assert_eq!(count('-'), 256);
}

#[test]
fn maglev_goes_by_the_port_when_told() {
    let cluster = Cluster::new(Scheduler::Maglev, &[1; 5]);
    let picks = || -> String {
        (0..50)
            .map(|p| at(&cluster, client(10, 0, 0, 1, p)))
            .collect()
    };
    assert_eq!(picks(), picks()[..1].repeat(50));
    cluster.set_flags(Service::FLAG_2);
    let picked = picks();
    assert!(
        "ABCDE".chars().all(|letter| picked.contains(letter)),
        "{picked}"
    );
}

#[test]
fn a_slot_that_holds_another_services_server_is_not_followed() {
    let cluster = Cluster::new(Scheduler::Sh, &[1]);
    cluster.server(0).service.set(1);
    assert_eq!(cluster.picks(1), "-");
}

#[test]
fn a_ring_that_has_no_room_is_refused_and_nothing_has_changed() {
    let mut cluster = Cluster::new(Scheduler::Rr, &[1, 1]);
    let other = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 80);
    let tables = HostTables::new(Sizes {
        services: 4,
        ring_slots: 65540 + 256,
        ..Sizes::SMALL
    });
    cluster.tables = tables;
    let end = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80);
    cluster.service = cluster.tables.add_service(end, TCP, Scheduler::Rr).unwrap();
    cluster.add(0, 1);
    cluster.add(1, 1);
    let maglev = cluster.tables.add_service(other, TCP, Scheduler::Maglev);
    let maglev = maglev.unwrap();
    assert_eq!(cluster.picks(1), "B");
    let refused = list::set_scheduler(&cluster.tables, cluster.service, Scheduler::Maglev);
    assert_eq!(refused, Err(list::NoScheduler::NoRoom));
    assert_eq!(cluster.picks(2), "AB");
    // A small one fits in behind, and has its place when asked for again.
    for scheduler in [Scheduler::Sh, Scheduler::Dh] {
        list::set_scheduler(&cluster.tables, cluster.service, scheduler).unwrap();
        assert_eq!(cluster.record().ring.get(), pack(65540, 256));
    }
    // The place of one that is gone is free.
    list::set_scheduler(&cluster.tables, maglev, Scheduler::Rr).unwrap();
    list::set_scheduler(&cluster.tables, cluster.service, Scheduler::Mh).unwrap();
    assert_eq!(cluster.record().ring.get(), pack(0, 4093));
    assert_ne!(at(&cluster, client(10, 0, 0, 1, 0)), '-');
}
