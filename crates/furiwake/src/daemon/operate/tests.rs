//! What lists of operations come to.

use furiwake_lvs::{
    model::{Forward, Protocol, SchedulerName, Server, ServerKey, ServiceConfig, Settings, Tunnel},
    sync::{SyncDaemon, SyncRole},
};

use super::{
    super::{fake::FakePlane, netlink::Event, next_hop::Link, rig::Rig},
    *,
};

fn key(last: u8) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: [192, 168, 56, last].into(),
        port: 80,
    }
}

fn add_service(last: u8) -> Operation {
    Operation::AddService(ServiceConfig {
        key: key(last),
        scheduler: SchedulerName("rr".into()),
        scheduler_flags: 0,
        persistence: None,
        persistence_engine: None,
        one_packet: false,
        slow_start: 0,
    })
}

fn add_server(service: u8, host: [u8; 2]) -> Operation {
    Operation::AddServer {
        service: key(service),
        server: Server {
            key: ServerKey {
                address: [10, 0, host[0], host[1]].into(),
                port: 80,
            },
            forward: Forward::Masquerade,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: Tunnel::default(),
        },
    }
}

#[test]
fn a_restore_of_what_is_there_changes_nothing_but_the_counters() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    let rules = [
        Operation::Flush,
        add_service(1),
        add_server(1, [0, 1]),
        add_server(1, [0, 2]),
    ];
    rig.operate(&rules);
    assert_eq!(plane.state().changes.len(), 3);
    assert_eq!(plane.state().zeroed, []);
    let table = rig.table();
    rig.operate(&rules);
    assert_eq!(plane.state().changes.len(), 3, "nothing moved");
    assert_eq!(plane.state().zeroed, [Some(key(1))]);
    assert_eq!(rig.table(), table);
    rig.stop();
}

#[test]
fn counters_are_zeroed_of_what_is_there_in_the_end() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    rig.operate(&[add_service(1), add_service(2)]);
    let outcomes = rig.operate(&[
        Operation::Zero(Some(key(1))),
        Operation::Zero(Some(key(2))),
        Operation::DeleteService(key(2)),
        Operation::Zero(Some(key(2))),
    ]);
    let refused = Outcome::Refused(OperationError::NoSuchService);
    assert_eq!(
        outcomes,
        [Outcome::Done, Outcome::Done, Outcome::Done, refused]
    );
    assert_eq!(plane.state().zeroed, [Some(key(1))]);
    rig.stop();
}

#[test]
fn what_the_data_plane_refuses_is_told_of_the_operation_that_it_was() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    plane.change(|state| state.room = Some(1));
    let outcomes = rig.operate(&[
        add_service(1),
        add_server(1, [0, 1]),
        add_server(1, [0, 2]),
        add_service(2),
    ]);
    let [
        Outcome::Done,
        Outcome::Done,
        Outcome::Refused(error),
        Outcome::Done,
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert!(error.to_string().contains("no room"), "{error}");
    let wanted = rig.table();
    assert_eq!(plane.state().table, wanted);
    rig.stop();
}

#[test]
fn ten_thousand_operations_are_one_pass() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    let mut operations = vec![Operation::Flush];
    for service in 0..100 {
        operations.push(add_service(service));
        operations.extend((0..99).map(|server| add_server(service, [service, server])));
    }
    let outcomes = rig.operate(&operations);
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done));
    assert_eq!(plane.state().changes.len(), 10_000);
    let wanted = rig.table();
    assert_eq!(plane.state().table, wanted);
    rig.stop();
}

#[test]
fn settings_reach_the_data_plane_and_wrong_ones_do_not() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    let set = |name: &str, value: &str| Operation::Set {
        name: name.into(),
        value: value.into(),
    };
    let outcomes = rig.operate(&[set("conn_reuse_mode", "0"), set("conn_reuse_mode", "x")]);
    assert_eq!(outcomes[0], Outcome::Done);
    assert!(matches!(
        &outcomes[1],
        Outcome::Refused(OperationError::Invalid(_))
    ));
    let settings = Settings {
        conn_reuse_mode: 0,
        ..Settings::default()
    };
    assert_eq!(
        plane.state().changes,
        [Change::SetSettings(settings.clone())]
    );
    assert_eq!(rig.table().settings, settings);
    rig.stop();
}

#[test]
fn a_sync_daemon_needs_an_interface_and_takes_its_mtu() {
    let rig = Rig::start(FakePlane::default());
    let start = |interface: &str| {
        Operation::StartSyncDaemon(SyncDaemon {
            role: SyncRole::Master,
            interface: interface.into(),
            sync_id: 5,
            max_length: None,
            group: None,
            port: None,
            ttl: None,
        })
    };
    rig.kernel_says(Event::Link(Link {
        ifindex: 2,
        name: "eth0".into(),
        ethernet: true,
        up: true,
        mac: None,
        mtu: 1500,
        port_of: None,
        vlan_of: None,
    }));
    let refused = |error| vec![Outcome::Refused(error)];
    let outcomes = rig.operate(&[start("eth9")]);
    assert_eq!(outcomes, refused(OperationError::NoSuchDevice));
    assert_eq!(rig.operate(&[start("eth0")]), [Outcome::Done]);
    assert_eq!(rig.table().sync_daemons[0].max_length, Some(1472));
    let outcomes = rig.operate(&[start("eth9")]);
    assert_eq!(outcomes, refused(OperationError::DaemonRuns));
    rig.stop();
}

#[test]
fn the_status_warns_of_a_host_that_does_not_forward_and_of_addresses_that_nobody_has() {
    let plane = FakePlane::default();
    let rig = Rig::start(plane.clone());
    plane.change(|state| {
        state.host_does_not_forward = true;
        state.own_addresses = vec![[192, 168, 56, 1].into()];
    });
    assert_eq!(rig.status().warnings, [""; 0], "nothing to do yet");
    rig.operate(&[add_service(1), add_service(2)]);
    let warnings = rig.status().warnings;
    assert!(
        warnings[0].contains("sysctl -w net.ipv4.ip_forward=1"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("no interface here has the address 192.168.56.2"),
        "{warnings:?}"
    );
    assert_eq!(warnings.len(), 2);
    rig.stop();
}
