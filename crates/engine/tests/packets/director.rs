//! A director with two services and two servers, and frames sent to it.

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_engine::{
    host::{self, Frame, Hook, HostTables, NextHop, Outcome},
    pipeline::Verdict,
    reason::Reason,
    schedule::Scheduler,
    tables::{self, Route, Tables},
};

use crate::wire::{TCP, UDP, fault};

pub(crate) const FRONT: u32 = 2;
pub(crate) const BACK: u32 = 3;
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The director's own address towards servers.
pub(crate) const DIRECTOR: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 254);
pub(crate) const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// TCP; its server listens on 8080.
pub(crate) const WEB: SocketAddrV4 = SocketAddrV4::new(VIRTUAL, 80);
pub(crate) const WEB_SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 1), 8080);
/// UDP; its server listens on 5353.
pub(crate) const NAMES: SocketAddrV4 = SocketAddrV4::new(VIRTUAL, 53);
pub(crate) const NAME_SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 2), 5353);
/// TCP without servers.
pub(crate) const EMPTY: SocketAddrV4 = SocketAddrV4::new(VIRTUAL, 81);

pub(crate) fn client(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 100), port)
}

pub(crate) fn resolved(ifindex: u32) -> Route {
    Route {
        outcome: tables::Outcome::Resolved,
        macs: [0x0202_0202, 0x0303_0202, 0x0303_0303],
        ifindex,
        mtu: 1500,
        gateway: 0,
    }
}

pub(crate) fn next_hop(mtu: u32) -> NextHop {
    NextHop {
        ifindex: BACK,
        mtu,
        gateway: *WEB_SERVER.ip(),
        macs: Some(([4; 6], [5; 6])),
        takes_xdp: true,
        source: DIRECTOR,
    }
}

pub(crate) fn director() -> HostTables {
    let mut tables = HostTables::default();
    tables.set_port(FRONT, MAC, true);
    tables.set_port(BACK, MAC, true);
    tables.set_route_function(|_, to, _| match to.octets() {
        [10, 0, 0, _] => resolved(FRONT),
        _ => Route::none(tables::Outcome::Unreachable),
    });
    for (service, protocol, server) in [(WEB, TCP, WEB_SERVER), (NAMES, UDP, NAME_SERVER)] {
        tables.set_next_hop(*server.ip(), next_hop(1500)).unwrap();
        let index = tables
            .add_service(service, protocol, Scheduler::Wrr)
            .unwrap();
        tables.add_server(index, server, 1).unwrap();
    }
    tables.add_service(EMPTY, TCP, Scheduler::Rr).unwrap();
    tables
}

pub(crate) fn frame(packet: &[u8]) -> Vec<u8> {
    [&MAC[..], &[9; 6], &[8, 0], packet].concat()
}

/// What becomes of an IP packet. What is left to the host must be as it was; what is sent must be valid.
pub(crate) fn send(hook: Hook, tables: &HostTables, packet: &[u8]) -> (Verdict, Vec<u8>) {
    let outcome = host::run(hook, tables, FRONT, &frame(packet));
    check(outcome, packet)
}

pub(crate) fn send_frame(hook: Hook, tables: &HostTables, frame: Frame) -> Outcome {
    host::run_frame(hook, tables, frame)
}

fn check(outcome: Outcome, packet: &[u8]) -> (Verdict, Vec<u8>) {
    let bytes = outcome.bytes[14..].to_vec();
    match outcome.verdict {
        Verdict::Pass(_) => assert_eq!(bytes, packet, "{:?}", outcome.verdict),
        Verdict::Redirect(_) | Verdict::Neighbour(..) | Verdict::Stack(_) => {
            assert_eq!(fault(&bytes), None, "{:?} {bytes:02x?}", outcome.verdict);
        }
        Verdict::Drop(_) => {}
        stage => panic!("{stage:?} is no end of a packet"),
    }
    (outcome.verdict, bytes)
}

/// Send a packet that must be forwarded out of an interface; gives it as it was sent.
pub(crate) fn forwarded(hook: Hook, tables: &HostTables, packet: &[u8], ifindex: u32) -> Vec<u8> {
    let (verdict, bytes) = send(hook, tables, packet);
    assert_eq!(verdict, Verdict::Redirect(ifindex));
    bytes
}

/// Everything that a packet may change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    connections: Vec<host::Connection>,
    /// Counts and counters by server.
    servers: Vec<[u64; 7]>,
    reasons: Vec<(Reason, u64)>,
}

impl State {
    pub(crate) fn of(tables: &HostTables) -> Self {
        let numbers = |server| {
            let (counts, counters) = (
                tables.counts(server).unwrap(),
                tables.counters(server).unwrap(),
            );
            [
                counts.active.get().into(),
                counts.total.get().into(),
                counters.connections.get(),
                counters.in_packets.get(),
                counters.in_bytes.get(),
                counters.out_packets.get(),
                counters.out_bytes.get(),
            ]
        };
        Self {
            connections: tables.connections(),
            servers: (0..4).map(numbers).collect(),
            reasons: tables.reasons(),
        }
    }
}
