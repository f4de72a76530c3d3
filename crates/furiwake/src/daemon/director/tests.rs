//! What the director tries again, and what a start that fails leaves alone.

use std::net::Ipv4Addr;

use super::{super::fake::FakePlane, *};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10));

fn director(plane: &FakePlane, interfaces: &[&str]) -> Director<FakePlane> {
    let (_, requests) = mpsc::channel(1);
    let (_, events) = mpsc::channel(1);
    let (queries, _) = mpsc::unbounded_channel();
    let channels = Channels {
        requests,
        events,
        queries,
    };
    let interfaces: Vec<_> = interfaces.iter().map(|name| (*name).to_owned()).collect();
    let selection = Selection::new(&interfaces, &[]);
    Director::new(
        plane.clone(),
        selection,
        channels,
        ServiceManager::default(),
        0,
        Kept::default(),
    )
}

fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.into(),
        ethernet: true,
        up: true,
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        port_of: None,
        vlan_of: None,
    }
}

fn attached(plane: &FakePlane) -> Vec<String> {
    let attached = &plane.state().attached;
    attached.iter().map(|at| at.name.clone()).collect()
}

#[test]
fn an_interface_that_could_not_be_attached_is_tried_again() {
    let plane = FakePlane::default();
    plane.change(|state| state.broken_interface = Some("eth0"));
    let mut director = director(&plane, &[]);
    let links = [link(2, "eth0"), link(3, "eth1")];
    director.attach_all(&links).expect("none was named");
    director.attach_again();
    assert_eq!(attached(&plane), ["eth1"]);
    assert_eq!(director.unattached.len(), 1);

    plane.change(|state| state.broken_interface = None);
    director.attach_again();
    assert_eq!(attached(&plane), ["eth1", "eth0"]);
    assert!(director.unattached.is_empty());
    director.attach_again();
    assert_eq!(plane.state().attaches, ["eth1", "eth0"]);
}

#[test]
fn a_start_that_fails_leaves_attached_what_was_before() {
    let plane = FakePlane::default();
    let links = [link(2, "eth0"), link(3, "eth1")];
    director(&plane, &["eth0"])
        .attach_all(&links)
        .expect("is attached");
    plane.change(|state| state.broken_interface = Some("eth1"));
    let links = [link(4, "eth2"), link(2, "eth0"), link(3, "eth1")];
    director(&plane, &["eth1", "eth2"])
        .attach_all(&links)
        .expect_err("eth1 was named");
    assert_eq!(attached(&plane), ["eth0"]);

    plane.change(|state| state.broken_interface = None);
    director(&plane, &["eth1"])
        .attach_all(&links)
        .expect("is attached");
    assert_eq!(attached(&plane), ["eth1"]);
}

#[test]
fn a_next_hop_that_the_data_plane_did_not_take_is_told_again() {
    let plane = FakePlane::default();
    plane.change(|state| state.refused_next_hops = 2);
    let mut director = director(&plane, &[]);
    director.hops.set_servers(&[SERVER], Instant::now());
    let IpAddr::V4(address) = SERVER else {
        unreachable!()
    };
    let now = Instant::now();
    director
        .hops
        .handle_route(address, super::super::next_hop::Route::None, now);
    director.act();
    for _ in 0..3 {
        // As housekeeping does.
        director.hops.set_servers(&[SERVER], now);
        director.act();
    }
    assert_eq!(
        plane.state().next_hops,
        [(SERVER, NextHop::Unreachable)],
        "once, and no more"
    );
    assert!(director.untold.is_empty());
}
