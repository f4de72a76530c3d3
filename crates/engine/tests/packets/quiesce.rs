//! Servers that are quiesced, removed or have enough connections (as recorded in golden/quiesce.jsonl).

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_engine::{
    host::{Hook, HostTables, ServerOptions, ServiceOptions},
    pipeline::Verdict,
    reason::Reason,
    schedule::Scheduler,
    settings,
    tables::{Service, Tables},
};

use crate::{
    director::{BACK, FRONT, VIRTUAL, director, forwarded, next_hop, send},
    wire::{ACK, RST, SYN, Spec, TCP, UDP},
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(VIRTUAL, 8000);

fn server(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, number), 80)
}

fn client(port: u16) -> SocketAddrV4 {
    crate::director::client(port)
}

/// A director with a service of two servers; with thresholds of the first.
fn with_thresholds(protocol: u8, upper: u32, lower: u32) -> (HostTables, u32) {
    let mut tables = director();
    let service = tables
        .add_service(SERVICE, protocol, Scheduler::Rr)
        .unwrap();
    for (number, upper, lower) in [(1, upper, lower), (2, 0, 0)] {
        let end = server(number);
        tables.set_next_hop(*end.ip(), next_hop(1500)).unwrap();
        let options = ServerOptions {
            upper,
            lower,
            ..ServerOptions::masqueraded(1)
        };
        tables.add_server_with(service, end, &options).unwrap();
    }
    (tables, service)
}

fn at(tables: &HostTables, number: u8) -> u32 {
    let service = tables.service_at(SERVICE, TCP);
    let service = service.or_else(|| tables.service_at(SERVICE, UDP)).unwrap();
    tables.server_at(service, server(number)).unwrap()
}

fn on(tables: &HostTables, setting: u32) {
    let settings = &tables.settings().settings;
    settings.set(settings.get() | setting);
}

/// Where a packet goes: the number of its server; 0 when the client is told that there is none.
fn goes(hook: Hook, tables: &HostTables, packet: &Spec) -> u8 {
    let (verdict, sent) = send(hook, tables, &packet.packet());
    match verdict {
        Verdict::Redirect(BACK) => sent[19],
        Verdict::Redirect(FRONT) => {
            assert_eq!(sent[20..22], [3, 3]);
            0
        }
        other => panic!("{other:?}"),
    }
}

fn asks(hook: Hook, tables: &HostTables, port: u16) -> u8 {
    goes(hook, tables, &Spec::tcp(client(port), SERVICE, SYN))
}

fn opens(hook: Hook, tables: &HostTables, port: u16) -> u8 {
    let number = asks(hook, tables, port);
    let reply = Spec::tcp(server(number), client(port), SYN | ACK);
    forwarded(hook, tables, &reply.packet(), FRONT);
    goes(hook, tables, &Spec::tcp(client(port), SERVICE, ACK))
}

/// Have the client end its connection by a reset, and that be forgotten.
fn ends(hook: Hook, tables: &HostTables, port: u16) {
    goes(hook, tables, &Spec::tcp(client(port), SERVICE, RST));
    tables.advance_ms(11_000);
    tables.sweep();
}

fn total(tables: &HostTables, number: u8) -> u32 {
    tables.counts(at(tables, number)).unwrap().total.get()
}

#[test]
fn a_server_at_its_upper_threshold_gets_no_more_until_it_is_below_the_lower_one() {
    for hook in Hook::ALL {
        let (tables, _) = with_thresholds(TCP, 4, 2);
        let got: Vec<_> = (0..11).map(|port| opens(hook, &tables, port)).collect();
        assert_eq!(got, [2, 1, 2, 1, 2, 1, 2, 1, 2, 2, 2]);
        for (port, next) in [(1, 2), (3, 2)] {
            ends(hook, &tables, port);
            assert_eq!(opens(hook, &tables, 100 + port), next);
        }
        // Two are left: not below two.
        assert_eq!(total(&tables, 1), 2);
        ends(hook, &tables, 5);
        let got: Vec<_> = (200..206).map(|port| opens(hook, &tables, port)).collect();
        assert_eq!(got, [1, 2, 1, 2, 1, 2]);
    }
}

#[test]
fn without_a_lower_threshold_three_quarters_of_the_upper_one_take_its_place() {
    for hook in Hook::ALL {
        let (tables, _) = with_thresholds(TCP, 4, 0);
        tables.remove_server(at(&tables, 2)).unwrap();
        let got: Vec<_> = (0..4).map(|port| opens(hook, &tables, port)).collect();
        assert_eq!(got, [1; 4]);
        assert_eq!(asks(hook, &tables, 4), 0);
        ends(hook, &tables, 0);
        assert_eq!((total(&tables, 1), asks(hook, &tables, 5)), (3, 0));
        ends(hook, &tables, 1);
        assert_eq!((total(&tables, 1), asks(hook, &tables, 6)), (2, 1));
    }
}

#[test]
fn a_template_keeps_a_server_that_has_enough() {
    for hook in Hook::ALL {
        let (tables, service) = with_thresholds(TCP, 1, 0);
        let options = ServiceOptions {
            persistence: 60,
            ..ServiceOptions::default()
        };
        tables.set_options(service, &options).unwrap();
        tables.remove_server(at(&tables, 2)).unwrap();
        assert_eq!((opens(hook, &tables, 1), opens(hook, &tables, 2)), (1, 1));
        assert_eq!(total(&tables, 1), 2);
        let other = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 101), 1);
        assert_eq!(goes(hook, &tables, &Spec::tcp(other, SERVICE, SYN)), 0);
    }
}

#[test]
fn a_packet_by_itself_counts_towards_thresholds_while_it_passes() {
    for hook in Hook::ALL {
        let (tables, service) = with_thresholds(UDP, 4, 3);
        let datagram = Spec::udp(client(1), SERVICE, 8);
        tables.remove_server(at(&tables, 2)).unwrap();
        for port in 1..=3 {
            assert_eq!(goes(hook, &tables, &Spec::udp(client(port), SERVICE, 8)), 1);
        }
        let options = ServiceOptions {
            flags: Service::ONE_PACKET,
            ..ServiceOptions::default()
        };
        tables.set_options(service, &options).unwrap();
        // The fourth: it passes, and three that are left are not below three.
        let other = Spec::udp(client(9), SERVICE, 8);
        assert_eq!(goes(hook, &tables, &other), 1);
        assert_eq!(goes(hook, &tables, &other), 0);
        assert_eq!(goes(hook, &tables, &datagram), 1, "it has a connection");
        assert_eq!(total(&tables, 1), 3);
    }
}

#[test]
fn a_removed_servers_connections_wait_for_it_or_end_with_their_next_packet() {
    for hook in Hook::ALL {
        let (mut tables, service) = with_thresholds(TCP, 0, 0);
        assert_eq!((opens(hook, &tables, 1), opens(hook, &tables, 2)), (2, 1));
        let second = at(&tables, 2);
        tables.remove_server(second).unwrap();
        let data = Spec::tcp(client(1), SERVICE, ACK).packet();
        for packet in [&data, &Spec::tcp(client(1), SERVICE, SYN).packet()] {
            let (verdict, _) = send(hook, &tables, packet);
            assert_eq!(verdict, Verdict::Drop(Reason::ServerRemoved));
        }
        tables.add_server(service, server(2), 1).unwrap();
        assert_eq!(opens(hook, &tables, 1), 2, "it comes back to them");
        tables.remove_server(second).unwrap();
        on(&tables, settings::EXPIRE_NODEST_CONN);
        let (verdict, _) = send(hook, &tables, &data);
        assert_eq!(verdict, Verdict::Pass(Reason::NotSyn), "the host resets it");
        assert_eq!(tables.counts(second).unwrap().total.get(), 0);
        assert_eq!(opens(hook, &tables, 1), 1);
    }
}

#[test]
fn datagrams_of_a_removed_server_go_to_another_where_connections_without_server_end() {
    for hook in Hook::ALL {
        let (tables, _) = with_thresholds(UDP, 0, 0);
        let datagram = Spec::udp(client(1), SERVICE, 8);
        assert_eq!(goes(hook, &tables, &datagram), 2);
        on(&tables, settings::EXPIRE_NODEST_CONN);
        tables.remove_server(at(&tables, 2)).unwrap();
        assert_eq!(goes(hook, &tables, &datagram), 1);
        assert_eq!(tables.connections().len(), 1);
    }
}

#[test]
fn connections_without_server_end_without_a_packet_too() {
    let (tables, _) = with_thresholds(TCP, 0, 0);
    for port in 0..10 {
        opens(Hook::Tc, &tables, port);
    }
    let second = at(&tables, 2);
    tables.remove_server(second).unwrap();
    tables.sweep();
    assert_eq!(tables.connections().len(), 10);
    on(&tables, settings::EXPIRE_NODEST_CONN);
    tables.sweep();
    assert_eq!(tables.connections().len(), 5);
    let counts = tables.counts(second).unwrap();
    assert_eq!((counts.active.get(), counts.total.get()), (0, 0));
}

#[test]
fn a_quiesced_server_keeps_its_connections_and_gets_no_request_anew_where_such_end() {
    for hook in Hook::ALL {
        let (tables, _) = with_thresholds(TCP, 0, 0);
        assert_eq!(opens(hook, &tables, 1), 2);
        tables.set_weight(at(&tables, 2), 0).unwrap();
        // The same client and port, in the middle of it: the request stays on the connection.
        assert_eq!(asks(hook, &tables, 1), 2);
        on(&tables, settings::EXPIRE_NODEST_CONN);
        assert_eq!(goes(hook, &tables, &Spec::tcp(client(1), SERVICE, ACK)), 2);
        tables.sweep();
        assert_eq!(asks(hook, &tables, 1), 1);
        assert_eq!(tables.connections().len(), 1);
        assert_eq!((total(&tables, 1), total(&tables, 2)), (1, 0));
    }
}
