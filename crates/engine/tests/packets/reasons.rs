//! Every reason for which a packet is not forwarded: met, counted once, on every hook.

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_engine::{
    host::{self, Hook, HostTables, NextHop},
    pipeline::Verdict,
    reason::Reason,
    tables::{Outcome, Route, Tables},
};

use crate::{
    director::{
        BACK, EMPTY, FRONT, NAME_SERVER, NAMES, VIRTUAL, WEB, WEB_SERVER, client, director,
        forwarded, frame, next_hop, send,
    },
    wire::{ACK, FIN, RST, SYN, Spec, TCP, fragments, icmp},
};

/// What it shows, what happens before, the packet, the reason.
type Row = (&'static str, fn(&mut HostTables), Vec<u8>, Reason);

fn nothing(_: &mut HostTables) {}

fn connected(tables: &mut HostTables) {
    forwarded(
        Hook::Tc,
        tables,
        &Spec::tcp(client(1), WEB, SYN).packet(),
        BACK,
    );
}

fn server_removed(tables: &mut HostTables) {
    connected(tables);
    let service = tables.service_at(WEB, TCP).unwrap();
    tables.remove_server(tables.servers_of(service)[0]).unwrap();
}

fn clients_unreachable(tables: &mut HostTables) {
    connected(tables);
    tables.set_route(*client(1).ip(), Route::none(Outcome::Unreachable));
}

fn forwarding_disabled(tables: &mut HostTables) {
    connected(tables);
    tables.set_route(*client(1).ip(), Route::none(Outcome::Disabled));
}

fn server_unreachable(tables: &mut HostTables) {
    connected(tables);
    tables.set_unreachable(*WEB_SERVER.ip()).unwrap();
}

/// The server of the service without servers: no next hop is known yet.
const NEW_SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 9), 80);

fn server_of_unknown_hop(tables: &mut HostTables) {
    let service = tables.service_at(EMPTY, TCP).unwrap();
    tables.add_server(service, NEW_SERVER, 1).unwrap();
}

fn rows() -> Vec<Row> {
    let other = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 77), 80);
    let fragment = fragments(&Spec::udp(client(1), NAMES, 3000).packet(), 1480).remove(1);
    let mut esp = Spec::tcp(client(1), WEB, SYN).packet();
    esp[9] = 50;
    let from_multicast = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 9);
    vec![
        (
            "another address",
            nothing,
            Spec::tcp(client(1), other, SYN).packet(),
            Reason::NoMatch,
        ),
        ("another protocol", nothing, esp, Reason::OtherProtocol),
        (
            "cut short",
            nothing,
            Spec::tcp(client(1), WEB, SYN).packet()[..39].to_vec(),
            Reason::Truncated,
        ),
        (
            "another port",
            nothing,
            Spec::udp(client(1), WEB, 4).packet(),
            Reason::NoService,
        ),
        (
            "of a server's own",
            nothing,
            Spec::tcp(WEB_SERVER, client(1), SYN).packet(),
            Reason::NoConnection,
        ),
        (
            "no connection",
            nothing,
            Spec::tcp(client(1), WEB, ACK).packet(),
            Reason::NotSyn,
        ),
        (
            "a reset as well",
            nothing,
            Spec::tcp(client(1), WEB, SYN | RST).packet(),
            Reason::NotSyn,
        ),
        (
            "FTP data",
            nothing,
            Spec::tcp(client(20), WEB, SYN).packet(),
            Reason::FtpData,
        ),
        (
            "a later fragment",
            nothing,
            fragment,
            Reason::FragmentUnknown,
        ),
        (
            "a ping",
            nothing,
            icmp([10, 0, 0, 9], VIRTUAL.octets(), 8, 0, 1, b"ping"),
            Reason::IcmpUnrelated,
        ),
        (
            "no servers",
            nothing,
            Spec::tcp(client(1), EMPTY, SYN).packet(),
            Reason::NoServer,
        ),
        (
            "from where nobody is",
            nothing,
            Spec::tcp(from_multicast, EMPTY, SYN).packet(),
            Reason::BadSource,
        ),
        (
            "server removed",
            server_removed,
            Spec::tcp(client(1), WEB, ACK).packet(),
            Reason::ServerRemoved,
        ),
        (
            "no way to the client",
            clients_unreachable,
            Spec::tcp(WEB_SERVER, client(1), ACK).packet(),
            Reason::NoRouteToClient,
        ),
        (
            "may not forward",
            forwarding_disabled,
            Spec::tcp(WEB_SERVER, client(1), ACK).packet(),
            Reason::ForwardingDisabled,
        ),
        (
            "no way to the server",
            server_unreachable,
            Spec::tcp(client(1), WEB, ACK).packet(),
            Reason::NoRouteToServer,
        ),
        (
            "no way to the server for an error",
            server_unreachable,
            icmp(
                [10, 0, 0, 9],
                VIRTUAL.octets(),
                3,
                4,
                1400,
                &Spec::tcp(WEB, client(1), ACK).packet(),
            ),
            Reason::NoRouteToServer,
        ),
        (
            "the way to the server is not known yet",
            server_of_unknown_hop,
            Spec::tcp(client(1), EMPTY, SYN).packet(),
            Reason::RoutedByHost,
        ),
    ]
}

#[test]
fn every_reason_is_counted_once_on_every_hook() {
    for (shows, before, packet, reason) in rows() {
        for hook in Hook::ALL {
            let mut tables = director();
            before(&mut tables);
            let (verdict, _) = send(hook, &tables, &packet);
            assert_eq!(
                tables.reasons(),
                [(reason, 1)],
                "{shows} on {hook:?}: {verdict:?}"
            );
            match verdict {
                Verdict::Drop(why) => assert!(why == reason && reason.drops()),
                Verdict::Pass(why) => assert!(why == reason && !reason.drops()),
                Verdict::Stack(why) => assert!(why == reason && !reason.drops()),
                // An error was sent.
                Verdict::Redirect(FRONT) => assert!(reason.drops()),
                other => panic!("{shows}: {other:?}"),
            }
        }
    }
}

#[test]
fn frames_that_are_not_ours_pass_counted_once() {
    let tables = director();
    let packet = Spec::tcp(client(1), WEB, SYN).packet();
    for (at, byte, reason) in [(0, 0xee, Reason::NotForUs), (12, 0x86, Reason::NotIpv4)] {
        for hook in Hook::ALL {
            let before = tables.reason(reason);
            let mut bytes = frame(&packet);
            bytes[at] = byte;
            let outcome = host::run(hook, &tables, FRONT, &bytes);
            assert_eq!(outcome.verdict, Verdict::Pass(reason));
            assert_eq!(outcome.bytes, bytes);
            assert_eq!(tables.reason(reason), before + 1);
        }
    }
}

#[test]
fn a_neighbour_that_is_not_known_is_found_by_the_kernel() {
    for hook in Hook::ALL {
        let mut tables = director();
        let unknown = NextHop {
            macs: None,
            ..next_hop(1500)
        };
        tables.set_next_hop(*WEB_SERVER.ip(), unknown).unwrap();
        let gateway = u32::from_ne_bytes(WEB_SERVER.ip().octets());
        let (verdict, bytes) = send(hook, &tables, &Spec::tcp(client(1), WEB, SYN).packet());
        assert_eq!(verdict, Verdict::Neighbour(BACK, gateway));
        assert_eq!(bytes[16..20], WEB_SERVER.ip().octets());
        let to_client = Route {
            ifindex: FRONT,
            gateway: 7,
            ..Route::none(Outcome::Unresolved)
        };
        tables.set_route(*client(1).ip(), to_client);
        let (verdict, _) = send(
            hook,
            &tables,
            &Spec::tcp(WEB_SERVER, client(1), SYN | ACK).packet(),
        );
        assert_eq!(verdict, Verdict::Neighbour(FRONT, 7));
        assert_eq!(tables.reasons(), []);
    }
}

#[test]
fn a_finished_connections_port_may_be_used_again() {
    for hook in Hook::ALL {
        let tables = director();
        let request = |flags| Spec::tcp(client(1), WEB, flags).packet();
        let reply = |flags| Spec::tcp(WEB_SERVER, client(1), flags).packet();
        forwarded(hook, &tables, &request(SYN), BACK);
        forwarded(hook, &tables, &reply(SYN | ACK), FRONT);
        forwarded(hook, &tables, &request(FIN | ACK), BACK);
        forwarded(hook, &tables, &reply(FIN | ACK), FRONT);
        assert_eq!(tables.connections()[0].state, "TIME_WAIT");
        forwarded(hook, &tables, &request(SYN), BACK);
        assert_eq!(tables.connections().len(), 1);
        assert_eq!(tables.connections()[0].state, "SYN_RECV");
    }
}

#[test]
fn a_flood_of_requests_does_not_put_established_connections_out() {
    let tables = director();
    let request = Spec::tcp(client(1), WEB, SYN).packet();
    forwarded(Hook::Xdp, &tables, &request, BACK);
    forwarded(
        Hook::Xdp,
        &tables,
        &Spec::tcp(WEB_SERVER, client(1), SYN | ACK).packet(),
        FRONT,
    );
    forwarded(
        Hook::Xdp,
        &tables,
        &Spec::tcp(client(1), WEB, ACK).packet(),
        BACK,
    );
    for number in 0..5000u32 {
        let [.., c, d] = number.to_be_bytes();
        let end = SocketAddrV4::new(Ipv4Addr::new(10, 1, c, d), 9);
        forwarded(Hook::Xdp, &tables, &Spec::tcp(end, WEB, SYN).packet(), BACK);
    }
    assert!(tables.reason(Reason::HalfOpenEvicted) > 3000);
    let established = |c: &host::Connection| c.state == "ESTABLISHED" && c.client == client(1);
    assert!(tables.connections().iter().any(established));
}

#[test]
fn a_reply_of_a_server_of_two_ports_is_told_apart() {
    // The name server's address with the web server's port is no connection.
    let tables = director();
    forwarded(
        Hook::Tc,
        &tables,
        &Spec::udp(client(1), NAMES, 4).packet(),
        BACK,
    );
    let wrong = SocketAddrV4::new(*NAME_SERVER.ip(), 8080);
    let (verdict, _) = send(Hook::Tc, &tables, &Spec::udp(wrong, client(1), 4).packet());
    assert_eq!(verdict, Verdict::Pass(Reason::NoConnection));
}

#[test]
fn a_removed_servers_reply_goes_to_the_client_uncounted() {
    for hook in Hook::ALL {
        let mut tables = director();
        server_removed(&mut tables);
        let reply = Spec::tcp(WEB_SERVER, client(1), SYN | ACK).packet();
        forwarded(hook, &tables, &reply, FRONT);
        let quoted = Spec::tcp(client(1), WEB_SERVER, ACK).packet();
        let error = icmp([10, 0, 0, 9], client(1).ip().octets(), 3, 1, 0, &quoted);
        forwarded(hook, &tables, &error, FRONT);
        let counters = tables.counters(0).unwrap();
        assert_eq!(
            (counters.in_packets.get(), counters.out_packets.get()),
            (1, 0)
        );
    }
}

#[test]
fn every_packet_moves_the_deadline() {
    for hook in Hook::ALL {
        let tables = director();
        let ends = || tables.connections()[0].seconds;
        forwarded(
            hook,
            &tables,
            &Spec::udp(client(1), NAMES, 4).packet(),
            BACK,
        );
        assert_eq!(ends(), 300);
        tables.advance_ms(1_000);
        assert_eq!(ends(), 299);
        forwarded(
            hook,
            &tables,
            &Spec::udp(NAME_SERVER, client(1), 4).packet(),
            FRONT,
        );
        assert_eq!(ends(), 300);
        tables.advance_ms(1_000);
        forwarded(
            hook,
            &tables,
            &Spec::udp(client(1), NAMES, 4).packet(),
            BACK,
        );
        assert_eq!(ends(), 300);
    }
}
