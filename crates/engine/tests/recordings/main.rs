//! Recordings of the real IPVS, played again through the engine on the host.
//!
//! The recordings lie in `../golden`; README.md there says where they come from and which are left out. Every
//! packet is compared byte for byte, every listing word for word. What may differ is in [`differences`].

#![allow(clippy::unwrap_used, reason = "tests")]

mod differences;
mod director;
mod play;

use furiwake_engine::host::Hook;
use play::play;

macro_rules! recordings {
    ($($name:ident: $file:literal;)+) => {
        $(#[test]
        fn $name() {
            for hook in Hook::ALL {
                play($file, include_str!(concat!("../golden/", $file, ".jsonl")), hook);
            }
        })+

        #[test]
        fn every_difference_that_is_listed_is_met() {
            let files = [$(($file, include_str!(concat!("../golden/", $file, ".jsonl")))),+];
            let met: Vec<_> = files
                .into_iter()
                .flat_map(|(file, text)| play(file, text, Hook::Tc))
                .collect();
            for difference in differences::ALL {
                assert!(met.contains(difference), "not met: {difference:?}");
            }
        }
    };
}

recordings! {
    servers_are_chosen_as_recorded: "schedulers";
    packets_leave_as_recorded: "packets";
    icmp_errors_are_translated_as_recorded: "icmp";
    quiesced_and_removed_servers_behave_as_recorded: "quiesce";
    states_follow_packets_as_recorded: "states";
    odd_packets_are_treated_as_recorded: "others";
}
