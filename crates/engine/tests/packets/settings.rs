//! Settings of connections: reuse of ports, sloppy TCP, the defences against floods (golden/states.jsonl and
//! others.jsonl).

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_engine::{
    host::{Hook, HostTables, Method, ServerOptions, ServiceOptions},
    pipeline::Verdict,
    reason::Reason,
    schedule::Scheduler,
    settings,
    tables::Tables,
};

use crate::{
    director::{BACK, FRONT, VIRTUAL, client, director, forwarded, next_hop, send},
    wire::{ACK, FIN, RST, SYN, Spec, TCP},
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(VIRTUAL, 8000);

fn server(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, number), 8000)
}

/// A director with a service of two servers.
fn of_method(method: Method) -> (HostTables, u32) {
    let mut tables = director();
    let service = tables.add_service(SERVICE, TCP, Scheduler::Rr).unwrap();
    for number in 1..=2 {
        let end = server(number);
        tables.set_next_hop(*end.ip(), next_hop(1500)).unwrap();
        let options = ServerOptions {
            method,
            ..ServerOptions::masqueraded(1)
        };
        tables.add_server_with(service, end, &options).unwrap();
    }
    (tables, service)
}

fn on(tables: &HostTables, setting: u32) {
    let settings = &tables.settings().settings;
    settings.set(settings.get() | setting);
}

/// Send a client's packet, which must be forwarded; gives how many connections there were made by now.
fn says(hook: Hook, tables: &HostTables, port: u16, flags: u8) -> u64 {
    let packet = Spec::tcp(client(port), SERVICE, flags).packet();
    forwarded(hook, tables, &packet, BACK);
    made(tables)
}

fn made(tables: &HostTables) -> u64 {
    let of = |server| tables.counters(server).unwrap().connections.get();
    (0..8).map(of).sum()
}

fn state(tables: &HostTables) -> &'static str {
    let all = tables.connections();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].state
}

#[test]
fn a_port_is_used_again_as_the_mode_says() {
    // Mode, by direct routing or not, the state that the connection is left in, whether a request makes a new one.
    let rows = [
        (0, false, "TIME_WAIT", false),
        (0, false, "CLOSE", false),
        (1, false, "TIME_WAIT", true),
        (1, false, "CLOSE", true),
        (1, false, "ESTABLISHED", false),
        (1, false, "CLOSE_WAIT", false),
        (1, true, "FIN_WAIT", false),
        (1, true, "CLOSE", true),
        (2, false, "TIME_WAIT", true),
        (2, false, "FIN_WAIT", false),
        (2, true, "FIN_WAIT", true),
        (3, true, "FIN_WAIT", true),
        (3, true, "ESTABLISHED", false),
    ];
    for hook in Hook::ALL {
        for (mode, direct, left_in, anew) in rows {
            let method = if direct {
                Method::Gateway
            } else {
                Method::Masquerade
            };
            let (tables, _) = of_method(method);
            tables.settings().conn_reuse_mode.set(mode);
            says(hook, &tables, 1, SYN);
            says(hook, &tables, 1, ACK);
            let answers = |flags| {
                let packet = Spec::tcp(server(2), client(1), flags).packet();
                forwarded(hook, &tables, &packet, FRONT);
            };
            match (left_in, direct) {
                ("CLOSE", _) => drop(says(hook, &tables, 1, RST)),
                ("CLOSE_WAIT", _) | ("FIN_WAIT", true) => drop(says(hook, &tables, 1, FIN | ACK)),
                ("FIN_WAIT", false) => answers(FIN | ACK),
                ("TIME_WAIT", _) => {
                    says(hook, &tables, 1, FIN | ACK);
                    answers(FIN | ACK);
                }
                _ => {}
            }
            assert_eq!(state(&tables), left_in);
            let made = says(hook, &tables, 1, SYN);
            assert_eq!(made, 1 + u64::from(anew), "{mode} {direct} {left_in}");
            assert_eq!(tables.connections().len(), 1);
        }
    }
}

#[test]
fn sloppy_tcp_takes_what_is_under_way_but_no_reset() {
    for hook in Hook::ALL {
        let (tables, _) = of_method(Method::Masquerade);
        let ack = Spec::tcp(client(1), SERVICE, ACK).packet();
        assert_eq!(send(hook, &tables, &ack).0, Verdict::Pass(Reason::NotSyn));
        on(&tables, settings::SLOPPY_TCP);
        for flags in [RST, RST | SYN] {
            let packet = Spec::tcp(client(1), SERVICE, flags).packet();
            assert_eq!(
                send(hook, &tables, &packet).0,
                Verdict::Pass(Reason::NotSyn)
            );
        }
        assert_eq!(says(hook, &tables, 1, ACK), 1);
        assert_eq!(state(&tables), "ESTABLISHED");
        assert_eq!(says(hook, &tables, 2, FIN | ACK), 2);
    }
}

#[test]
fn one_new_connection_in_so_many_is_dropped_beginning_with_the_first() {
    for hook in Hook::ALL {
        let (tables, _) = of_method(Method::Masquerade);
        tables.settings().drop_rate.set(3);
        let is_dropped = |port| {
            let packet = Spec::tcp(client(port), SERVICE, SYN).packet();
            send(hook, &tables, &packet).0 == Verdict::Drop(Reason::DropRate)
        };
        let dropped: Vec<_> = (0..9).filter(|&port| is_dropped(port)).collect();
        assert_eq!(dropped, [0, 3, 6]);
        assert_eq!(tables.reasons(), [(Reason::DropRate, 3)]);
        // What has a connection is not asked, nor what has no service.
        assert_eq!(says(hook, &tables, 1, ACK), 6);
        let packet = Spec::tcp(client(1), SocketAddrV4::new(VIRTUAL, 7), SYN).packet();
        assert_eq!(
            send(hook, &tables, &packet).0,
            Verdict::Pass(Reason::NoService)
        );
        tables.settings().drop_rate.set(0);
        assert!(!is_dropped(0));
    }
}

#[test]
fn drop_entry_takes_out_half_open_connections_and_what_is_in_no_earnest() {
    let (tables, service) = of_method(Method::Masquerade);
    let hook = Hook::Tc;
    let options = ServiceOptions {
        persistence: 600,
        ..ServiceOptions::default()
    };
    says(hook, &tables, 1, SYN);
    says(hook, &tables, 1, ACK);
    tables.set_options(service, &options).unwrap();
    let forged = |number: u32| SocketAddrV4::new(Ipv4Addr::from(0x0b00_0000 + number), 1);
    for number in 0..300 {
        let packet = Spec::tcp(forged(number), SERVICE, SYN).packet();
        forwarded(hook, &tables, &packet, BACK);
    }
    assert_eq!(tables.connections().len(), 601);
    tables.sweep();
    assert_eq!(tables.connections().len(), 601);
    on(&tables, settings::DROP_ENTRY);
    tables.sweep();
    let left = tables.connections().len();
    assert!(left < 601 && left > 500, "{left}");
    for _ in 0..600 {
        tables.sweep();
    }
    // Its time is not up: the established one is there.
    assert_eq!(state(&tables), "ESTABLISHED");
    for server in 0..8 {
        let counts = tables.counts(server).unwrap();
        assert_eq!(counts.persistent.get(), 0);
        assert_eq!(counts.total.get(), counts.active.get());
    }
}
