//! Tests of planning.

use proptest::prelude::*;

use super::*;
use crate::{
    model::{Forward, Protocol, SchedulerName, Tunnel},
    testing,
};

const KEY: ServiceKey = ServiceKey::Address {
    protocol: Protocol::Tcp,
    address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
    port: 80,
};

fn server(host: u8, weight: u32) -> Server {
    Server {
        key: ServerKey {
            address: [192, 168, 1, host].into(),
            port: 80,
        },
        forward: Forward::Masquerade,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
        tunnel: Tunnel::default(),
    }
}

fn table(scheduler: &str, servers: &[Server]) -> Table {
    let config = ServiceConfig {
        key: KEY,
        scheduler: SchedulerName(scheduler.to_owned()),
        scheduler_flags: 0,
        persistence: None,
        persistence_engine: None,
        one_packet: false,
        slow_start: 0,
    };
    Table {
        services: vec![Service {
            config,
            servers: servers.to_vec(),
        }],
        ..Table::default()
    }
}

fn add(server: Server) -> Change {
    Change::AddServer {
        service: KEY,
        server,
    }
}

fn remove(server: Server) -> Change {
    Change::RemoveServer {
        service: KEY,
        server: server.key,
    }
}

#[test]
fn an_empty_director_is_filled_from_the_tail_of_each_list() {
    let desired = table("rr", &[server(3, 1), server(2, 1)]);
    let config = desired.services[0].config.clone();
    assert_eq!(
        plan(&Table::default(), &desired),
        [
            Change::AddService(config),
            add(server(2, 1)),
            add(server(3, 1))
        ]
    );
}

#[test]
fn a_new_weight_is_an_edit_in_place() {
    let observed = table("rr", &[server(2, 1), server(1, 1)]);
    let desired = table("rr", &[server(2, 1), server(1, 5)]);
    assert_eq!(
        plan(&observed, &desired),
        [Change::EditServer {
            service: KEY,
            server: server(1, 5)
        }]
    );
}

#[test]
fn a_server_is_replaced_without_leaving_the_service_empty() {
    let observed = table("rr", &[server(1, 1)]);
    let desired = table("rr", &[server(2, 1)]);
    assert_eq!(
        plan(&observed, &desired),
        [add(server(2, 1)), remove(server(1, 1))]
    );
}

#[test]
fn only_the_servers_out_of_order_are_added_again() {
    let observed = table("rr", &[server(3, 1), server(2, 1), server(1, 1)]);
    let desired = table("rr", &[server(2, 1), server(3, 1), server(1, 1)]);
    assert_eq!(
        plan(&observed, &desired),
        [remove(server(2, 1)), add(server(2, 1))]
    );
}

#[test]
fn another_scheduler_leaves_the_servers_alone() {
    let observed = table("rr", &[server(1, 1)]);
    let desired = table("wrr", &[server(1, 1)]);
    assert_eq!(
        plan(&observed, &desired),
        [Change::EditService(desired.services[0].config.clone())]
    );
}

fn sorted(mut table: Table) -> Table {
    table.services.sort_by_key(|service| service.config.key);
    table
}

proptest! {
    #[test]
    fn a_plan_leads_to_what_is_desired(observed in testing::table(), desired in testing::table()) {
        let mut table = observed.clone();
        for change in plan(&observed, &desired) {
            change.apply_to(&mut table);
        }
        prop_assert_eq!(&sorted(table), &sorted(desired));
    }

    #[test]
    fn nothing_is_planned_when_nothing_differs(table in testing::table()) {
        prop_assert_eq!(plan(&table, &table), []);
    }

    #[test]
    fn a_service_with_servers_before_and_after_has_some_all_the_time(
        observed in testing::table(),
        desired in testing::table(),
    ) {
        let has_servers = |table: &Table, key| table.service(key).is_some_and(|s| !s.servers.is_empty());
        let mut table = observed.clone();
        for change in plan(&observed, &desired) {
            change.apply_to(&mut table);
            for service in &desired.services {
                let key = &service.config.key;
                if has_servers(&observed, key) && has_servers(&desired, key) {
                    prop_assert!(has_servers(&table, key));
                }
            }
        }
    }
}
