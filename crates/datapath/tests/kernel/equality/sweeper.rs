//! The kernel's sweeper, made to go round when it is wanted and at no other time.

use std::{thread, time::Instant};

use aya::{
    maps::{Array, Map, MapData},
    programs::{Program, TestRun as _, TestRunOptions},
};
use furiwake_engine::tables::LAYOUT;

use crate::director::{Director, pins};

/// The map's value: a timer, the bucket that it goes on from, how many steps it did.
type Value = [u32; 6];

pub(crate) struct Sweeper(Array<MapData, Value>);

impl Sweeper {
    /// Stop it after its next step.
    pub(crate) fn held(kernel: &Director) -> Self {
        let config = kernel.datapath.memory().config;
        config.sweep_interval_ns.set(u64::MAX / 4);
        config.sweep_step.set(config.bucket_mask.get() + 1);
        let path = pins().join(format!("layout-{LAYOUT}/maps/SWEEPER"));
        let map = Map::Array(MapData::from_pin(path).unwrap());
        let sweeper = Self(Array::try_from(map).unwrap());
        // Should it have been at work, this is the last time.
        sweeper.go_round(kernel);
        sweeper
    }

    /// Let it go round once; gives where it began.
    pub(crate) fn go_round(&self, kernel: &Director) -> u32 {
        let before = self.0.get(&0, 0).unwrap();
        let Some(Program::Xdp(program)) = kernel.datapath.program("furiwake_sweep") else {
            panic!("the object has no sweeper");
        };
        let options = TestRunOptions {
            data_in: Some(&[0; 64]),
            ..TestRunOptions::default()
        };
        program.test_run(options).unwrap();
        let begun = Instant::now();
        loop {
            let [.., position, steps] = self.0.get(&0, 0).unwrap();
            if steps != before[5] {
                return position;
            }
            assert!(begun.elapsed().as_secs() < 10, "the sweeper does not begin");
            thread::yield_now();
        }
    }
}
