//! The stories of next hops, told in events and actions.

use super::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const FAR: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 10];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 11];

fn eth1() -> Link {
    Link {
        ifindex: 3,
        name: "eth1".into(),
        ethernet: true,
        up: true,
        mac: Some(OWN),
        mtu: 1500,
        port_of: None,
        vlan_of: None,
    }
}

fn neighbour(address: Ipv4Addr, mac: [u8; 6], trust: Trust) -> Neighbour {
    Neighbour {
        ifindex: 3,
        address,
        mac: Some(mac),
        trust,
    }
}

fn on_link(address: Ipv4Addr) -> Route {
    Route::Via {
        ifindex: 3,
        gateway: address,
        own_address: OWN_ADDRESS,
        mtu: None,
    }
}

fn resolved(gateway: Ipv4Addr, neighbour: [u8; 6]) -> NextHop {
    NextHop::Resolved {
        ifindex: 3,
        mtu: 1500,
        neighbour,
        source: OWN,
        gateway,
        own_address: OWN_ADDRESS,
    }
}

fn unresolved(gateway: Ipv4Addr) -> NextHop {
    NextHop::Unresolved {
        ifindex: 3,
        mtu: 1500,
        gateway,
        own_address: OWN_ADDRESS,
    }
}

fn set(hop: NextHop) -> Action {
    Action::SetNextHop(IpAddr::V4(SERVER), hop)
}

fn ask(address: Ipv4Addr) -> Action {
    Action::Resolve {
        ifindex: 3,
        address,
    }
}

/// Everything there is to do, timers that are due included.
fn actions(hops: &mut NextHops, now: Instant) -> Vec<Action> {
    hops.handle_timeout(now);
    std::iter::from_fn(|| hops.poll_action()).collect()
}

/// A director with one interface and one server whose neighbour entry is this.
fn with_server(entry: Option<Neighbour>, now: Instant) -> NextHops {
    let mut hops = NextHops::default();
    hops.handle_snapshot(vec![eth1()], entry.into_iter().collect(), now);
    hops.set_servers(&[IpAddr::V4(SERVER)], now);
    assert_eq!(
        actions(&mut hops, now),
        [Action::LookUpRoute(SERVER), Action::RoutesChanged]
    );
    hops.handle_route(SERVER, on_link(SERVER), now);
    hops
}

#[test]
fn a_known_neighbour_is_told_at_once_and_only_once() {
    let now = Instant::now();
    let mut hops = with_server(Some(neighbour(SERVER, MAC, Trust::Fresh)), now);
    assert_eq!(actions(&mut hops, now), [set(resolved(SERVER, MAC))]);
    hops.handle_neighbour(neighbour(SERVER, MAC, Trust::Stale), now);
    hops.handle_neighbour(neighbour(SERVER, MAC, Trust::Fresh), now);
    hops.handle_link(eth1(), now);
    assert_eq!(actions(&mut hops, now), []);
    assert_eq!(hops.next_timeout(), None);
}

#[test]
fn an_unknown_neighbour_is_asked_for_with_growing_patience() {
    let start = Instant::now();
    let mut hops = with_server(None, start);
    assert_eq!(
        actions(&mut hops, start),
        [set(unresolved(SERVER)), ask(SERVER)]
    );
    let mut waits = Vec::new();
    let mut now = start;
    for _ in 0..7 {
        let next = hops.next_timeout().expect("keeps asking");
        waits.push((next - now).as_secs());
        now = next;
        assert_eq!(actions(&mut hops, now), [ask(SERVER)]);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);

    hops.handle_neighbour(neighbour(SERVER, MAC, Trust::Fresh), now);
    assert_eq!(actions(&mut hops, now), [set(resolved(SERVER, MAC))]);
    assert_eq!(hops.next_timeout(), None);
}

#[test]
fn a_stale_neighbour_stays_in_use_and_is_poked_every_ten_seconds() {
    let now = Instant::now();
    let mut hops = with_server(Some(neighbour(SERVER, MAC, Trust::Stale)), now);
    assert_eq!(actions(&mut hops, now), [set(resolved(SERVER, MAC))]);
    for round in 1..4 {
        let due = now + POKE_EVERY * round;
        assert_eq!(hops.next_timeout(), Some(due));
        assert_eq!(actions(&mut hops, due), [ask(SERVER)]);
    }
}

#[test]
fn a_server_that_moved_to_another_mac_is_followed() {
    let now = Instant::now();
    let mut hops = with_server(Some(neighbour(SERVER, MAC, Trust::Fresh)), now);
    actions(&mut hops, now);
    hops.handle_neighbour(neighbour(SERVER, OTHER_MAC, Trust::Fresh), now);
    assert_eq!(
        actions(&mut hops, now),
        [set(resolved(SERVER, OTHER_MAC)), Action::RoutesChanged]
    );
}

#[test]
fn a_server_that_stops_answering_is_left_to_the_stack_and_asked_for() {
    let now = Instant::now();
    let mut hops = with_server(Some(neighbour(SERVER, MAC, Trust::Fresh)), now);
    actions(&mut hops, now);
    hops.handle_neighbour(
        Neighbour {
            mac: None,
            ..neighbour(SERVER, MAC, Trust::Unknown)
        },
        now,
    );
    assert_eq!(
        actions(&mut hops, now),
        [set(unresolved(SERVER)), ask(SERVER), Action::RoutesChanged]
    );
}

#[test]
fn a_client_that_moved_makes_the_data_plane_look_anew_but_tells_no_server() {
    let now = Instant::now();
    let client = Ipv4Addr::new(10, 0, 0, 77);
    let mut hops = with_server(Some(neighbour(SERVER, MAC, Trust::Fresh)), now);
    actions(&mut hops, now);
    hops.handle_neighbour(neighbour(client, MAC, Trust::Fresh), now);
    assert_eq!(actions(&mut hops, now), []);
    hops.handle_neighbour(neighbour(client, OTHER_MAC, Trust::Stale), now);
    assert_eq!(actions(&mut hops, now), [Action::RoutesChanged]);
}

#[test]
fn a_far_server_is_reached_through_its_gateway_with_the_mtu_of_the_route() {
    let now = Instant::now();
    let mut hops = NextHops::default();
    hops.handle_snapshot(
        vec![eth1()],
        vec![neighbour(GATEWAY, MAC, Trust::Fresh)],
        now,
    );
    hops.set_servers(&[IpAddr::V4(FAR)], now);
    actions(&mut hops, now);
    hops.handle_route(
        FAR,
        Route::Via {
            ifindex: 3,
            gateway: GATEWAY,
            own_address: OWN_ADDRESS,
            mtu: Some(1400),
        },
        now,
    );
    let hop = NextHop::Resolved {
        ifindex: 3,
        mtu: 1400,
        neighbour: MAC,
        source: OWN,
        gateway: GATEWAY,
        own_address: OWN_ADDRESS,
    };
    assert_eq!(
        actions(&mut hops, now),
        [Action::SetNextHop(IpAddr::V4(FAR), hop)]
    );
}

#[test]
fn a_route_that_changes_while_it_is_looked_up_is_looked_up_again() {
    let now = Instant::now();
    let mut hops = NextHops::default();
    hops.handle_snapshot(
        vec![eth1()],
        vec![neighbour(SERVER, MAC, Trust::Fresh)],
        now,
    );
    hops.set_servers(&[IpAddr::V4(SERVER)], now);
    hops.handle_routes(now);
    hops.handle_routes(now);
    assert_eq!(
        actions(&mut hops, now),
        [Action::LookUpRoute(SERVER), Action::RoutesChanged]
    );
    hops.handle_route(SERVER, Route::None, now);
    assert_eq!(
        actions(&mut hops, now),
        [Action::LookUpRoute(SERVER), set(NextHop::Unreachable)]
    );
    hops.handle_route(SERVER, on_link(SERVER), now);
    assert_eq!(actions(&mut hops, now), [set(resolved(SERVER, MAC))]);
}

#[test]
fn an_interface_that_vanishes_takes_its_neighbours_with_it_and_may_come_back() {
    let now = Instant::now();
    let mut hops = with_server(Some(neighbour(SERVER, MAC, Trust::Fresh)), now);
    actions(&mut hops, now);
    hops.handle_link_gone(3, now);
    hops.handle_route(SERVER, Route::None, now);
    assert_eq!(
        actions(&mut hops, now),
        [
            Action::LookUpRoute(SERVER),
            set(NextHop::Unreachable),
            Action::RoutesChanged
        ]
    );
    hops.handle_link(eth1(), now);
    hops.handle_route(SERVER, on_link(SERVER), now);
    assert_eq!(
        actions(&mut hops, now),
        [
            Action::LookUpRoute(SERVER),
            set(unresolved(SERVER)),
            ask(SERVER),
            Action::RoutesChanged
        ]
    );
}

#[test]
fn a_removed_server_is_no_longer_asked_for_and_comes_back_as_new() {
    let now = Instant::now();
    let mut hops = with_server(None, now);
    actions(&mut hops, now);
    hops.set_servers(&[], now);
    assert_eq!(hops.next_timeout(), None);
    hops.set_servers(&[IpAddr::V4(SERVER)], now);
    assert_eq!(actions(&mut hops, now), [Action::LookUpRoute(SERVER)]);
}

#[test]
fn a_server_made_anew_in_the_data_plane_is_told_again() {
    let now = Instant::now();
    let mut hops = with_server(Some(neighbour(SERVER, MAC, Trust::Fresh)), now);
    actions(&mut hops, now);
    hops.repeat(IpAddr::V4(SERVER));
    assert_eq!(actions(&mut hops, now), [set(resolved(SERVER, MAC))]);
}

#[test]
fn a_server_that_becomes_an_address_of_this_host_is_local_and_nobody_is_asked() {
    let now = Instant::now();
    let mut hops = with_server(None, now);
    actions(&mut hops, now);
    hops.handle_routes(now);
    hops.handle_route(SERVER, Route::Local, now);
    assert_eq!(
        actions(&mut hops, now),
        [
            Action::LookUpRoute(SERVER),
            set(NextHop::Local),
            Action::RoutesChanged
        ]
    );
    assert_eq!(hops.next_timeout(), None);
    hops.handle_routes(now);
    hops.handle_route(SERVER, on_link(SERVER), now);
    assert_eq!(
        actions(&mut hops, now),
        [
            Action::LookUpRoute(SERVER),
            set(unresolved(SERVER)),
            ask(SERVER),
            Action::RoutesChanged
        ]
    );
}

#[test]
fn another_source_address_is_told() {
    let now = Instant::now();
    let mut hops = with_server(Some(neighbour(SERVER, MAC, Trust::Fresh)), now);
    actions(&mut hops, now);
    let other = Ipv4Addr::new(10, 0, 0, 2);
    let route = Route::Via {
        ifindex: 3,
        gateway: SERVER,
        own_address: other,
        mtu: None,
    };
    hops.handle_route(SERVER, route, now);
    let hop = NextHop::Resolved {
        ifindex: 3,
        mtu: 1500,
        neighbour: MAC,
        source: OWN,
        gateway: SERVER,
        own_address: other,
    };
    assert_eq!(actions(&mut hops, now), [set(hop)]);
}

#[test]
fn what_is_not_ethernet_is_left_to_the_stack_without_asking() {
    let now = Instant::now();
    let mut hops = NextHops::default();
    let tun = Link {
        ethernet: false,
        mac: None,
        ..eth1()
    };
    hops.handle_snapshot(vec![tun], vec![], now);
    hops.set_servers(&[IpAddr::V4(SERVER)], now);
    actions(&mut hops, now);
    hops.handle_route(SERVER, on_link(SERVER), now);
    assert_eq!(actions(&mut hops, now), [set(unresolved(SERVER))]);
    assert_eq!(
        hops.ways()[0].state,
        "not Ethernet: left to the host's stack"
    );
}

#[test]
fn stale_neighbours_that_clients_are_reached_by_are_poked() {
    let start = Instant::now();
    let mut hops = NextHops::default();
    let stale = |address, mac| neighbour(address, mac, Trust::Stale);
    let entries = vec![stale(GATEWAY, MAC), stale(FAR, OTHER_MAC)];
    hops.handle_snapshot(vec![eth1()], entries, start);
    hops.set_clients(HashSet::from([(3, MAC), (4, OTHER_MAC)]));
    hops.set_servers(&[], start);
    actions(&mut hops, start);
    let mut now = start;
    for _ in 0..3 {
        now += POKE_EVERY;
        assert_eq!(hops.next_timeout(), Some(now));
        assert_eq!(actions(&mut hops, now), [ask(GATEWAY)]);
    }
    hops.handle_neighbour(neighbour(GATEWAY, MAC, Trust::Fresh), now);
    hops.set_servers(&[], now);
    assert_eq!(hops.next_timeout(), None);
}

#[test]
fn poking_clients_neighbours_has_an_end() {
    let now = Instant::now();
    let mut hops = NextHops::default();
    let entries = (0..3000_u32)
        .map(|n| neighbour(Ipv4Addr::from(0x0a01_0000 + n), MAC, Trust::Stale))
        .collect();
    hops.handle_snapshot(vec![eth1()], entries, now);
    hops.set_clients(HashSet::from([(3, MAC)]));
    hops.set_servers(&[], now);
    let asked = actions(&mut hops, now + POKE_EVERY);
    let pokes = asked.iter().filter(|a| matches!(a, Action::Resolve { .. }));
    assert_eq!(pokes.count(), MOST_CLIENTS);
}

#[test]
fn a_question_whose_answer_was_lost_is_asked_again_after_a_snapshot() {
    let now = Instant::now();
    let mut hops = NextHops::default();
    hops.set_servers(&[IpAddr::V4(SERVER)], now);
    assert_eq!(actions(&mut hops, now), [Action::LookUpRoute(SERVER)]);
    hops.handle_routes(now);
    assert_eq!(actions(&mut hops, now), [Action::RoutesChanged]);
    hops.handle_snapshot(vec![eth1()], vec![], now);
    assert_eq!(
        actions(&mut hops, now),
        [Action::LookUpRoute(SERVER), Action::RoutesChanged]
    );
}
