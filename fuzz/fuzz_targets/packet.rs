//! Any frames, one after another: no panic, hooks agree, what passes is untouched, counts end at zero.
//!
//! The input is a row of records: a byte of options, a byte with the length, the IP packet (or, by option, the frame).

#![no_main]

use std::net::{Ipv4Addr, SocketAddrV4};

use furiwake_engine::{
    checksum::{fold, sum},
    host::{self, Frame, Hook, HostTables, Method, NextHop, ServerOptions, ServiceOptions, Sizes},
    packet::{TCP, UDP},
    pipeline::Verdict,
    schedule::Scheduler,
    tables::{Outcome, Route, Tables},
};
use libfuzzer_sys::fuzz_target;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const IFINDEX: u32 = 2;
/// Option: the bytes are a frame, not an IP packet.
const WHOLE_FRAME: u8 = 1;
/// Option: a super-packet (tc only).
const SEGMENTED: u8 = 2;
/// Option: its checksum is unfinished (tc only).
const UNFINISHED: u8 = 4;
/// Option: two seconds passed.
const LATER: u8 = 8;
/// Option: much time passed.
const MUCH_LATER: u8 = 16;
/// Option: the server is removed, or comes back.
const SERVER: u8 = 32;

fuzz_target!(|input: &[u8]| {
    let mut directors = Hook::ALL.map(|hook| (hook, director()));
    let mut rest = input;
    while let [options, length, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at((*length as usize).min(tail.len()));
        rest = tail;
        let frame = frame(*options, bytes);
        let on_tc_only = options & (SEGMENTED | UNFINISHED) != 0;
        let outcomes = directors.each_mut().map(|(hook, tables)| {
            change(tables, *options);
            let hook = if on_tc_only { Hook::Tc } else { *hook };
            let outcome = host::run_frame(hook, tables, frame.clone());
            (outcome.verdict, outcome.bytes)
        });
        assert_eq!(outcomes[0], outcomes[2]);
        assert_eq!(outcomes[1], outcomes[2]);
        let (verdict, bytes) = &outcomes[0];
        match verdict {
            Verdict::Pass(_) => assert_eq!(*bytes, frame.bytes),
            Verdict::Redirect(_) | Verdict::Neighbour(..) | Verdict::Stack(_) => {
                assert!(!is_header_valid(&frame.bytes) || is_header_valid(bytes));
            }
            Verdict::Drop(_) => {}
            stage => unreachable!("{stage:?} has a next stage"),
        }
    }
    let [first, others @ ..] = &directors;
    for (_, tables) in others {
        assert_eq!(tables.reasons(), first.1.reasons());
        assert_eq!(tables.connections(), first.1.connections());
    }
    directors.iter().for_each(|(_, tables)| ends_empty(tables));
});

fn server() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 1), 8080)
}

fn director() -> HostTables {
    let mut tables = HostTables::new(Sizes {
        buckets: 2,
        services: 4,
        servers: 4,
        server_hops: 4,
        ring_slots: 4,
    });
    tables.set_port(IFINDEX, MAC, true);
    tables.set_route_function(|_, to, _| match to.octets() {
        [10, 0, 0, _] => Route {
            outcome: Outcome::Resolved,
            ifindex: IFINDEX,
            mtu: 200,
            ..Route::none(Outcome::Resolved)
        },
        [10, 0, 1, _] => Route::none(Outcome::Unresolved),
        _ => Route::none(Outcome::Unreachable),
    });
    let hop = NextHop {
        ifindex: IFINDEX,
        mtu: 200,
        gateway: *server().ip(),
        macs: Some((MAC, MAC)),
        takes_xdp: true,
        source: Ipv4Addr::new(10, 0, 0, 254),
    };
    tables.set_next_hop(*server().ip(), hop);
    let end = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 82);
    if let Some(service) = tables.add_service(end, TCP, Scheduler::Wlc) {
        let options = ServerOptions {
            method: Method::Gateway,
            weight: 1,
            upper: 2,
            lower: 0,
        };
        tables.add_server_with(service, server(), &options);
        let options = ServiceOptions {
            persistence: 5,
            ..ServiceOptions::default()
        };
        tables.set_options(service, &options);
    }
    for (port, protocol) in [(80, TCP), (80, UDP), (81, TCP)] {
        let end = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), port);
        if let Some(service) = tables.add_service(end, protocol, Scheduler::Wrr)
            && port == 80
        {
            tables.add_server(service, server(), 1);
        }
    }
    tables
}

fn change(tables: &mut HostTables, options: u8) {
    if options & LATER != 0 {
        tables.advance_ms(2_000);
    }
    if options & MUCH_LATER != 0 {
        tables.advance_ms(150_000);
    }
    tables.sweep();
    if options & SERVER != 0 {
        match tables.server_at(0, server()) {
            Some(at) => tables.remove_server(at),
            None => tables.add_server(0, server(), 1).map(|_| ()),
        };
    }
}

fn frame(options: u8, bytes: &[u8]) -> Frame {
    let bytes = if options & WHOLE_FRAME != 0 {
        bytes.to_vec()
    } else {
        [&MAC[..], &[9; 6], &[8, 0], bytes].concat()
    };
    Frame {
        segment_size: (options & SEGMENTED != 0).then_some(100),
        is_unfinished: options & UNFINISHED != 0,
        ..Frame::new(IFINDEX, bytes)
    }
}

fn is_header_valid(frame: &[u8]) -> bool {
    let Some(first) = frame.get(14) else {
        return false;
    };
    let header = frame.get(14..14 + (first & 15) as usize * 4);
    header.is_some_and(|header| header.len() >= 20 && fold(sum(header)) == 0xffff)
}

/// When every connection is over nothing is left of any.
fn ends_empty(tables: &HostTables) {
    tables.advance_ms(1_000_000);
    tables.sweep();
    assert!(tables.connections().is_empty());
    for bucket in tables.buckets() {
        assert_eq!((bucket.tags.get(), bucket.spilled.get()), (0, 0));
    }
    for counts in (0..4).filter_map(|server| tables.counts(server)) {
        assert_eq!((counts.active.get(), counts.total.get()), (0, 0));
    }
}
