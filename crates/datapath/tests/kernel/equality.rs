//! Random tables with random packets and changes, through the kernel object and through the engine on the host: same
//! verdict, same bytes, same stage for each packet, same connections, counts, counters, schedulers and reasons in the end.
//!
//! A failure prints the seed of its case and the fewest steps that show the difference.
//! `FURIWAKE_SEED=… FURIWAKE_CASES=1 cargo test -p furiwake-datapath --test kernel equality` plays it again.

mod case;
mod choice;
mod compare;
mod kernel;
mod packets;
mod sweeper;
mod twin;
mod world;

use std::{
    env,
    time::{Instant, SystemTime},
};

use furiwake_engine::host::Hook;

use crate::{equality::kernel::Kernel, network::in_network};

/// Cases in a run, for each hook, unless `FURIWAKE_CASES` says otherwise.
const CASES: u64 = 2000;

#[test]
fn host_and_kernel_agree_at_xdp() {
    compare(Hook::Xdp);
}

#[test]
fn host_and_kernel_agree_at_xdp_on_veth() {
    compare(Hook::XdpVeth);
}

#[test]
fn host_and_kernel_agree_at_tc() {
    compare(Hook::Tc);
}

fn compare(hook: Hook) {
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let first = number("FURIWAKE_SEED").unwrap_or_else(now);
    let cases = number("FURIWAKE_CASES").unwrap_or(CASES);
    in_network(move || {
        let mut kernel = Kernel::new(hook);
        let begun = Instant::now();
        for seed in (0..cases).map(|case| first.wrapping_add(case)) {
            let steps = case::steps(seed);
            let all: Vec<_> = steps.iter().collect();
            // What a tick between the two clocks made differs once, and not twice more.
            let differs = (0..3).all(|_| case::play(&mut kernel, &all).is_err());
            if differs {
                let (fewest, difference) = case::shorten(&mut kernel, &steps);
                panic!(
                    "FURIWAKE_SEED={seed} FURIWAKE_CASES=1, {hook:?}: {difference}\n{}",
                    case::told(&fewest)
                );
            }
        }
        println!("{cases} cases from {first} on in {:?}", begun.elapsed());
    });
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}
