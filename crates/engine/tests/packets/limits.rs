//! Time to live and lengths.

use furiwake_engine::{
    host::{Frame, Hook},
    pipeline::Verdict,
    reason::Reason,
    tables::Route,
};

use crate::{
    director::{
        BACK, FRONT, NAME_SERVER, NAMES, VIRTUAL, WEB, WEB_SERVER, client, director, forwarded,
        frame, next_hop, resolved, send, send_frame,
    },
    wire::{ACK, SYN, Spec, fault},
};

#[test]
fn a_request_whose_time_is_up_is_answered_by_the_virtual_address() {
    for hook in Hook::ALL {
        let tables = director();
        let spec = Spec {
            ttl: 1,
            ..Spec::tcp(client(1), WEB, SYN)
        };
        let request = spec.packet();
        let answer = forwarded(hook, &tables, &request, FRONT);
        assert_eq!(answer[12..16], VIRTUAL.octets());
        assert_eq!(answer[16..20], client(1).ip().octets());
        assert_eq!(answer[20..22], [11, 0]);
        assert_eq!(answer[28..], request);
        assert_eq!(tables.reasons(), [(Reason::TtlExceeded, 1)]);
        // It was counted, as IPVS counts it.
        assert_eq!(tables.connections()[0].state, "SYN_RECV");
    }
}

#[test]
fn the_last_hop_but_one_is_used_up() {
    for hook in Hook::ALL {
        let tables = director();
        let spec = Spec {
            ttl: 2,
            ..Spec::tcp(client(1), WEB, SYN)
        };
        assert_eq!(forwarded(hook, &tables, &spec.packet(), BACK)[8], 1);
    }
}

#[test]
fn a_reply_whose_time_is_up_is_left_to_the_host_uncounted() {
    for hook in Hook::ALL {
        let tables = director();
        forwarded(
            hook,
            &tables,
            &Spec::tcp(client(1), WEB, SYN).packet(),
            BACK,
        );
        let before = tables.connections();
        let spec = Spec {
            ttl: 1,
            ..Spec::tcp(WEB_SERVER, client(1), SYN | ACK)
        };
        let (verdict, _) = send(hook, &tables, &spec.packet());
        assert_eq!(verdict, Verdict::Pass(Reason::ReplyUndeliverable));
        assert_eq!(tables.connections(), before);
    }
}

#[test]
fn a_request_too_long_is_refused_with_the_length_that_fits_or_left_to_be_fragmented() {
    for hook in Hook::ALL {
        let mut tables = director();
        tables
            .set_next_hop(*WEB_SERVER.ip(), next_hop(1000))
            .unwrap();
        let of = |payload, dont_fragment| {
            let spec = Spec::tcp(client(1), WEB, SYN);
            Spec {
                payload,
                dont_fragment,
                ..spec
            }
            .packet()
        };
        forwarded(hook, &tables, &of(960, true), BACK);
        let answer = forwarded(hook, &tables, &of(961, true), FRONT);
        assert_eq!(answer[20..22], [3, 4]);
        assert_eq!(answer[26..28], 1000u16.to_be_bytes());
        assert_eq!(answer.len(), 576);
        let (verdict, bytes) = send(hook, &tables, &of(961, false));
        assert_eq!(verdict, Verdict::Stack(Reason::Fragmented));
        assert_eq!(bytes[16..20], WEB_SERVER.ip().octets());
        assert_eq!(tables.reason(Reason::TooLong), 1);
        assert_eq!(tables.reason(Reason::Fragmented), 1);
    }
}

#[test]
fn a_reply_too_long_is_reported_by_the_host_or_dropped() {
    for hook in Hook::ALL {
        let mut tables = director();
        let narrow = Route {
            mtu: 1000,
            ..resolved(FRONT)
        };
        tables.set_route(*client(1).ip(), narrow);
        forwarded(
            hook,
            &tables,
            &Spec::udp(client(1), NAMES, 8).packet(),
            BACK,
        );
        let reply = |payload, dont_fragment| {
            let spec = Spec::udp(NAME_SERVER, client(1), payload);
            Spec {
                dont_fragment,
                ..spec
            }
            .packet()
        };
        forwarded(hook, &tables, &reply(972, true), FRONT);
        let (verdict, _) = send(hook, &tables, &reply(973, true));
        assert_eq!(verdict, Verdict::Pass(Reason::ReplyUndeliverable));
        let (verdict, _) = send(hook, &tables, &reply(973, false));
        assert_eq!(verdict, Verdict::Drop(Reason::TooLong));
    }
}

#[test]
fn a_super_packet_is_judged_by_its_segments() {
    let mut tables = director();
    let spec = Spec {
        payload: 9000,
        ..Spec::tcp(client(1), WEB, SYN)
    };
    let of = |segment| Frame {
        segment_size: Some(segment),
        ..Frame::new(FRONT, frame(&spec.packet()))
    };
    let outcome = send_frame(Hook::Tc, &tables, of(1460));
    assert_eq!(outcome.verdict, Verdict::Redirect(BACK));
    assert_eq!(fault(&outcome.bytes[14..]), None);
    tables
        .set_next_hop(*WEB_SERVER.ip(), next_hop(1499))
        .unwrap();
    let outcome = send_frame(Hook::Tc, &tables, of(1460));
    assert_eq!(outcome.verdict, Verdict::Redirect(FRONT));
    assert_eq!(outcome.bytes[34..36], [3, 4]);
    assert_eq!(fault(&outcome.bytes[14..]), None);
    let outcome = send_frame(Hook::Tc, &tables, of(1459));
    assert_eq!(outcome.verdict, Verdict::Redirect(BACK));
}

#[test]
fn errors_are_held_back_after_so_many_in_a_second() {
    let tables = director();
    tables.settings().errors_per_second.set(3);
    let spec = Spec {
        ttl: 1,
        ..Spec::tcp(client(1), WEB, SYN)
    };
    let sent = |count: usize| {
        let is_sent =
            |_: &usize| send(Hook::Tc, &tables, &spec.packet()).0 == Verdict::Redirect(FRONT);
        (0..count).filter(is_sent).count()
    };
    assert_eq!(sent(10), 3);
    assert_eq!(tables.reason(Reason::ErrorLimited), 7);
    tables.advance_ms(1000);
    assert_eq!(sent(10), 3);
}
