//! The same random packets and changes through the kernel object and through the engine on the host: same
//! verdict, same bytes, same connections, counts and reasons after each step.
//!
//! A failure prints its seed; `FURIWAKE_SEED=… cargo test` plays it again.

mod choice;
mod twin;

use std::{env, time::SystemTime};

use furiwake_engine::host::Hook;

use crate::{
    director::Director,
    equality::{
        choice::{BEGINNINGS, Choice},
        twin::Twin,
    },
    network::in_network,
};

/// Packets and changes in a run.
const STEPS: u32 = 3000;

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
    let seed = match env::var("FURIWAKE_SEED") {
        Ok(seed) => seed.parse().expect("FURIWAKE_SEED is a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
    };
    in_network(move || {
        let mut kernel = Director::new(hook);
        let mut host = Twin::of(&kernel);
        let mut choice = Choice::new(seed);
        for step in 0..STEPS {
            let mut place = format!("FURIWAKE_SEED={seed}, {hook:?}, step {step}");
            if step < BEGINNINGS || choice.one_in(100) {
                let change = choice.change(step);
                place = format!("{place}, {change:?}");
                let done = host.change(&change);
                assert_eq!(done, change.command(&mut kernel), "{place}");
            } else {
                let incoming = choice.packet();
                host.set_clock(kernel.datapath.jiffies().unwrap());
                let wanted = host.receive(&incoming);
                let got = kernel.receive(&incoming);
                assert!(
                    wanted == got,
                    "{place}\n    in: {incoming:02x?}\n  host: {wanted:02x?}\nkernel: {got:02x?}"
                );
            }
            host.compare(&kernel, &place);
            if step % 100 == 99 {
                host.compare_counters(&mut kernel, &place);
            }
        }
        let connections = kernel.datapath.connections().unwrap();
        assert!(connections.len() > 10, "the packets met nothing");
    });
}
