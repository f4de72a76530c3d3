//! The connection table against a plain model, and under several threads.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    thread,
};

use proptest::prelude::*;

use super::*;
use crate::{
    host::{HostTables, Sizes},
    packet::{TCP, UDP},
    reason::Reason,
    schedule::Scheduler,
    state::{self, State},
    tables::ticks,
};

const SERVERS: u32 = 3;
const SERVER_PORT: u16 = 8080u16.to_be();

/// Tables with some servers and so many buckets.
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

/// What tells a connection from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    client: u32,
    port: u16,
    protocol: u8,
    virtual_address: u32,
}

impl Key {
    fn client(&self) -> Client {
        Client::new(self.client, self.port, self.protocol)
    }

    fn virtual_end(&self) -> Peer {
        Peer::virtual_end(self.virtual_address, 80u16.to_be())
    }

    fn server_end(server: u32) -> Peer {
        Peer::server_end((0xc0a8_0100 + server).to_be(), SERVER_PORT)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value {
    server: u32,
    state: u8,
    answered: bool,
    expires: u32,
}

/// What the table holds, read from its memory. Asserts what must hold of it at rest.
fn contents(tables: &HostTables) -> BTreeMap<Key, Value> {
    let mut all = BTreeMap::new();
    let mut counts = vec![(0, 0); SERVERS as usize];
    let mut spilled = vec![0; tables.buckets().len()];
    let config = tables.settings();
    for (index, bucket) in tables.buckets().iter().enumerate() {
        for (lane, way) in bucket.ways.iter().enumerate() {
            let tag = bucket.tags.get() >> (16 * lane) & 0xffff;
            if tag == 0 {
                continue;
            }
            let word = way.word.get();
            assert_ne!(tag, BUSY, "a way is left claimed");
            assert_ne!(state_of(word), DEAD, "a dead entry is left");
            let key = Key {
                client: way.client.get(),
                port: first(way.ports.get()),
                protocol: protocol_of(word),
                virtual_address: way.virtual_address.get(),
            };
            let place = Place::of(key.client(), config.seed.get());
            assert_eq!(tag, place.tag);
            let home = place.bucket(0, config.bucket_mask.get());
            if home as usize != index {
                spilled[home as usize] += 1;
            }
            let value = Value {
                server: way.server.get(),
                state: state_of(word),
                answered: word & ANSWERED != 0,
                expires: way.expires.get(),
            };
            let count = &mut counts[value.server as usize];
            count.1 += 1;
            count.0 += u32::from(state::is_active(value.state));
            assert_eq!(all.insert(key, value), None, "{key:?} is there twice");
        }
    }
    for (index, bucket) in tables.buckets().iter().enumerate() {
        assert_eq!(bucket.spilled.get(), spilled[index], "spilled of {index}");
    }
    for server in 0..SERVERS {
        let counted = tables.counts(server).unwrap();
        let counted = (counted.active.get(), counted.total.get());
        assert_eq!(counted, counts[server as usize], "counts of {server}");
    }
    all
}

fn find_any(tables: &HostTables, client: Client, peer: Peer) -> Option<Entry<'_>> {
    let config = tables.settings();
    let found = find(tables, config, client, peer);
    // The way out of line finds the same.
    let apart = find_from(tables, client, peer, Position::NOWHERE, 0);
    assert_eq!(
        found.map(|e| e.position),
        apart.entry(tables).map(|e| e.position)
    );
    found
}

fn make(tables: &HostTables, key: &Key, server: u32) -> Position {
    let now = ticks(tables.now(), tables.settings());
    let new = New::connection(key.client(), key.virtual_end(), server);
    let position = insert(tables, &new, now);
    settle(tables, key.client(), key.virtual_end(), position)
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Key, u32),
    Change(Key, u8, bool, u32),
    Remove(Key),
    Pass(u64),
}

fn key() -> impl Strategy<Value = Key> {
    let protocol = prop_oneof![Just(TCP), Just(UDP)];
    (0u32..5, 0u16..8, protocol, 0u32..2).prop_map(|(client, port, protocol, address)| Key {
        client: client.to_be(),
        port: port.to_be(),
        protocol,
        virtual_address: address,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (key(), 0..SERVERS).prop_map(|(key, server)| Step::Insert(key, server)),
        4 => (key(), 0u8..11, any::<bool>(), 1u32..2000)
            .prop_map(|(key, state, answered, time)| Step::Change(key, state, answered, time)),
        2 => key().prop_map(Step::Remove),
        1 => (0u64..4000).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..150)
}

proptest! {
    #[test]
    fn any_history_leaves_the_table_as_a_map_would_be(steps in steps(), bits in 0u32..5, seed: u64) {
        let tables = tables(1 << bits);
        tables.settings().seed.set(seed);
        let mut model = BTreeMap::new();
        for step in steps {
            let now = ticks(tables.now(), tables.settings());
            match step {
                Step::Insert(key, server) => insert_both(&tables, &mut model, key, server, now),
                Step::Change(key, state, answered, time) => {
                    let entry = find_any(&tables, key.client(), key.virtual_end());
                    prop_assert_eq!(entry.is_some(), model.contains_key(&key));
                    if let (Some(entry), Some(value)) = (entry, model.get_mut(&key)) {
                        let state = if key.protocol == UDP { value.state } else { state };
                        let flags = if answered { ANSWERED } else { 0 };
                        let seen = entry.way.word.get();
                        prop_assert!(change(&tables, entry.way, seen, (seen & TENANCIES) | word(state, key.protocol, 0, flags)));
                        entry.way.expires.set(now + time);
                        *value = Value { state, answered, expires: now + time, ..*value };
                    }
                }
                Step::Remove(key) => {
                    let entry = find_any(&tables, key.client(), key.virtual_end());
                    prop_assert_eq!(entry.is_some(), model.remove(&key).is_some());
                    if let Some(entry) = entry {
                        let seen = entry.way.word.get();
                        prop_assert!(remove(&tables, entry.position, seen));
                        prop_assert!(!remove(&tables, entry.position, seen), "removed twice");
                    }
                }
                Step::Pass(milliseconds) => {
                    tables.advance_ms(milliseconds);
                    tables.sweep();
                    let now = ticks(tables.now(), tables.settings());
                    model.retain(|_, value: &mut Value| value.expires > now);
                }
            }
            prop_assert_eq!(&contents(&tables), &model);
            is_found_from_both_sides(&tables, &model);
        }
        tables.advance_ms(1_000_000);
        tables.sweep();
        prop_assert!(contents(&tables).is_empty());
    }
}

fn insert_both(
    tables: &HostTables,
    model: &mut BTreeMap<Key, Value>,
    key: Key,
    server: u32,
    now: u32,
) {
    if let Some(known) = model.get(&key) {
        // Another processor was faster; ours is withdrawn for it, unless there was no room for a second.
        let known = known.server;
        let evicted = tables.reason(Reason::HalfOpenEvicted);
        let position = make(tables, &key, server);
        if let Some(entry) = position.entry(tables) {
            assert!(entry.way.server.get() == known || entry.way.server.get() == server);
        }
        if tables.reason(Reason::HalfOpenEvicted) != evicted {
            *model = contents(tables);
        }
        return;
    }
    let evicted = tables.reason(Reason::HalfOpenEvicted);
    let before = model.clone();
    let position = make(tables, &key, server);
    let fresh = if key.protocol == UDP {
        State::Udp
    } else {
        State::None
    };
    if position == Position::NOWHERE {
        assert_eq!(tables.reason(Reason::HalfOpenEvicted), evicted);
    } else {
        let expires = now + state::FIRST_TIMEOUT * tables.settings().ticks_per_second.get();
        let value = Value {
            server,
            state: fresh as u8,
            answered: false,
            expires,
        };
        model.insert(key, value);
    }
    let gone: Vec<_> = {
        let now_there: BTreeSet<_> = contents(tables).into_keys().collect();
        model
            .keys()
            .filter(|k| !now_there.contains(k))
            .copied()
            .collect()
    };
    assert_eq!(
        gone.len() as u64,
        tables.reason(Reason::HalfOpenEvicted) - evicted
    );
    assert!(gone.len() <= 1);
    for key in gone {
        let value = before[&key];
        let flags = if value.answered { ANSWERED } else { 0 };
        assert!(
            is_half_open(word(value.state, key.protocol, 0, flags)),
            "{value:?}"
        );
        model.remove(&key);
    }
}

fn is_found_from_both_sides(tables: &HostTables, model: &BTreeMap<Key, Value>) {
    for (key, value) in model {
        let entry = find_any(tables, key.client(), key.virtual_end()).unwrap();
        assert_eq!(entry.way.server.get(), value.server);
        assert_eq!(entry.way.virtual_address.get(), key.virtual_address);
        // By the server's end another virtual address of the same client and server may be found: then
        // replies of both look alike.
        let entry = find_any(tables, key.client(), Key::server_end(value.server)).unwrap();
        assert_eq!(entry.way.server.get(), value.server);
        assert_eq!(entry.way.client.get(), key.client);
    }
}

#[test]
fn a_full_table_refuses_rather_than_put_out_what_is_established() {
    let tables = tables(2);
    let keys: Vec<Key> = (0..9)
        .map(|port| Key {
            client: 7,
            port,
            protocol: TCP,
            virtual_address: 1,
        })
        .collect();
    for key in &keys[..8] {
        let entry = make(&tables, key, 0).entry(&tables).unwrap();
        let seen = entry.way.word.get();
        assert!(change(
            &tables,
            entry.way,
            seen,
            word(State::Established as u8, TCP, 0, ANSWERED | CONFIRMED)
        ));
    }
    assert_eq!(make(&tables, &keys[8], 1), Position::NOWHERE);
    assert_eq!(contents(&tables).len(), 8);
    // One that is half open gives way.
    let entry = find_any(&tables, keys[3].client(), keys[3].virtual_end()).unwrap();
    let seen = entry.way.word.get();
    assert!(change(
        &tables,
        entry.way,
        seen,
        word(State::SynRecv as u8, TCP, 0, 0)
    ));
    assert_ne!(make(&tables, &keys[8], 1), Position::NOWHERE);
    assert_eq!(tables.reason(Reason::HalfOpenEvicted), 1);
    let there = contents(&tables);
    assert_eq!(there.len(), 8);
    assert!(!there.contains_key(&keys[3]) && there.contains_key(&keys[8]));
}

#[test]
fn only_what_its_client_confirmed_and_is_not_over_is_kept_for_sure() {
    let kept = |state: State, flags| !is_half_open(word(state as u8, TCP, 0, flags));
    for state in [
        State::Established,
        State::FinWait,
        State::CloseWait,
        State::LastAck,
        State::Udp,
    ] {
        assert!(kept(state, ANSWERED | CONFIRMED), "{state:?}");
        assert!(!kept(state, ANSWERED), "{state:?}");
    }
    for state in [
        State::None,
        State::SynRecv,
        State::SynSent,
        State::TimeWait,
        State::Close,
    ] {
        assert!(!kept(state, ANSWERED | CONFIRMED), "{state:?}");
    }
}

#[test]
fn an_entry_that_changed_is_not_taken_out_by_who_saw_it_before() {
    let tables = tables(4);
    let key = Key {
        client: 7,
        port: 9,
        protocol: TCP,
        virtual_address: 1,
    };
    let entry = make(&tables, &key, 0).entry(&tables).unwrap();
    let seen = entry.way.word.get();
    assert!(change(
        &tables,
        entry.way,
        seen,
        word(State::SynRecv as u8, TCP, 0, 0)
    ));
    assert!(!remove(&tables, entry.position, seen));
    assert!(!change(
        &tables,
        entry.way,
        seen,
        word(State::Close as u8, TCP, 0, 0)
    ));
    assert_eq!(contents(&tables).len(), 1);
}

#[test]
fn an_entry_ends_at_its_deadline_and_not_before() {
    let tables = tables(4);
    let key = Key {
        client: 7,
        port: 9,
        protocol: UDP,
        virtual_address: 1,
    };
    make(&tables, &key, 0);
    tables.advance_ms(u64::from(state::FIRST_TIMEOUT) * 1000 - 8);
    tables.sweep();
    assert_eq!(contents(&tables).len(), 1);
    tables.advance_ms(8);
    tables.sweep();
    assert!(contents(&tables).is_empty());
}

#[test]
fn ticks_may_wrap_while_entries_live() {
    let tables = tables(4);
    tables.set_jiffies(((u64::from(u32::MAX) + 1) << 3) - 1000);
    let key = Key {
        client: 7,
        port: 9,
        protocol: TCP,
        virtual_address: 1,
    };
    make(&tables, &key, 0);
    tables.advance_ms(2000);
    tables.sweep();
    assert_eq!(contents(&tables).len(), 1);
    tables.advance_ms(1000);
    tables.sweep();
    assert!(contents(&tables).is_empty());
}

#[test]
fn threads_that_work_on_the_same_entries_leave_exact_counts() {
    // Few buckets and few keys, so that everything is contended and ways change hands all the time.
    for buckets in [1, 4] {
        let tables = tables(buckets);
        thread::scope(|scope| {
            for number in 0..4u64 {
                let tables = &tables;
                scope.spawn(move || hammer(tables, number + 1));
            }
            scope.spawn(|| (0..2000).for_each(|_| tables.sweep()));
        });
        contents(&tables);
        tables.advance_ms(1_000_000);
        tables.sweep();
        assert!(contents(&tables).is_empty());
    }
}

fn hammer(tables: &HostTables, seed: u64) {
    let mut random = seed;
    for _ in 0..100_000 {
        random = random
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(seed | 1);
        let bits = (random >> 32) as u32;
        let key = Key {
            client: bits & 1,
            port: (bits >> 2 & 3) as u16,
            protocol: TCP,
            virtual_address: 1,
        };
        let Some(entry) = find(tables, tables.settings(), key.client(), key.virtual_end()) else {
            make(tables, &key, (bits >> 8) % SERVERS);
            continue;
        };
        let seen = entry.way.word.get();
        if state_of(seen) == DEAD {
            continue;
        }
        if bits >> 12 & 1 == 0 {
            remove(tables, entry.position, seen);
        } else {
            let next = with_state(seen, ((bits >> 16) % 11) as u8);
            change(tables, entry.way, seen, next);
        }
    }
}
