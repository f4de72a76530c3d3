//! Templates, what they control, and several threads at both.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    thread,
};

use super::*;
use crate::{
    connection::{self, DEAD, Entry, New, TEMPLATE, state_of},
    host::{HostTables, Sizes},
    packet::TCP,
    schedule::Scheduler,
    state::is_active,
    tables::ticks,
};

const SERVERS: u32 = 2;
const PORT: u16 = 80u16.to_be();

fn tables(buckets: u32) -> HostTables {
    let mut tables = HostTables::new(Sizes {
        buckets,
        services: 1,
        servers: SERVERS,
        server_hops: 1,
        ring_slots: 4,
    });
    let end = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80);
    let service = tables.add_service(end, TCP, Scheduler::Rr).unwrap();
    for number in 0..SERVERS {
        let end = SocketAddrV4::new(Ipv4Addr::from(0xc0a8_0100 + number), 8080);
        assert_eq!(tables.add_server(service, end, 1), Some(number));
    }
    tables
}

fn now(tables: &HostTables) -> u32 {
    ticks(tables.now(), tables.settings())
}

fn end() -> Peer {
    Peer::virtual_end(1, PORT)
}

/// The template of a network, held; made if there is none.
fn held(tables: &HostTables, network: u32, server: u32) -> Position {
    let network = Client::network(network, TCP);
    match find(tables, network, end()) {
        Position::NOWHERE => {
            let new = New {
                seconds: 60,
                ..New::connection(network, end(), server)
            };
            let made = connection::insert(tables, &new, now(tables));
            settle(tables, network, end(), made)
        }
        found => found,
    }
}

/// A connection of a client under the template of its network, which is held for it.
fn connected(tables: &HostTables, client: u32, port: u16, template: Position) -> Position {
    let Some(entry) = template.entry(tables) else {
        return Position::NOWHERE;
    };
    let client = Client::new(client, port, TCP);
    let new = New {
        template,
        ..New::connection(client, end(), entry.way.server.get())
    };
    let made = connection::insert(tables, &new, now(tables));
    if made == Position::NOWHERE {
        release(tables, template);
        return made;
    }
    connection::settle(tables, client, end(), made)
}

fn remove_at(tables: &HostTables, position: Position) -> bool {
    let word = position.entry(tables).unwrap().way.word.get();
    remove(tables, position, word)
}

/// Entries that are there.
fn entries(tables: &HostTables) -> Vec<Entry<'_>> {
    let mut found = Vec::new();
    for (index, bucket) in tables.buckets().iter().enumerate() {
        for lane in 0..4 {
            if bucket.tags.get() >> (16 * lane) & 0xffff != 0 {
                let position = Position::new(index as u32, lane);
                found.push(position.entry(tables).unwrap());
            }
        }
    }
    found
}

/// Assert that counts, links and entries agree, at rest.
fn check(tables: &HostTables) {
    let all = entries(tables);
    let mut counts = vec![(0, 0, 0); SERVERS as usize];
    for Entry { position, way, .. } in &all {
        let word = way.word.get();
        assert_ne!(state_of(word), DEAD);
        let count = &mut counts[way.server.get() as usize];
        if word & TEMPLATE == 0 {
            count.0 += u32::from(is_active(state_of(word)));
            count.1 += 1;
            assert_eq!(word & CONTROLLED != 0, of(tables, *position).is_some());
            continue;
        }
        count.2 += 1;
        let is_its = |other: &&Entry<'_>| {
            let link = tables.link(other.position.number());
            other.way.word.get() & CONTROLLED != 0
                && link.is_some_and(|link| link.position == position.number())
        };
        let controls = all.iter().filter(is_its).count();
        assert_eq!(way.hop.get(), controls as u32);
    }
    for server in 0..SERVERS {
        let got = tables.counts(server).unwrap();
        let got = (got.active.get(), got.total.get(), got.persistent.get());
        assert_eq!(got, counts[server as usize], "counts of {server}");
    }
    let there: Vec<_> = all.iter().map(|entry| entry.position).collect();
    for bucket in 0..tables.buckets().len() as u32 {
        for lane in 0..4 {
            let position = Position::new(bucket, lane);
            if !there.contains(&position) {
                assert_eq!(tables.link(position.number()), None);
            }
        }
    }
}

#[test]
fn a_template_that_is_held_is_not_taken_out() {
    let tables = tables(4);
    let template = held(&tables, 7, 0);
    assert!(!remove_at(&tables, template));
    let one = connected(&tables, 7, 1, template);
    assert!(!remove_at(&tables, template));
    assert_eq!(held(&tables, 7, 1), template);
    let other = connected(&tables, 8, 2, template);
    check(&tables);
    assert!(remove_at(&tables, one) && !remove_at(&tables, template));
    assert!(remove_at(&tables, other) && remove_at(&tables, template));
    assert!(entries(&tables).is_empty());
    check(&tables);
}

#[test]
fn one_that_was_given_up_is_found_no_more_and_keeps_what_it_controls() {
    let tables = tables(4);
    let template = held(&tables, 7, 0);
    let one = connected(&tables, 7, 1, template);
    let entry = template.entry(&tables).unwrap();
    for _ in 0..2 {
        give_up(entry.way);
        assert_eq!(entry.way.ports.get(), pair(0, GIVEN_UP));
    }
    assert_eq!(
        find(&tables, Client::network(7, TCP), end()),
        Position::NOWHERE
    );
    let last_port = Peer::virtual_end(1, GIVEN_UP);
    assert_eq!(
        find(&tables, Client::network(7, TCP), last_port),
        Position::NOWHERE
    );
    assert!(!remove_at(&tables, template) && remove_at(&tables, one));
    assert!(remove_at(&tables, template));
    check(&tables);
}

#[test]
fn one_is_told_of_what_is_in_earnest_and_nobody_elses_is() {
    let tables = tables(4);
    let state = |at: Position| state_of(at.entry(&tables).unwrap().way.word.get());
    let (mine, other) = (held(&tables, 7, 0), held(&tables, 9, 0));
    let one = connected(&tables, 7, 1, mine);
    assure(&tables, one);
    assert_eq!(state(mine), State::TemplateAssured as u8);
    assert_eq!(state(other), State::TemplateNone as u8);
    // A note that is out of date leads nowhere.
    let mut link = tables.link(one.number()).unwrap();
    link.position = other.number();
    link.tenancy += 1;
    tables.set_link(one.number(), Some(link));
    assure(&tables, one);
    assert_eq!(state(other), State::TemplateNone as u8);
}

#[test]
fn one_in_no_earnest_goes_with_its_last_connection_when_that_is_taken_out_early() {
    for assured in [false, true] {
        let tables = tables(4);
        let template = held(&tables, 7, 0);
        let one = connected(&tables, 7, 1, template);
        assert_eq!(held(&tables, 7, 0), template);
        let other = connected(&tables, 7, 2, template);
        if assured {
            assure(&tables, one);
        }
        for (at, left) in [(one, 2), (other, usize::from(assured))] {
            let word = at.entry(&tables).unwrap().way.word.get();
            remove_with_connection(&tables, at, word);
            assert_eq!(entries(&tables).len(), left);
        }
        check(&tables);
    }
}

#[test]
fn without_room_for_the_note_a_connection_is_on_its_own() {
    let tables = tables(4);
    let template = held(&tables, 7, 0);
    // Enough for the map of links to be full.
    let full = Link {
        position: 0,
        tenancy: 0,
    };
    let mut number = 1 << 24;
    while tables.set_link(number, Some(full)) {
        number += 1;
    }
    let one = connected(&tables, 7, 1, template);
    let word = one.entry(&tables).unwrap().way.word.get();
    assert_eq!(word & CONTROLLED, 0);
    assert!(remove_at(&tables, template) && remove_at(&tables, one));
}

#[test]
fn threads_that_share_templates_leave_exact_counts() {
    for buckets in [1, 4, 64] {
        let tables = tables(buckets);
        for server in 0..SERVERS {
            tables.server(server).unwrap().upper.set(3);
        }
        thread::scope(|scope| {
            for number in 0..3u64 {
                let tables = &tables;
                scope.spawn(move || hammer(tables, number + 1));
            }
            scope.spawn(|| {
                for _ in 0..2000 {
                    // Connections live for three seconds, templates for a minute.
                    tables.advance_ms(500);
                    tables.sweep();
                }
            });
        });
        check(&tables);
        for _ in 0..3 {
            tables.advance_ms(61_000);
            tables.sweep();
        }
        assert!(entries(&tables).is_empty());
        check(&tables);
        for server in 0..SERVERS {
            assert_eq!(tables.counts(server).unwrap().overloaded.get(), 0);
        }
    }
}

fn hammer(tables: &HostTables, seed: u64) {
    let mut random = seed;
    for _ in 0..50_000 {
        random = random
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(seed | 1);
        let bits = (random >> 32) as u32;
        let (network, port) = (bits & 1, (bits >> 2 & 3) as u16);
        let client = Client::new(network, port, TCP);
        let there = connection::find_from(tables, client, end(), Position::NOWHERE, 0);
        let Some(entry) = there.entry(tables) else {
            let template = held(tables, network, bits >> 8 & 1);
            if bits >> 9 & 7 == 0
                && let Some(entry) = template.entry(tables)
            {
                give_up(entry.way);
                release(tables, template);
            } else {
                connected(tables, network, port, template);
            }
            continue;
        };
        let seen = entry.way.word.get();
        match bits >> 12 & 3 {
            _ if state_of(seen) == DEAD => {}
            0 => drop(remove(tables, entry.position, seen)),
            1 => remove_with_connection(tables, entry.position, seen),
            2 => assure(tables, entry.position),
            _ => {
                let next = with_state(seen, ((bits >> 16) % 11) as u8);
                connection::change(tables, entry.way, seen, next);
            }
        }
    }
}
