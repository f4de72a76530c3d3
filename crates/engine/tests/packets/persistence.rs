//! Persistence and one-packet scheduling: which server a client keeps, and for how long (as recorded in
//! golden/persistence.jsonl).

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_engine::{
    host::{Hook, HostTables, ServiceOptions},
    pipeline::Verdict,
    reason::Reason,
    schedule::Scheduler,
    settings,
    tables::{Service, Tables},
};

use crate::{
    director::{BACK, FRONT, VIRTUAL, client, director, forwarded, next_hop, send},
    wire::{ACK, FIN, SYN, Spec, TCP, UDP},
};

/// A service on another port than those of the director of the other tests.
fn end(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(VIRTUAL, port)
}

fn server(number: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, number), port)
}

/// A director with a persistent service that has three servers of weight 1, on ports of their own.
fn persistent(port: u16, protocol: u8, server_port: u16) -> (HostTables, u32) {
    let mut tables = director();
    for number in 1..=3 {
        let address = Ipv4Addr::new(192, 168, 1, number);
        tables.set_next_hop(address, next_hop(1500)).unwrap();
    }
    let service = tables
        .add_service(end(port), protocol, Scheduler::Rr)
        .unwrap();
    for number in 1..=3 {
        let server = server(number, server_port);
        tables.add_server(service, server, 1).unwrap();
    }
    let options = ServiceOptions {
        persistence: 60,
        ..ServiceOptions::default()
    };
    tables.set_options(service, &options).unwrap();
    (tables, service)
}

fn on(tables: &HostTables, setting: u32) {
    let settings = &tables.settings().settings;
    settings.set(settings.get() | setting);
}

fn of(last: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), port)
}

/// Where a request for a connection goes.
fn asks(
    hook: Hook,
    tables: &HostTables,
    client: SocketAddrV4,
    service: SocketAddrV4,
) -> SocketAddrV4 {
    let request = Spec::tcp(client, service, SYN).packet();
    destination(&forwarded(hook, tables, &request, BACK))
}

fn destination(packet: &[u8]) -> SocketAddrV4 {
    let address: [u8; 4] = packet[16..20].try_into().unwrap();
    let port = u16::from_be_bytes([packet[22], packet[23]]);
    SocketAddrV4::new(address.into(), port)
}

/// Open a connection; gives its server.
fn opens(
    hook: Hook,
    tables: &HostTables,
    client: SocketAddrV4,
    service: SocketAddrV4,
) -> SocketAddrV4 {
    let server = asks(hook, tables, client, service);
    let pass = |from, to, flags, way| {
        forwarded(hook, tables, &Spec::tcp(from, to, flags).packet(), way);
    };
    pass(server, client, SYN | ACK, FRONT);
    pass(client, service, ACK, BACK);
    server
}

/// Close a connection from both sides.
fn closes(
    hook: Hook,
    tables: &HostTables,
    client: SocketAddrV4,
    service: SocketAddrV4,
    server: SocketAddrV4,
) {
    let pass = |from, to, flags, way| {
        forwarded(hook, tables, &Spec::tcp(from, to, flags).packet(), way);
    };
    pass(client, service, FIN | ACK, BACK);
    pass(server, client, FIN | ACK, FRONT);
    pass(client, service, ACK, BACK);
}

/// Open a connection and close it; gives its server.
fn visits(
    hook: Hook,
    tables: &HostTables,
    client: SocketAddrV4,
    service: SocketAddrV4,
) -> SocketAddrV4 {
    let server = opens(hook, tables, client, service);
    closes(hook, tables, client, service, server);
    server
}

/// Templates as `ipvsadm -Lnc` lists them.
fn templates(tables: &HostTables) -> Vec<String> {
    let all = tables.connections();
    let templates = all.iter().filter(|c| c.client.port() == 0);
    let row = |c: &furiwake_engine::host::Connection| {
        format!(
            "{} {} {} {} {}",
            c.seconds, c.state, c.client, c.virtual_end, c.server
        )
    };
    templates.map(row).collect()
}

/// Templates, active and inactive connections of a server.
fn counts(tables: &HostTables, service: u32, server: SocketAddrV4) -> (u32, u32, u32) {
    let at = tables.server_at(service, server).unwrap();
    let counts = tables.counts(at).unwrap();
    let (active, total) = (counts.active.get(), counts.total.get());
    (counts.persistent.get(), active, total - active)
}

/// Let time pass as the sweeper sees it.
fn sleep(tables: &HostTables, seconds: u32) {
    for _ in 0..seconds {
        tables.advance_ms(1000);
        tables.sweep();
    }
}

#[test]
fn a_client_keeps_its_server_and_the_template_outlives_its_connections() {
    for hook in Hook::ALL {
        let (tables, service) = persistent(8000, TCP, 80);
        let comes = |last, port, number| {
            let got = opens(hook, &tables, of(last, port), end(8000));
            assert_eq!(got, server(number, 80));
        };
        let goes = |last, port, number| {
            let (client, server) = (of(last, port), server(number, 80));
            closes(hook, &tables, client, end(8000), server);
        };
        for port in 20000..20004 {
            comes(100, port, 3);
        }
        let others = [(101, 2), (102, 1), (103, 3), (104, 2), (105, 1)];
        for (last, number) in others {
            comes(last, 21000, number);
        }
        assert_eq!(
            templates(&tables),
            [
                "60 ASSURED 10.0.0.100:0 10.0.0.1:8000 192.168.1.3:80",
                "60 ASSURED 10.0.0.101:0 10.0.0.1:8000 192.168.1.2:80",
                "60 ASSURED 10.0.0.102:0 10.0.0.1:8000 192.168.1.1:80",
                "60 ASSURED 10.0.0.103:0 10.0.0.1:8000 192.168.1.3:80",
                "60 ASSURED 10.0.0.104:0 10.0.0.1:8000 192.168.1.2:80",
                "60 ASSURED 10.0.0.105:0 10.0.0.1:8000 192.168.1.1:80",
            ]
        );
        sleep(&tables, 1);
        for port in 20000..20004 {
            goes(100, port, 3);
        }
        for (last, number) in others {
            goes(last, 21000, number);
        }
        assert_eq!(counts(&tables, service, server(3, 80)), (2, 0, 5));
        // While there are connections a template lives on for a minute at a time: twice here.
        sleep(&tables, 60);
        assert_eq!(
            templates(&tables)[1],
            "59 ASSURED 10.0.0.101:0 10.0.0.1:8000 192.168.1.2:80"
        );
        comes(100, 22000, 3);
        sleep(&tables, 1);
        goes(100, 22000, 3);
        sleep(&tables, 65);
        // Their connections ended at 121 seconds.
        assert_eq!(counts(&tables, service, server(2, 80)), (2, 0, 0));
        assert_eq!(counts(&tables, service, server(3, 80)), (2, 0, 1));
        assert_eq!(templates(&tables).len(), 6);
        sleep(&tables, 55);
        // 182: the new connection ends, whose template began another minute.
        let left = ["59 ASSURED 10.0.0.100:0 10.0.0.1:8000 192.168.1.3:80"];
        assert_eq!(templates(&tables), left);
        sleep(&tables, 60);
        assert_eq!(tables.connections(), []);
        for number in 1..=3 {
            assert_eq!(counts(&tables, service, server(number, 80)), (0, 0, 0));
        }
    }
}

#[test]
fn a_template_ends_with_connections_that_end_in_the_same_second() {
    for hook in Hook::ALL {
        let (tables, service) = persistent(8000, TCP, 80);
        for port in 1..9 {
            assert_eq!(asks(hook, &tables, of(100, port), end(8000)), server(3, 80));
        }
        sleep(&tables, 61);
        assert_eq!(tables.connections(), []);
        assert_eq!(counts(&tables, service, server(3, 80)), (0, 0, 0));
    }
}

#[test]
fn a_network_of_clients_shares_a_template() {
    for hook in Hook::ALL {
        let (tables, service) = persistent(8000, TCP, 80);
        let netmask = Ipv4Addr::new(255, 255, 255, 240).octets();
        let record = tables.service(service).unwrap();
        record.netmask.set(u32::from_ne_bytes(netmask));
        for (last, number) in [(100, 3), (111, 3), (112, 2), (127, 2), (128, 1), (144, 3)] {
            let got = opens(hook, &tables, of(last, 20000), end(8000));
            assert_eq!(got, server(number, 80));
        }
        assert_eq!(templates(&tables).len(), 4);
        assert!(templates(&tables)[3].starts_with("60 ASSURED 10.0.0.144:0 "));
        record.netmask.set(0);
        assert_eq!(opens(hook, &tables, of(1, 20000), end(8000)), server(2, 80));
        assert_eq!(
            opens(hook, &tables, of(99, 20000), end(8000)),
            server(2, 80)
        );
        assert_eq!(
            templates(&tables)[0],
            "60 ASSURED 0.0.0.0:0 10.0.0.1:8000 192.168.1.2:80"
        );
    }
}

#[test]
fn a_service_on_every_port_has_one_template_and_keeps_the_packets_port() {
    for hook in Hook::ALL {
        // The server's own port is of no account.
        let (tables, _) = persistent(0, TCP, 8080);
        assert_eq!(
            visits(hook, &tables, of(100, 1), end(5000)),
            server(3, 5000)
        );
        assert_eq!(
            visits(hook, &tables, of(100, 1), end(5001)),
            server(3, 5001)
        );
        assert_eq!(visits(hook, &tables, of(101, 1), end(22)), server(2, 22));
        assert_eq!(
            templates(&tables),
            [
                "60 ASSURED 10.0.0.100:0 10.0.0.1:0 192.168.1.3:0",
                "60 ASSURED 10.0.0.101:0 10.0.0.1:0 192.168.1.2:0",
            ]
        );
        // A service on the port comes first.
        assert_eq!(asks(hook, &tables, of(100, 2), end(80)), server(1, 8080));
        assert_eq!(templates(&tables).len(), 2);
    }
}

#[test]
fn without_persistence_no_service_is_on_every_port() {
    for hook in Hook::ALL {
        let (tables, service) = persistent(0, TCP, 80);
        tables.service(service).unwrap().persistence.set(0);
        let request = Spec::tcp(client(1), end(5000), SYN).packet();
        let answer = forwarded(hook, &tables, &request, FRONT);
        assert_eq!(answer[20..22], [3, 3]);
        assert_eq!(tables.reasons(), [(Reason::NoServer, 1)]);
    }
}

#[test]
fn data_of_ftp_goes_where_its_control_connection_went() {
    for hook in Hook::ALL {
        let (tables, service) = persistent(21, TCP, 2121);
        assert_eq!(opens(hook, &tables, of(101, 1), end(21)), server(3, 2121));
        assert_eq!(opens(hook, &tables, of(100, 1), end(21)), server(2, 2121));
        assert_eq!(
            opens(hook, &tables, of(100, 2), end(40000)),
            server(2, 40000)
        );
        assert_eq!(opens(hook, &tables, of(100, 3), end(20)), server(2, 20));
        assert_eq!(
            templates(&tables)[0],
            "60 ASSURED 10.0.0.100:0 10.0.0.1:0 192.168.1.2:0"
        );
        // Not to the other ports that only root may listen on, and not when it is datagrams.
        for packet in [
            Spec::tcp(of(100, 4), end(1023), SYN),
            Spec::udp(of(100, 4), end(40000), 4),
        ] {
            let (verdict, _) = send(hook, &tables, &packet.packet());
            assert_eq!(verdict, Verdict::Pass(Reason::NoService));
        }
        // Nor without persistence, where the host is asked whether it knows the port.
        tables.service(service).unwrap().persistence.set(0);
        let (verdict, _) = send(
            hook,
            &tables,
            &Spec::tcp(of(100, 5), end(40000), SYN).packet(),
        );
        assert_eq!(verdict, Verdict::Pass(Reason::NoService));
        assert_eq!(asks(hook, &tables, of(100, 6), end(21)), server(1, 2121));
    }
}

#[test]
fn a_template_keeps_a_quiesced_server_unless_a_setting_says_otherwise() {
    for hook in Hook::ALL {
        let (tables, service) = persistent(8000, TCP, 80);
        assert_eq!(
            opens(hook, &tables, of(100, 20000), end(8000)),
            server(3, 80)
        );
        let third = tables.server_at(service, server(3, 80)).unwrap();
        tables.set_weight(third, 0).unwrap();
        assert_eq!(
            opens(hook, &tables, of(100, 20001), end(8000)),
            server(3, 80)
        );
        on(&tables, settings::EXPIRE_QUIESCENT_TEMPLATE);
        assert_eq!(
            opens(hook, &tables, of(100, 20002), end(8000)),
            server(2, 80)
        );
        assert_eq!(
            opens(hook, &tables, of(100, 20003), end(8000)),
            server(2, 80)
        );
        assert_eq!(
            templates(&tables),
            [
                "60 ASSURED 10.0.0.100:0 10.0.0.1:8000 192.168.1.2:80",
                "60 ASSURED 10.0.0.100:0 10.0.0.1:65535 192.168.1.3:65535",
            ]
        );
        assert_eq!(counts(&tables, service, server(3, 80)), (1, 2, 0));
        assert_eq!(counts(&tables, service, server(2, 80)), (1, 2, 0));
    }
}

#[test]
fn a_template_of_a_removed_server_is_given_up_for_good() {
    for hook in Hook::ALL {
        let (tables, service) = persistent(65535, TCP, 80);
        let mut tables = tables;
        assert_eq!(
            opens(hook, &tables, of(100, 20000), end(65535)),
            server(3, 80)
        );
        let third = tables.server_at(service, server(3, 80)).unwrap();
        tables.remove_server(third).unwrap();
        assert_eq!(
            opens(hook, &tables, of(100, 20001), end(65535)),
            server(2, 80)
        );
        assert_eq!(
            templates(&tables),
            [
                "60 ASSURED 10.0.0.100:0 10.0.0.1:65535 192.168.1.2:80",
                "60 ASSURED 10.0.0.100:0 10.0.0.1:65535 192.168.1.3:65535",
            ]
        );
        // Back again, it gets new clients, and this one stays where it is now.
        tables.add_server(service, server(3, 80), 1).unwrap();
        assert_eq!(
            opens(hook, &tables, of(100, 20002), end(65535)),
            server(2, 80)
        );
        assert_eq!(templates(&tables).len(), 2);
    }
}

#[test]
fn a_template_lives_as_long_as_its_service_said_when_it_was_made() {
    let (tables, service) = persistent(8000, TCP, 80);
    let hook = Hook::Tc;
    assert_eq!(asks(hook, &tables, of(100, 1), end(8000)), server(3, 80));
    tables.service(service).unwrap().persistence.set(7);
    sleep(&tables, 10);
    assert_eq!(asks(hook, &tables, of(100, 2), end(8000)), server(3, 80));
    assert_eq!(asks(hook, &tables, of(101, 2), end(8000)), server(2, 80));
    assert_eq!(
        templates(&tables),
        [
            "60 NONE 10.0.0.100:0 10.0.0.1:8000 192.168.1.3:80",
            "7 NONE 10.0.0.101:0 10.0.0.1:8000 192.168.1.2:80",
        ]
    );
    // Having lived on for a minute it lives for minutes from then on.
    sleep(&tables, 8);
    assert_eq!(asks(hook, &tables, of(101, 3), end(8000)), server(2, 80));
    assert!(templates(&tables)[1].starts_with("60 "));
}

#[test]
fn what_a_template_controls_is_not_scheduled_anew_when_its_port_is_used_again() {
    for hook in Hook::ALL {
        let (tables, service) = persistent(8000, TCP, 80);
        assert_eq!(visits(hook, &tables, of(100, 1), end(8000)), server(3, 80));
        let third = tables.server_at(service, server(3, 80)).unwrap();
        tables.set_weight(third, 0).unwrap();
        on(&tables, settings::EXPIRE_QUIESCENT_TEMPLATE);
        assert_eq!(asks(hook, &tables, of(100, 1), end(8000)), server(3, 80));
        assert_eq!(counts(&tables, service, server(3, 80)), (1, 1, 0));
    }
}

#[test]
fn an_answer_assures_the_template_of_datagrams() {
    for hook in Hook::ALL {
        let (tables, _) = persistent(5000, UDP, 5353);
        let request = Spec::udp(of(100, 1), end(5000), 8).packet();
        let sent = forwarded(hook, &tables, &request, BACK);
        assert_eq!(destination(&sent), server(3, 5353));
        assert!(templates(&tables)[0].starts_with("60 NONE "));
        let reply = Spec::udp(server(3, 5353), of(100, 1), 8).packet();
        forwarded(hook, &tables, &reply, FRONT);
        assert!(templates(&tables)[0].starts_with("60 ASSURED "));
    }
}

#[test]
fn each_datagram_is_scheduled_by_itself_where_the_service_says_so() {
    for hook in Hook::ALL {
        let (tables, service) = persistent(5000, UDP, 5353);
        let record = tables.service(service).unwrap();
        record.flags.set(record.flags.get() | Service::ONE_PACKET);
        record.persistence.set(0);
        let request = Spec::udp(of(100, 1), end(5000), 8).packet();
        for number in [3, 2, 1, 3] {
            let sent = forwarded(hook, &tables, &request, BACK);
            assert_eq!(destination(&sent), server(number, 5353));
        }
        assert_eq!(tables.connections(), []);
        let at = tables.server_at(service, server(3, 5353)).unwrap();
        let counters = tables.counters(at).unwrap();
        let counted = (
            counters.connections.get(),
            counters.in_packets.get(),
            counters.in_bytes.get(),
        );
        assert_eq!(counted, (2, 2, 72));
        assert_eq!(tables.counts(at).unwrap().total.get(), 0);
        // With persistence a client's all go to one.
        record.persistence.set(60);
        for number in [2, 2, 2] {
            let sent = forwarded(hook, &tables, &request, BACK);
            assert_eq!(destination(&sent), server(number, 5353));
        }
        assert_eq!(
            templates(&tables),
            ["60 NONE 10.0.0.100:0 10.0.0.1:5000 192.168.1.2:5353"]
        );
        sleep(&tables, 61);
        assert_eq!(tables.connections(), []);
    }
}

#[test]
fn templates_give_way_only_while_they_are_in_no_earnest() {
    let (tables, _) = persistent(8000, TCP, 80);
    let hook = Hook::Tc;
    assert_eq!(opens(hook, &tables, of(100, 1), end(8000)), server(3, 80));
    // A flood from forged addresses: each makes a half-open connection and a template.
    for number in 0..3000u32 {
        let forged = SocketAddrV4::new(Ipv4Addr::from(0x0b00_0000 + number), 1);
        let _ = send(hook, &tables, &Spec::tcp(forged, end(8000), SYN).packet());
    }
    assert!(tables.reason(Reason::HalfOpenEvicted) > 2000);
    assert_eq!(tables.reason(Reason::TableFull), 0);
    let kept = tables.connections();
    let kept: Vec<_> = kept
        .iter()
        .filter(|c| *c.client.ip() == *of(100, 0).ip())
        .collect();
    assert_eq!(kept.len(), 2);
    assert_eq!((kept[0].state, kept[1].state), ("ASSURED", "ESTABLISHED"));
}

#[test]
fn a_removed_servers_templates_end_with_its_connections_where_connections_without_server_end() {
    let (tables, service) = persistent(8000, TCP, 80);
    let hook = Hook::Tc;
    on(&tables, settings::EXPIRE_NODEST_CONN);
    assert_eq!(opens(hook, &tables, of(100, 1), end(8000)), server(3, 80));
    let third = tables.server_at(service, server(3, 80)).unwrap();
    tables.remove_server(third).unwrap();
    sleep(&tables, 2);
    assert_eq!(tables.connections(), []);
    assert_eq!(tables.counts(third).unwrap().persistent.get(), 0);
    assert_eq!(tables.counts(third).unwrap().total.get(), 0);
}
