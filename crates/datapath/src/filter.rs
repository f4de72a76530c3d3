//! The filter of addresses worth a look, made from the services and servers there are.

use furiwake_engine::{
    shared::Shared64,
    tables::{FILTER_WORDS, Filter},
};

use crate::load::Maps;

/// Set and clear what follows from the slots. A bit that is needed is never cleared on the way.
pub(crate) fn refresh(maps: &Maps) {
    let filter = &maps.filter[0];
    let services = maps
        .service
        .iter()
        .filter(|s| s.flags.get() != 0)
        .map(|s| s.address.get());
    let servers = maps
        .server
        .iter()
        .filter(|s| s.flags.get() != 0)
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
