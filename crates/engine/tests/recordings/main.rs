//! Recordings of the real IPVS, played again through the engine on the host.
//!
//! The recordings lie in `../golden`; README.md there says where they come from. Every packet is compared byte for
//! byte, every listing line by line, every choice of a server. What is not played is in `play/skipped.rs`, what may
//! differ in `play/differences.rs`, each with its reason.

#![allow(clippy::unwrap_used, reason = "tests")]

mod director;
mod play;

use director::HostDirector;
use furiwake_engine::host::Hook;

fn play(file: &str) {
    for hook in Hook::ALL {
        let complaints = play::play_all(file, &mut HostDirector::new(hook));
        assert!(
            complaints.is_empty(),
            "{hook:?}, {} complaints\n{}",
            complaints.len(),
            complaints.join("\n")
        );
    }
}

macro_rules! recordings {
    ($($name:ident: $file:literal;)+) => {
        $(#[test]
        fn $name() {
            play($file);
        })+

        #[test]
        fn every_file_is_played() {
            let played = [$($file),+];
            assert!(play::FILES.iter().all(|(file, _)| played.contains(file)));
        }
    };
}

recordings! {
    servers_are_chosen_as_recorded: "schedulers";
    states_follow_packets_as_recorded: "states";
    real_sockets_are_served_as_recorded: "sockets";
    packets_leave_as_recorded: "packets";
    clients_persist_as_recorded: "persistence";
    icmp_errors_are_translated_as_recorded: "icmp";
    quiesced_and_removed_servers_behave_as_recorded: "quiesce";
    odd_packets_are_treated_as_recorded: "others";
    what_is_like_the_recordings_is_as_we_recorded: "siblings";
}
