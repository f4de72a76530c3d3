//! Counters: sums over processors, zero points, and what a service keeps of servers that are gone.
//!
//! The programs count per server only. A service shows the sum of the servers whose slots are still its own,
//! plus a base that takes up what leaves: modular arithmetic, so that a base may well be "negative".

use aya::maps::PerCpuValues;
use furiwake_engine::tables::Counters as Cells;
use furiwake_lvs::view::Counters;

use crate::{
    Error,
    load::{Maps, RawCounters},
};

/// Set all cells to zero.
pub(crate) fn clear(cells: &Cells) {
    store(cells, [0; 5]);
}

fn load(cells: &Cells) -> RawCounters {
    [
        cells.connections.get(),
        cells.in_packets.get(),
        cells.in_bytes.get(),
        cells.out_packets.get(),
        cells.out_bytes.get(),
    ]
}

fn store(cells: &Cells, values: RawCounters) {
    cells.connections.set(values[0]);
    cells.in_packets.set(values[1]);
    cells.in_bytes.set(values[2]);
    cells.out_packets.set(values[3]);
    cells.out_bytes.set(values[4]);
}

fn plus(a: RawCounters, b: RawCounters) -> RawCounters {
    std::array::from_fn(|i| a[i].wrapping_add(b[i]))
}

fn minus(a: RawCounters, b: RawCounters) -> RawCounters {
    std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
}

fn shown(values: RawCounters) -> Counters {
    let [connections, in_packets, in_bytes, out_packets, out_bytes] = values;
    Counters {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    }
}

/// What a server's slot has counted, on all processors.
fn counted(maps: &Maps, slot: usize) -> Result<RawCounters, Error> {
    let index = u32::try_from(slot).unwrap_or(u32::MAX);
    let values = maps.counters.get(&index, 0).map_err(failed)?;
    Ok(values.iter().fold([0; 5], |sum, value| plus(sum, *value)))
}

fn failed(error: aya::maps::MapError) -> Error {
    Error::Aya {
        what: "read or write counters",
        path: "COUNTERS".into(),
        source: Box::new(error),
    }
}

/// Counters of a server since it was made or zeroed.
pub(crate) fn server(maps: &Maps, slot: usize) -> Result<Counters, Error> {
    Ok(shown(minus(
        counted(maps, slot)?,
        load(&maps.server_zero[slot]),
    )))
}

/// Counters of every service at once, by index: one walk over the servers.
pub(crate) fn services(maps: &Maps) -> Result<Vec<Counters>, Error> {
    let mut sums: Vec<RawCounters> = maps.service_base.iter().map(load).collect();
    for slot in maps.index.servers() {
        let service = maps.server[slot as usize].service.get();
        if let Some(sum) = sums.get_mut(service as usize) {
            *sum = plus(*sum, counted(maps, slot as usize)?);
        }
    }
    Ok(sums.into_iter().map(shown).collect())
}

/// Zero a service and its servers.
pub(crate) fn zero(maps: &Maps, index: u32) -> Result<(), Error> {
    let mut sum = [0; 5];
    for slot in maps.index.of_service(index) {
        let slot = slot as usize;
        let now = counted(maps, slot)?;
        store(&maps.server_zero[slot], now);
        sum = plus(sum, now);
    }
    store(&maps.service_base[index as usize], minus([0; 5], sum));
    Ok(())
}

/// A free slot is taken: it begins at zero.
pub(crate) fn clear_server(maps: &mut Maps, slot: usize) -> Result<(), Error> {
    let index = u32::try_from(slot).unwrap_or(u32::MAX);
    let values =
        PerCpuValues::try_from(vec![[0u64; 5]; maps.processors]).map_err(|source| Error::Map {
            path: "COUNTERS".into(),
            source,
        })?;
    maps.counters.set(index, values, 0).map_err(failed)?;
    clear(&maps.server_zero[slot]);
    Ok(())
}

/// A slot is about to be freed: its service keeps what it counted.
pub(crate) fn settle_server(maps: &Maps, slot: usize) -> Result<(), Error> {
    let base = &maps.service_base[maps.server[slot].service.get() as usize];
    store(base, plus(load(base), counted(maps, slot)?));
    Ok(())
}

/// A slot goes to a service, its own of old or one made anew with the same key; the latter begins at zero.
pub(crate) fn move_server(maps: &Maps, slot: usize, to: u32) -> Result<(), Error> {
    let from = maps.server[slot].service.get();
    if from == to {
        return Ok(());
    }
    let now = counted(maps, slot)?;
    settle_server(maps, slot)?;
    let base = &maps.service_base[to as usize];
    store(base, minus(load(base), now));
    store(&maps.server_zero[slot], now);
    Ok(())
}
