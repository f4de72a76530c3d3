//! The kernel object as cases find it: each begins anew, in much less time than it takes to load it.

use std::net::IpAddr;

use aya::maps::{HashMap, Map, MapData};
use furiwake_datapath::Error;
use furiwake_engine::{
    host::Hook,
    tables::{CacheKey, Cached, FragmentKey, FragmentPorts, LAYOUT},
};
use furiwake_lvs::{
    model::{Settings, Timeouts},
    plan::Change,
};

use super::{choice::every_service, compare::SERVERS, sweeper::Sweeper};
use crate::director::{Director, next_hop, pins};

pub(crate) struct Kernel {
    pub(crate) director: Director,
    pub(crate) sweeper: Sweeper,
    fragments: HashMap<
        MapData,
        [u32; size_of::<FragmentKey>() / 4],
        [u32; size_of::<FragmentPorts>() / 4],
    >,
    cached: HashMap<MapData, [u32; size_of::<CacheKey>() / 4], [u64; size_of::<Cached>() / 8]>,
}

const SEED: u64 = 0x5eed_0f7a_b1e5_c0de;

impl Kernel {
    pub(crate) fn new(hook: Hook) -> Self {
        let director = Director::new(hook);
        director
            .datapath
            .memory()
            .config
            .errors_per_second
            .set(u32::MAX);
        // Always the same places in the table, so that a case can be played again.
        director.datapath.memory().config.seed.set(SEED);
        Self {
            sweeper: Sweeper::held(&director),
            director,
            fragments: HashMap::try_from(map("FRAGMENT")).unwrap(),
            cached: HashMap::try_from(map("CACHED")).unwrap(),
        }
    }

    /// Carry out a change, and tell next hops as the daemon does.
    pub(crate) fn change(&mut self, change: &Change) -> Result<(), Error> {
        self.director.datapath.apply(change)?;
        if let Change::AddServer { server, .. } = change
            && let IpAddr::V4(address) = server.key.address
        {
            let datapath = &mut self.director.datapath;
            datapath.set_next_hop(server.key.address, next_hop(address))?;
        }
        Ok(())
    }

    /// Begin anew: nothing is left of the case before.
    pub(crate) fn begin(&mut self) {
        let datapath = &mut self.director.datapath;
        for key in every_service() {
            // Most are not there.
            let _ = datapath.apply(&Change::RemoveService(key));
        }
        let memory = datapath.memory();
        for bucket in memory.connections {
            if bucket.ways.iter().all(|way| way.word.get() == 0) {
                continue;
            }
            bucket.tags.set(0);
            bucket.spilled.set(0);
            for way in &bucket.ways {
                let cells = [
                    &way.client,
                    &way.virtual_address,
                    &way.ports,
                    &way.server,
                    &way.word,
                    &way.expires,
                    &way.hop,
                ];
                cells.into_iter().for_each(|cell| cell.set(0));
            }
        }
        for (server, counts) in memory.servers.iter().zip(memory.counts).take(SERVERS) {
            let cells = [
                &counts.active,
                &counts.total,
                &counts.persistent,
                &counts.overloaded,
            ];
            cells.into_iter().for_each(|cell| cell.set(0));
            // Long ago.
            server.idle_since.set(1);
        }
        memory.config.drop_turn.set(0);
        datapath.free_removed(1000).unwrap();
        datapath
            .apply(&Change::SetSettings(Settings::default()))
            .unwrap();
        datapath
            .apply(&Change::SetTimeouts(Timeouts::default()))
            .unwrap();
        let keys: Vec<_> = self.fragments.keys().map(Result::unwrap).collect();
        keys.iter()
            .for_each(|key| self.fragments.remove(key).unwrap());
        let keys: Vec<_> = self.cached.keys().map(Result::unwrap).collect();
        keys.iter().for_each(|key| self.cached.remove(key).unwrap());
        self.director.forget_reasons();
    }
}

fn map(name: &str) -> Map {
    let path = pins().join(format!("layout-{LAYOUT}/maps/{name}"));
    Map::LruHashMap(MapData::from_pin(path).unwrap())
}
