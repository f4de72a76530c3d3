//! What is the same in the end: connections and templates, counts, counters, schedulers, reasons.

use std::fmt::Debug;

use furiwake_engine::{
    connection::{Bucket, TEMPLATE, Way},
    schedule::Scheduler,
    tables::{Server, Service, Tables as _},
};

use super::{kernel::Kernel, twin::Twin};

/// Slots that are compared; no case uses more.
pub(crate) const SERVICES: usize = 16;
pub(crate) const SERVERS: usize = 64;

/// Ticks by which deadlines may differ: the clocks are not read at the same moment, and deadlines move only when it is
/// worth it.
const TOLERANCE: u32 = 40;

pub(crate) fn compare(host: &Twin, kernel: &Kernel) -> Result<(), String> {
    let memory = kernel.director.datapath.memory();
    let tables = &host.tables;
    for (index, (ours, theirs)) in tables.buckets().iter().zip(memory.connections).enumerate() {
        let same = ours.tags.get() == theirs.tags.get()
            && ours.spilled.get() == theirs.spilled.get()
            && used(ours).zip(used(theirs)).all(|(ours, theirs)| {
                is_same(ours, theirs) && is_hop_same(host, kernel, ours, theirs)
            });
        if !same {
            return Err(format!(
                "bucket {index}\n  host: {ours:x?}\nkernel: {theirs:x?}"
            ));
        }
    }
    for at in 0..SERVERS {
        let place = format!("server {at} {:x?}", memory.servers[at]);
        let (Some(server), Some(counts), Some(counters)) = (
            tables.server(at as u32),
            tables.counts(at as u32),
            tables.counters(at as u32),
        ) else {
            return Err(format!("{place}: too many servers"));
        };
        let flags = Server::USED | Server::AVAILABLE;
        let theirs = &memory.servers[at];
        same(
            &format!("flags of {place}"),
            server.flags.get() & flags,
            theirs.flags.get() & flags,
        )?;
        if server.flags.get() == 0 {
            continue;
        }
        same(
            &format!("weights of {place}"),
            (server.weight.get(), server.last_weight.get()),
            (theirs.weight.get(), theirs.last_weight.get()),
        )?;
        let theirs = &memory.counts[at];
        let words = |counts: &furiwake_engine::tables::Counts| {
            (
                counts.active.get(),
                counts.total.get(),
                counts.persistent.get(),
                counts.overloaded.get(),
            )
        };
        same(
            &format!("connections of {place}"),
            words(counts),
            words(theirs),
        )?;
        let theirs = kernel.director.datapath.counters(at).unwrap();
        same(
            &format!("counters of {place}"),
            (
                counters.connections.get(),
                counters.in_packets.get(),
                counters.in_bytes.get(),
                counters.out_packets.get(),
                counters.out_bytes.get(),
            ),
            (
                theirs.connections,
                theirs.in_packets,
                theirs.in_bytes,
                theirs.out_packets,
                theirs.out_bytes,
            ),
        )?;
    }
    for at in 0..SERVICES {
        let (Some(ours), Some(state)) =
            (tables.service(at as u32), tables.scheduler_state(at as u32))
        else {
            return Err("too many services".to_owned());
        };
        let theirs = &memory.services[at];
        // The other flags of a removed one mean nothing.
        let shown = |service: &Service| match service.flags.get() {
            flags if flags & Service::REMOVED != 0 => Service::REMOVED,
            flags => flags,
        };
        same(
            &format!("flags of service {at}"),
            shown(ours),
            shown(theirs),
        )?;
        // What lblc and lblcr remember is a tick.
        let by_tick = [Scheduler::Lblc as u32, Scheduler::Lblcr as u32];
        let is_live = shown(ours) & Service::USED != 0;
        if is_live && !by_tick.contains(&ours.scheduler.get()) {
            let theirs = memory.schedulers[at].0.get();
            same(&format!("scheduler of service {at}"), state.0.get(), theirs)?;
        }
    }
    let theirs = kernel.director.datapath.memory().config.drop_turn.get();
    same("drop_turn", tables.settings().drop_turn.get(), theirs)?;
    same("reasons", tables.reasons(), kernel.director.reasons())
}

fn same<T: PartialEq + Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    match ours == theirs {
        true => Ok(()),
        false => Err(format!("{what}\n  host: {ours:x?}\nkernel: {theirs:x?}")),
    }
}

/// Entries that are in use, by the tags.
fn used(bucket: &Bucket) -> impl Iterator<Item = &Way> {
    let tags = bucket.tags.get();
    let is_used = move |lane: usize| tags >> (16 * lane) & 0xffff > 1;
    let ways = bucket.ways.iter().enumerate();
    ways.filter(move |(lane, _)| is_used(*lane))
        .map(|(_, way)| way)
}

fn is_same(ours: &Way, theirs: &Way) -> bool {
    let late = ours
        .expires
        .get()
        .wrapping_sub(theirs.expires.get())
        .wrapping_add(TOLERANCE);
    ours.client.get() == theirs.client.get()
        && ours.virtual_address.get() == theirs.virtual_address.get()
        && ours.ports.get() == theirs.ports.get()
        && ours.server.get() == theirs.server.get()
        && ours.word.get() == theirs.word.get()
        && late <= 2 * TOLERANCE
}

/// Whether two entries have the same next hop, wherever it was noted. The upper half follows the clock.
fn is_hop_same(host: &Twin, kernel: &Kernel, ours: &Way, theirs: &Way) -> bool {
    let (at, other) = (ours.hop.get() & 0xffff, theirs.hop.get() & 0xffff);
    if ours.word.get() & TEMPLATE != 0 || at == 0 || other == 0 {
        return at == other;
    }
    let theirs = &kernel.director.datapath.memory().hops[other as usize];
    host.tables
        .hop(at)
        .is_some_and(|ours| format!("{ours:?}") == format!("{theirs:?}"))
}
