//! Random tables for the tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::{prelude::*, sample::select};

use crate::{
    model::{
        Family, Forward, Persistence, Protocol, SchedulerName, Server, ServerKey, Service,
        ServiceConfig, ServiceKey, Settings, SyncThreshold, Table, Timeouts, Tunnel,
        TunnelChecksum, TunnelKind,
    },
    operation::SCHEDULERS,
};

/// A table that the kernel could hold and that ipvsadm could have made. Keys come from a small world, so
/// that two tables have much in common.
pub(crate) fn table() -> impl Strategy<Value = Table> {
    (
        prop::collection::vec(service(), 0..5),
        timeouts(),
        settings(),
    )
        .prop_map(|(mut services, timeouts, settings)| {
            let mut seen = Vec::new();
            services.retain(|service| {
                let new = !seen.contains(&service.config.key);
                seen.push(service.config.key);
                new
            });
            Table {
                services,
                timeouts,
                settings,
                sync_daemons: Vec::new(),
            }
        })
}

/// Make tables comparable that went through `-S` and `-R`.
pub(crate) fn forget_what_is_not_saved(table: &mut Table) {
    table.timeouts = Timeouts::default();
    table.settings = Settings::default();
    table.sync_daemons.clear();
    table.services.sort_by_key(|service| service.config.key);
    for service in &mut table.services {
        service.config.slow_start = 0;
        service.servers.sort_by_key(|server| server.key);
        for server in &mut service.servers {
            (server.upper_threshold, server.lower_threshold) = (0, 0);
        }
    }
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    (1..4u32, 1..4u32, 1..4u32).prop_map(|(tcp, tcp_fin, udp)| Timeouts { tcp, tcp_fin, udp })
}

fn settings() -> impl Strategy<Value = Settings> {
    (0..4i32, 0..2i32, 1..9i32).prop_map(|(mode, switch, threshold)| Settings {
        conn_reuse_mode: mode,
        sloppy_tcp: switch,
        sync_threshold: SyncThreshold {
            threshold,
            period: 10,
        },
        ..Settings::default()
    })
}

fn service() -> impl Strategy<Value = Service> {
    key()
        .prop_flat_map(|key| (config(key), prop::collection::vec(server(key), 0..6)))
        .prop_map(|(config, mut servers)| {
            let mut seen = Vec::new();
            servers.retain(|server| {
                let new = !seen.contains(&server.key);
                seen.push(server.key);
                new
            });
            Service { config, servers }
        })
}

fn key() -> impl Strategy<Value = ServiceKey> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let family = select(vec![Family::V4, Family::V6]);
    prop_oneof![
        (protocol, family.clone(), 1..3u8, select(vec![0, 80, 443])).prop_map(
            |(protocol, family, host, port)| {
                ServiceKey::Address {
                    protocol,
                    address: address(family, host),
                    port,
                }
            }
        ),
        (select(vec![1, 2, u32::MAX, 1 << 31]), family)
            .prop_map(|(mark, family)| ServiceKey::Mark { mark, family }),
    ]
}

fn address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(host.wrapping_mul(90), 0, 0, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

fn config(key: ServiceKey) -> impl Strategy<Value = ServiceConfig> {
    let every_port = matches!(key, ServiceKey::Address { port: 0, .. });
    let one_packet = !matches!(
        key,
        ServiceKey::Address {
            protocol: Protocol::Tcp | Protocol::Sctp,
            ..
        }
    );
    let netmask = match key.family() {
        Family::V4 => select(vec![u32::MAX, 0xffff_ff00, 0]),
        Family::V6 => select(vec![128, 64, 1]),
    };
    let persistence =
        (1..1000u32, netmask).prop_map(|(timeout, netmask)| Persistence { timeout, netmask });
    (
        select(SCHEDULERS.to_vec()),
        // The third flag has no name with sh and mh, and is not saved then.
        select(vec![0, 8, 16, 24]),
        prop::option::of(persistence.clone()),
        persistence,
        prop::option::of(Just("sip".to_owned())),
        any::<bool>(),
        0..3u32,
    )
        .prop_map(
            move |(scheduler, scheduler_flags, perhaps, persistence, engine, ops, slow_start)| {
                ServiceConfig {
                    key,
                    scheduler: SchedulerName(scheduler.to_owned()),
                    scheduler_flags,
                    persistence: if every_port {
                        Some(persistence)
                    } else {
                        perhaps
                    },
                    persistence_engine: engine,
                    one_packet: one_packet && ops,
                    slow_start,
                }
            },
        )
}

fn server(key: ServiceKey) -> impl Strategy<Value = Server> {
    let forward = select(vec![Forward::Masquerade, Forward::Gateway, Forward::Tunnel]);
    (
        forward,
        any::<bool>(),
        1..9u8,
        select(vec![0, 80, 8080]),
        0..5u32,
        0..3u32,
        0..3u32,
        tunnel(),
    )
        .prop_map(
            move |(forward, other_family, host, port, weight, upper, lower, tunnel)| {
                let tunnelled = forward == Forward::Tunnel;
                let family = match key.family() {
                    Family::V4 if tunnelled && other_family => Family::V6,
                    Family::V6 if tunnelled && other_family => Family::V4,
                    family => family,
                };
                let port = match key {
                    ServiceKey::Address { port, .. } if forward != Forward::Masquerade => port,
                    _ => port,
                };
                Server {
                    key: ServerKey {
                        address: address(family, host),
                        port,
                    },
                    forward,
                    weight,
                    upper_threshold: upper + lower,
                    lower_threshold: lower,
                    tunnel: if tunnelled { tunnel } else { Tunnel::default() },
                }
            },
        )
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let checksum = select(vec![
        TunnelChecksum::None,
        TunnelChecksum::Full,
        TunnelChecksum::Remote,
    ]);
    (
        select(vec![TunnelKind::Ipip, TunnelKind::Gue, TunnelKind::Gre]),
        1..u16::MAX,
        checksum,
    )
        .prop_map(|(kind, port, checksum)| match kind {
            TunnelKind::Ipip => Tunnel::default(),
            TunnelKind::Gue => Tunnel {
                kind,
                port,
                checksum,
            },
            TunnelKind::Gre if checksum == TunnelChecksum::Remote => Tunnel {
                kind,
                port: 0,
                checksum: TunnelChecksum::None,
            },
            TunnelKind::Gre => Tunnel {
                kind,
                port: 0,
                checksum,
            },
        })
}
