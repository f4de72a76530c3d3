//! The filter of addresses worth a look, made from the services and servers there are.

use furiwake_engine::{
    shared::{Shared32, Shared64},
    tables::{FILTER_WORDS, Filter, Service},
};

use crate::load::Maps;

/// Set and clear what follows from the slots. A bit that is needed is never cleared on the way.
///
/// As in IPVS, whose hooks go with the last service, nothing is looked at when there is none left; otherwise
/// removed services and servers count as long as they may have connections.
pub(crate) fn refresh(maps: &Maps) {
    let filter = &maps.filter[0];
    let is_any_left = maps.service.iter().any(|s| s.flags.get() == Service::USED);
    let is_looked_at = |flags: &Shared32| is_any_left && flags.get() != 0;
    let services = maps
        .service
        .iter()
        .filter(|s| is_looked_at(&s.flags))
        .map(|s| s.address.get());
    let servers = maps
        .server
        .iter()
        .filter(|s| is_looked_at(&s.flags))
        .map(|s| s.address.get());
    write(&filter.virtuals, services);
    write(&filter.servers, servers);
}

fn write(words: &[Shared64; FILTER_WORDS], addresses: impl Iterator<Item = u32>) {
    let mut wanted = [0u64; FILTER_WORDS];
    for address in addresses {
        let (word, bit) = Filter::place(address);
        wanted[word] |= 1 << bit;
    }
    for (word, wanted) in words.iter().zip(wanted) {
        if word.get() != wanted {
            word.set(wanted);
        }
    }
}
