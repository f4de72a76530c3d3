//! Repair: what a daemon that was killed in the middle of a change left half done is finished or undone.
//!
//! Packets go through the tables meanwhile, so each step here is one that the daemon might take anyway.

use std::collections::HashSet;

use furiwake_engine::{
    list,
    schedule::{Scheduler, wrr},
    tables::{NONE, Service},
};

use crate::{
    Error,
    index::is_listed,
    load::{Maps, RawServiceKey},
    services::{self, all_services, enter, is_live, retire, take_out, unlist},
    translate::key_of,
};

/// Make lists, slots and the index of services agree.
pub(crate) fn repair(maps: &mut Maps) -> Result<(), Error> {
    finish_removals(maps)?;
    enter_services(maps)?;
    let mut listed = HashSet::new();
    for index in all_services(maps) {
        mend_list(maps, index);
        listed.extend(services::servers(maps, &maps.service[index as usize]));
    }
    for (at, server) in maps.server.iter().enumerate() {
        if is_listed(server) && !listed.contains(&(at as u32)) {
            tracing::warn!(server = at, "a server in no list: removed");
            retire(server);
        }
    }
    Ok(())
}

/// Services that are being removed have no servers and are not found.
fn finish_removals(maps: &mut Maps) -> Result<(), Error> {
    let entries: Vec<(RawServiceKey, u32)> = maps
        .service_index
        .iter()
        .collect::<Result<_, _>>()
        .map_err(|e| Error::Aya {
            what: "read the services",
            path: "SERVICE_INDEX".into(),
            source: Box::new(e),
        })?;
    for (key, index) in entries {
        let service = maps.service.get(index as usize);
        if service.is_none_or(|s| !is_live(s) || key_of(s) != key.0) {
            tracing::warn!(
                service = index,
                "a service is found that is not there: taken out"
            );
            take_out(maps, &key)?;
        }
    }
    for (index, service) in maps.service.iter().enumerate() {
        if service.flags.get() & Service::REMOVED != 0 {
            unlist(maps, index as u32);
        }
    }
    Ok(())
}

/// Services that are there are found.
fn enter_services(maps: &mut Maps) -> Result<(), Error> {
    for index in all_services(maps) {
        match maps
            .service_index
            .get(&RawServiceKey(key_of(&maps.service[index as usize])), 0)
        {
            Ok(found) if found == index => {}
            // Two of a kind: the one that packets find is the one.
            Ok(_) => {
                let flags = &maps.service[index as usize].flags;
                flags.set(flags.get() | Service::REMOVED);
                unlist(maps, index);
            }
            Err(_) => {
                tracing::warn!(service = index, "a service is not found: entered");
                enter(maps, index)?;
            }
        }
    }
    Ok(())
}

/// A list holds servers that are available, its service's own, each once; wrr and hash rings know their weights.
fn mend_list(maps: &Maps, index: u32) {
    let service = &maps.service[index as usize];
    let walked = services::servers(maps, service);
    let mut seen = HashSet::new();
    let is_good = |at: &u32| {
        let server = &maps.server[*at as usize];
        is_listed(server) && server.service.get() == index && seen.insert(*at)
    };
    let good: Vec<u32> = walked.iter().copied().filter(is_good).collect();
    if good != walked {
        tracing::warn!(
            service = index,
            "a list of servers was half changed: mended"
        );
        let mut next = NONE;
        for &at in good.iter().rev() {
            maps.server[at as usize].next.set(next);
            next = at;
        }
        service.head.set(next);
        for at in walked.iter().filter(|at| !good.contains(at)) {
            list::forget(maps, *at);
        }
    }
    let weights = good.iter().map(|&at| maps.server[at as usize].weight.get());
    let has_ring = |scheduler: Scheduler| scheduler.ring_slots() != 0;
    if wrr::divisor_and_mark(weights) != (service.divisor.get(), service.mark.get())
        || Scheduler::from_number(service.scheduler.get()).is_some_and(has_ring)
    {
        list::weights_changed(maps, index);
    }
}
