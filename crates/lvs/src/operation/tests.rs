//! Tests of operations on a table.

use super::*;
use crate::model::{Forward, Persistence, Protocol, SchedulerName, Tunnel, TunnelKind};

fn key(port: u16) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: [10, 0, 0, 1].into(),
        port,
    }
}

fn config(port: u16, scheduler: &str) -> ServiceConfig {
    ServiceConfig {
        key: key(port),
        scheduler: SchedulerName(scheduler.to_owned()),
        scheduler_flags: 0,
        persistence: None,
        persistence_engine: None,
        one_packet: false,
        slow_start: 0,
    }
}

fn server(host: u8) -> Server {
    Server {
        key: ServerKey {
            address: [192, 168, 1, host].into(),
            port: 80,
        },
        forward: Forward::Masquerade,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        tunnel: Tunnel::default(),
    }
}

fn add(host: u8) -> Operation {
    Operation::AddServer {
        service: key(80),
        server: server(host),
    }
}

fn set(name: &str, value: &str) -> Operation {
    Operation::Set {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn add_changed(change: impl FnOnce(&mut Server)) -> Operation {
    let mut server = server(9);
    change(&mut server);
    Operation::AddServer {
        service: key(80),
        server,
    }
}

fn table() -> Table {
    let mut table = Table::default();
    for operation in [Operation::AddService(config(80, "rr")), add(1), add(2)] {
        table.apply(&operation).unwrap();
    }
    table
}

#[test]
fn new_servers_come_first_and_edited_ones_stay() {
    let mut table = table();
    let edited = Server {
        weight: 7,
        ..server(1)
    };
    table
        .apply(&Operation::EditServer {
            service: key(80),
            server: edited,
        })
        .unwrap();
    assert_eq!(table.services[0].servers, [server(2), edited]);
}

#[test]
fn an_edited_service_keeps_its_servers() {
    let mut table = table();
    table
        .apply(&Operation::EditService(config(80, "wrr")))
        .unwrap();
    assert_eq!(table.services[0].config, config(80, "wrr"));
    assert_eq!(table.services[0].servers.len(), 2);
}

#[test]
fn timeouts_of_zero_are_kept() {
    let mut table = table();
    table
        .apply(&Operation::SetTimeouts(Timeouts {
            tcp: 0,
            tcp_fin: 5,
            udp: 0,
        }))
        .unwrap();
    assert_eq!(
        table.timeouts,
        Timeouts {
            tcp: 900,
            tcp_fin: 5,
            udp: 300
        }
    );
}

#[test]
fn refusals_are_those_of_the_kernel_in_its_order_and_change_nothing() {
    use OperationError as E;
    let elsewhere = |server| Operation::AddServer {
        service: key(81),
        server,
    };
    let multicast = Server {
        key: ServerKey {
            address: [224, 0, 0, 1].into(),
            port: 80,
        },
        ..server(1)
    };
    let narrow = |server: Server| Server {
        lower_threshold: 2,
        upper_threshold: 1,
        ..server
    };
    let add_server = |server| Operation::AddServer {
        service: key(80),
        server,
    };
    let edit_server = |server| Operation::EditServer {
        service: key(80),
        server,
    };
    for (operation, error) in [
        (
            Operation::AddService(config(80, "nosuch")),
            E::ServiceExists,
        ),
        (
            Operation::AddService(config(81, "nosuch")),
            E::NoSuchScheduler,
        ),
        (Operation::AddService(config(81, "RR")), E::NoSuchScheduler),
        (
            Operation::EditService(config(81, "nosuch")),
            E::NoSuchService,
        ),
        (
            Operation::EditService(config(80, "nosuch")),
            E::NoSuchScheduler,
        ),
        (Operation::DeleteService(key(81)), E::NoSuchService),
        (Operation::Zero(Some(key(81))), E::NoSuchService),
        (elsewhere(narrow(multicast)), E::NoSuchService),
        (add_server(narrow(multicast)), E::ThresholdsOutOfRange),
        (add_server(narrow(server(1))), E::ThresholdsOutOfRange),
        (add_server(multicast), E::AddressNotUnicast),
        (add_server(server(1)), E::ServerExists),
        (edit_server(narrow(server(9))), E::ThresholdsOutOfRange),
        (edit_server(multicast), E::NoSuchServer),
        (
            Operation::DeleteServer {
                service: key(80),
                server: multicast.key,
            },
            E::NoSuchServer,
        ),
        (
            Operation::DeleteServer {
                service: key(81),
                server: multicast.key,
            },
            E::NoSuchService,
        ),
        (
            add_changed(|server| server.weight = 1 << 31),
            E::WeightOutOfRange,
        ),
    ] {
        let mut after = table();
        assert_eq!(after.apply(&operation), Err(error), "{operation:?}");
        assert_eq!(after, table(), "{operation:?}");
    }
    for operation in [
        add_changed(|server| server.upper_threshold = 1 << 31),
        add_changed(|server| server.tunnel.kind = TunnelKind::Gue),
        add_changed(|server| server.key.address = "fd00::1".parse().unwrap()),
    ] {
        assert!(
            matches!(table().apply(&operation), Err(E::Invalid(_))),
            "{operation:?}"
        );
    }
}

#[test]
fn this_build_forwards_masqueraded_tcp_and_udp_by_rr_and_wrr() {
    let udp = ServiceConfig {
        key: ServiceKey::Address {
            protocol: Protocol::Udp,
            address: [10, 0, 0, 1].into(),
            port: 53,
        },
        ..config(80, "wrr")
    };
    for operation in [
        Operation::AddService(config(80, "rr")),
        Operation::EditService(udp),
        add(1),
    ] {
        assert_eq!(supported(&operation), Ok(()));
    }
}

#[test]
fn this_build_refuses_the_rest_and_names_it() {
    let service = |change: fn(&mut ServiceConfig)| {
        let mut config = config(80, "rr");
        change(&mut config);
        Operation::AddService(config)
    };
    for (operation, word) in [
        (
            service(|s| {
                s.key = ServiceKey::Mark {
                    mark: 1,
                    family: crate::model::Family::V4,
                }
            }),
            "-f",
        ),
        (
            service(|s| {
                s.key = ServiceKey::Address {
                    protocol: Protocol::Sctp,
                    address: [10, 0, 0, 1].into(),
                    port: 80,
                };
            }),
            "SCTP",
        ),
        (
            service(|s| {
                s.key = ServiceKey::Address {
                    protocol: Protocol::Tcp,
                    address: "fd00::1".parse().unwrap(),
                    port: 80,
                };
            }),
            "IPv6",
        ),
        (
            service(|s| s.persistence_engine = Some("sip".into())),
            "--pe",
        ),
        (
            add_changed(|s| s.key.address = "fd00::1".parse().unwrap()),
            "IPv6",
        ),
    ] {
        match supported(&operation) {
            Err(OperationError::Unsupported(text)) => {
                assert!(text.contains(word), "{text}");
                assert!(!text.contains('\n'), "{text}");
            }
            other => panic!("{operation:?}: {other:?}"),
        }
    }
    for operation in [
        service(|s| s.key = key(0)),
        service(|s| s.scheduler.0 = "maglev".into()),
        service(|s| s.scheduler_flags = 8),
        service(|s| s.one_packet = true),
        service(|s| {
            s.persistence = Some(Persistence {
                timeout: 1,
                netmask: 0,
            });
        }),
        add_changed(|s| s.forward = Forward::Gateway),
        add_changed(|s| {
            s.forward = Forward::Tunnel;
            s.tunnel.kind = TunnelKind::Gre;
        }),
        add_changed(|s| s.key.port = 0),
        add_changed(|s| s.upper_threshold = 1),
    ] {
        assert_eq!(supported(&operation), Ok(()), "{operation:?}");
    }
    // Nobody knows this one: Table::apply has the words for it.
    assert_eq!(
        supported(&Operation::AddService(config(80, "nosuch"))),
        Ok(())
    );
}

#[test]
fn twos_is_there_when_it_was_asked_for() {
    let mut table = Table::default();
    let twos = Operation::AddService(config(80, "twos"));
    assert_eq!(table.apply(&twos), Err(OperationError::NoSuchScheduler));
    table.apply(&set("scheduler_twos", "1")).unwrap();
    assert_eq!(table.apply(&twos), Ok(()));
    // A service keeps the scheduler that it has.
    table.apply(&set("scheduler_twos", "0")).unwrap();
    assert_eq!(table.services.len(), 1);
}

#[test]
fn settings_are_set_one_by_one_or_all_together_or_not_at_all() {
    let mut table = Table::default();
    table.apply(&set("sync_threshold", "5 10")).unwrap();
    assert_eq!(table.settings.sync_threshold.threshold, 5);
    let refused = table.apply(&set("drop_packet", "7")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "drop_packet cannot be \"7\": it takes a number from 0 to 3, by default 0"
    );
    let wrong = Settings {
        sync_ports: 3,
        ..Settings::default()
    };
    assert!(table.apply(&Operation::SetSettings(wrong)).is_err());
    assert_eq!(table.settings.sync_threshold.threshold, 5);
    table
        .apply(&Operation::SetSettings(Settings::default()))
        .unwrap();
    assert_eq!(table, Table::default());
}

#[test]
fn one_sync_daemon_of_each_role_runs() {
    let mut table = Table::default();
    let start = |role| {
        Operation::StartSyncDaemon(SyncDaemon {
            role,
            interface: "eth0".into(),
            sync_id: 1,
            max_length: None,
            group: None,
            port: None,
            ttl: None,
        })
    };
    let stop = Operation::StopSyncDaemon(SyncRole::Master);
    assert_eq!(table.apply(&stop), Err(OperationError::DaemonDoesNotRun));
    table.apply(&start(SyncRole::Master)).unwrap();
    table.apply(&start(SyncRole::Backup)).unwrap();
    assert_eq!(
        table.apply(&start(SyncRole::Master)),
        Err(OperationError::DaemonRuns)
    );
    table.apply(&stop).unwrap();
    assert_eq!(table.sync_daemons.len(), 1);
}

#[test]
fn servers_of_another_family_and_sync_daemons_exclude_each_other() {
    let mixed = add_changed(|server| {
        server.key.address = "fd00::1".parse().unwrap();
        server.forward = Forward::Tunnel;
    });
    let backup = Operation::StartSyncDaemon(SyncDaemon {
        role: SyncRole::Backup,
        interface: "eth0".into(),
        sync_id: 1,
        max_length: None,
        group: None,
        port: None,
        ttl: None,
    });
    for [first, second] in [[&mixed, &backup], [&backup, &mixed]] {
        let mut table = table();
        table.apply(first).unwrap();
        let refused = table.apply(second);
        assert!(
            matches!(refused, Err(OperationError::Invalid(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn operations_survive_json() {
    for operation in [
        Operation::AddService(config(80, "rr")),
        add(1),
        Operation::Flush,
        Operation::Zero(None),
        Operation::DeleteServer {
            service: key(80),
            server: server(1).key,
        },
    ] {
        let text = serde_json::to_string(&operation).unwrap();
        assert_eq!(
            serde_json::from_str::<Operation>(&text).unwrap(),
            operation,
            "{text}"
        );
    }
    let text = serde_json::to_string(&OperationError::Unsupported("x".into())).unwrap();
    assert_eq!(text, r#"{"unsupported":"x"}"#);
}
