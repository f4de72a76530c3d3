//! A director with a data plane in memory, asked over a real socket as any command would.

use std::net::{IpAddr, Ipv4Addr};

use furiwake_datapath::NextHop;
use furiwake_lvs::{
    model::{
        Forward, Protocol, SchedulerName, Server, ServerKey, ServiceConfig, ServiceKey, Table,
        Timeouts,
    },
    operation::{Operation, OperationError},
    plan::Change,
    view::View,
};

use super::{
    fake::FakePlane,
    netlink::{Event, Query},
    next_hop::{Link, Neighbour, Route, Trust},
    operate::Outcome,
    rig::Rig,
};
use crate::{
    api::schema::Status,
    client::{Client, Error, Socket},
};

fn service_key() -> ServiceKey {
    let address = Ipv4Addr::new(192, 168, 56, 50).into();
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address,
        port: 80,
    }
}

fn add_service() -> Operation {
    Operation::AddService(ServiceConfig {
        key: service_key(),
        scheduler: SchedulerName("rr".into()),
        scheduler_flags: 0,
        persistence: None,
        persistence_engine: None,
        one_packet: false,
        slow_start: 0,
    })
}

fn server_address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn add_server(last: u8) -> Operation {
    let key = ServerKey {
        address: server_address(last).into(),
        port: 80,
    };
    let server = Server {
        key,
        forward: Forward::Masquerade,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        tunnel: Default::default(),
    };
    Operation::AddServer {
        service: service_key(),
        server,
    }
}

fn one_service_two_servers() -> Table {
    let mut table = Table::default();
    for operation in [add_service(), add_server(10), add_server(20)] {
        table.apply(&operation).expect("a good operation");
    }
    table
}

fn link(ifindex: u32, name: &str) -> Link {
    let mac = Some([2, 0, 0, 0, 0, u8::try_from(ifindex).expect("a small index")]);
    Link {
        ifindex,
        name: name.into(),
        ethernet: true,
        up: true,
        mac,
        mtu: 1500,
        port_of: None,
        vlan_of: None,
    }
}

#[test]
fn operations_are_carried_out_in_order_and_each_has_its_outcome() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    let outcomes = rig.operate(&[
        add_server(10),
        add_service(),
        add_service(),
        add_server(10),
        add_server(20),
    ]);
    assert_eq!(
        outcomes,
        [
            Outcome::Refused(OperationError::NoSuchService),
            Outcome::Done,
            Outcome::Refused(OperationError::ServiceExists),
            Outcome::Done,
            Outcome::Done,
        ]
    );
    assert_eq!(rig.table(), one_service_two_servers());
    assert_eq!(plane.state().table, one_service_two_servers());
    let view: View = rig.client.get("/api/v1/view").expect("a view");
    assert_eq!(view.services[0].servers.len(), 2);
    rig.stop();
}

#[test]
fn atomic_operations_change_nothing_when_one_is_refused() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    let answer: Result<Vec<Outcome>, _> = rig.client.post(
        "/api/v1/operations?atomic=true",
        &[add_service(), add_server(10), add_server(10)],
    );
    let Err(Error::Refused(problem)) = answer else {
        panic!("is not refused: {answer:?}")
    };
    assert_eq!(problem.status, 409);
    assert_eq!(problem.index, Some(2));
    assert_eq!(problem.error, Some(OperationError::ServerExists));
    assert_eq!(plane.state().changes, []);
    rig.stop();
}

#[test]
fn atomic_operations_are_undone_when_the_data_plane_fails_halfway() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    rig.operate(&[add_service()]);
    plane.change(|state| state.room = Some(1));
    let answer: Result<Vec<Outcome>, _> = rig.client.post(
        "/api/v1/operations?atomic=true",
        &[add_server(10), add_server(20)],
    );
    let Err(Error::Refused(problem)) = answer else {
        panic!("is not refused: {answer:?}")
    };
    assert_eq!(problem.index, Some(1));
    assert_eq!(rig.table().services[0].servers, []);
    assert_eq!(plane.state().table, rig.table());
    rig.stop();
}

#[test]
fn what_the_data_plane_cannot_do_is_refused_and_not_remembered() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    rig.operate(&[add_service()]);
    plane.change(|state| state.fails_after = Some(0));
    let outcomes = rig.operate(&[add_server(10)]);
    let [Outcome::Refused(error)] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
    assert!(
        error.to_string().contains("no room for another server"),
        "{error}"
    );
    assert_eq!(rig.table().services[0].servers, []);
    rig.stop();
}

#[test]
fn an_adopted_data_plane_is_what_is_wanted_and_nothing_is_changed() {
    let plane = FakePlane::left_behind(one_service_two_servers());
    let rig = Rig::start(plane.clone());
    assert_eq!(rig.table(), one_service_two_servers());
    let status = rig.status();
    assert!(status.adopted);
    assert_eq!((status.services, status.servers), (1, 2));
    assert_eq!(plane.state().changes, []);
    rig.stop();
    assert_eq!(plane.state().table, one_service_two_servers());
}

#[test]
fn counters_are_zeroed_for_one_service_or_all_but_not_for_one_that_is_unknown() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    let outcomes = rig.operate(&[
        Operation::Zero(Some(service_key())),
        add_service(),
        Operation::Zero(Some(service_key())),
        Operation::Zero(None),
    ]);
    assert_eq!(outcomes[0], Outcome::Refused(OperationError::NoSuchService));
    assert_eq!(outcomes[1..], [Outcome::Done, Outcome::Done, Outcome::Done]);
    assert_eq!(plane.state().zeroed, [Some(service_key()), None]);
    rig.stop();
}

#[test]
fn timeouts_reach_the_data_plane() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    rig.operate(&[Operation::SetTimeouts(Timeouts {
        tcp: 60,
        tcp_fin: 0,
        udp: 0,
    })]);
    let timeouts = Timeouts {
        tcp: 60,
        ..Timeouts::default()
    };
    assert_eq!(plane.state().changes, [Change::SetTimeouts(timeouts)]);
    rig.stop();
}

#[test]
fn a_new_server_gets_its_next_hop_from_what_the_kernel_says() {
    let plane = FakePlane::default();
    let mut rig = Rig::start(plane.clone());
    let server = server_address(10);
    let mac = [2, 0, 0, 0, 0, 10];
    let neighbour = Neighbour {
        ifindex: 3,
        address: server,
        mac: Some(mac),
        trust: Trust::Fresh,
    };
    rig.kernel_says(Event::Snapshot {
        links: vec![link(3, "eth1")],
        neighbours: vec![],
    });
    rig.operate(&[add_service(), add_server(10)]);

    let query = rig.queries.blocking_recv();
    assert!(
        matches!(query, Some(Query::Route(address)) if address == server),
        "{query:?}"
    );
    rig.kernel_says(Event::Route(
        server,
        Route::Via {
            ifindex: 3,
            gateway: server,
            own_address: Ipv4Addr::new(10, 0, 0, 1),
            mtu: None,
        },
    ));
    let resolving = |query: &Query| matches!(query, Query::Resolve { ifindex: 3, address } if *address == server);
    while !resolving(
        &rig.queries
            .blocking_recv()
            .expect("the neighbour is asked for"),
    ) {}
    rig.kernel_says(Event::Neighbour(neighbour));

    let resolved = NextHop::Resolved {
        ifindex: 3,
        mtu: 1500,
        neighbour: mac,
        source: [2, 0, 0, 0, 0, 3],
        gateway: server,
        own_address: Ipv4Addr::new(10, 0, 0, 1),
    };
    plane.wait_until("the next hop is told", |state| {
        state.next_hops.last() == Some(&(IpAddr::V4(server), resolved))
    });
    let status = rig.status();
    assert_eq!(status.next_hops[0].state, "reachable");
    assert_eq!(
        status.next_hops[0].mac.as_deref(),
        Some("02:00:00:00:00:0a")
    );
    assert_eq!(status.next_hops[0].interface.as_deref(), Some("eth1"));
    rig.stop();
}

#[test]
fn interfaces_are_followed_as_they_come_and_go() {
    let plane = FakePlane::default();
    let rig = Rig::start_with(plane.clone(), &[], &["eth1=tc"]);
    rig.kernel_says(Event::Snapshot {
        links: vec![
            Link {
                ethernet: false,
                ..link(1, "lo")
            },
            link(2, "eth0"),
        ],
        neighbours: vec![],
    });
    rig.kernel_says(Event::Link(link(3, "eth1")));
    plane.wait_until("both are attached", |state| state.attached.len() == 2);
    let hooks: Vec<_> = rig
        .status()
        .interfaces
        .into_iter()
        .map(|each| (each.name, each.hook))
        .collect();
    assert_eq!(
        hooks,
        [("eth0".into(), "auto".into()), ("eth1".into(), "tc".into())]
    );

    rig.kernel_says(Event::LinkGone(2));
    plane.wait_until("eth0 is let go", |state| state.attached.len() == 1);
    rig.kernel_says(Event::Link(link(7, "eth0")));
    plane.wait_until("eth0 is back", |state| {
        state.attached.iter().any(|attached| attached.ifindex == 7)
    });
    rig.stop();
}

#[test]
fn only_chosen_interfaces_are_attached_and_adopted_ones_let_go() {
    let plane = FakePlane::default();
    plane.change(|state| {
        state.attached.push(furiwake_datapath::Attached {
            ifindex: 2,
            name: "eth0".into(),
            hook: "tcx".into(),
            reason: None,
        });
    });
    let rig = Rig::start_with(plane.clone(), &["eth1"], &[]);
    rig.kernel_says(Event::Snapshot {
        links: vec![link(2, "eth0"), link(3, "eth1")],
        neighbours: vec![],
    });
    plane.wait_until("eth1 and only eth1 is attached", |state| {
        state.attached.iter().map(|each| each.ifindex).eq([3])
    });
    rig.stop();
}

#[test]
fn an_interface_that_gets_a_name_that_is_not_chosen_is_let_go() {
    let plane = FakePlane::default();
    let rig = Rig::start_with(plane.clone(), &["eth1"], &[]);
    rig.kernel_says(Event::Link(link(3, "eth1")));
    plane.wait_until("eth1 is attached", |state| state.attached.len() == 1);
    rig.kernel_says(Event::Link(link(3, "spare")));
    plane.wait_until("it is let go", |state| state.attached.is_empty());
    rig.stop();
}

#[test]
fn an_interface_that_cannot_be_attached_is_shown_with_the_reason() {
    let plane = FakePlane::default();
    plane.change(|state| state.broken_interface = Some("eth0"));
    let rig = Rig::start(plane.clone());
    rig.kernel_says(Event::Snapshot {
        links: vec![link(2, "eth0"), link(3, "eth1")],
        neighbours: vec![],
    });
    plane.wait_until("eth1 is attached", |state| state.attached.len() == 1);
    let status = rig.status();
    assert_eq!(status.unattached.len(), 1);
    assert_eq!(
        status.unattached[0].reason,
        "cannot listen on eth0: the driver says no"
    );
    rig.stop();
}

#[test]
fn changed_routes_are_passed_on_once_for_a_burst() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    rig.kernel_says(Event::Routes);
    plane.wait_until("the data plane knows", |state| state.routes_changed == 1);
    rig.stop();
}

#[test]
fn without_a_director_the_error_names_the_socket_the_reason_and_the_remedy() {
    let client = Client::new(Socket {
        path: "/nowhere/control.sock".into(),
    });
    let error = client
        .get::<Status>("/api/v1/status")
        .expect_err("nobody is there");
    assert_eq!(
        error.to_string(),
        "no director answers on /nowhere/control.sock: there is no such socket"
    );
    assert!(
        error
            .remedy()
            .expect("there is one")
            .contains("furiwake run")
    );
}

#[test]
fn a_director_that_stopped_is_said_to_have_stopped() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane);
    let Rig {
        client,
        thread,
        _folder,
        ..
    } = rig;
    client.post::<()>("/api/v1/stop", &()).expect("it stops");
    thread.join().expect("no panic").expect("no error");
    let error = client
        .get::<Status>("/api/v1/status")
        .expect_err("it has stopped");
    assert!(error.to_string().ends_with("it has stopped"), "{error}");
}

#[test]
fn an_address_of_the_director_is_a_local_server() {
    let plane = FakePlane::default();
    let mut rig = Rig::start(plane.clone());
    rig.operate(&[add_service(), add_server(10)]);
    let Some(Query::Route(address)) = rig.queries.blocking_recv() else {
        panic!("no route is asked for")
    };
    rig.kernel_says(Event::Route(address, Route::Local));
    plane.wait_until("it is told", |state| {
        state.next_hops.last() == Some(&(IpAddr::V4(address), NextHop::Local))
    });
    rig.stop();
}

#[test]
fn a_port_of_a_bridge_is_left_out_and_the_status_says_so() {
    let plane = FakePlane::default();
    let rig = Rig::start_with(plane.clone(), &[], &[]);
    let port = Link {
        port_of: Some(2),
        ..link(3, "eth1")
    };
    rig.kernel_says(Event::Link(link(2, "br0")));
    rig.kernel_says(Event::Link(link(3, "eth1")));
    plane.wait_until("both are attached", |state| state.attached.len() == 2);
    rig.kernel_says(Event::Link(port));
    plane.wait_until("the port is let go", |state| state.attached.len() == 1);
    let status = rig.status();
    assert_eq!(status.unattached.len(), 1);
    assert_eq!(
        status.unattached[0].reason,
        "a port of br0, where its packets are taken; --interface eth1 insists"
    );
    rig.kernel_says(Event::Link(link(3, "eth1")));
    plane.wait_until("it is free again", |state| state.attached.len() == 2);
    assert_eq!(rig.status().unattached.len(), 0);
    rig.stop();
}

#[test]
fn an_interface_is_attached_anew_when_a_vlan_comes() {
    let plane = FakePlane::default();
    let rig = Rig::start_with(plane.clone(), &[], &[]);
    rig.kernel_says(Event::Link(link(2, "eth0")));
    plane.wait_until("it is attached", |state| state.attached.len() == 1);
    let seen = plane.state().attaches.len();
    let vlan = Link {
        vlan_of: Some(2),
        ..link(3, "eth0.100")
    };
    rig.kernel_says(Event::Link(vlan.clone()));
    rig.kernel_says(Event::Link(vlan));
    plane.wait_until("both are attached", |state| state.attached.len() == 2);
    rig.status();
    assert_eq!(plane.state().attaches[seen..], ["eth0", "eth0.100"]);
    rig.stop();
}
