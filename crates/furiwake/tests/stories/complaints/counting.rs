//! Counters: when they are right, and what keeps them so.

use furiwake_lab::{Hook, Nat};
use nix::sys::signal::Signal;

use crate::support::{ask, datagrams_from, echo, ipvsadm, nat, set, stats};

#[test]
fn w8_packets_are_counted_while_nobody_estimates() {
    let lab = nat("w8", Hook::Xdp);
    assert_eq!(ask(&lab, 2), ["rs2", "rs1"]);
    // All that reads counters or estimates rates is in the daemon, which does nothing now.
    lab.signal("director", Signal::SIGSTOP).unwrap();
    assert_eq!(ask(&lab, 20).len(), 20);
    lab.signal("director", Signal::SIGCONT).unwrap();
    assert_eq!(stats(&lab, "192.168.56.50:80")[0], 22);
    assert_eq!(stats(&lab, "10.0.0.10:80")[0], 11);
}

#[test]
fn w9_a_counter_is_exact_right_after_the_packet() {
    let lab = nat("w9", Hook::Tc);
    ipvsadm(&lab, "-A -u 192.168.56.50:7 -s rr");
    ipvsadm(&lab, "-a -u 192.168.56.50:7 -r 10.0.0.10 -m");
    let socket = datagrams_from(&lab, Nat::CLIENT, 7);
    for number in 1..=20 {
        if number == 10 {
            set(&lab, "run_estimation 0");
        }
        echo(&socket).unwrap();
        // IP and UDP headers, and the word.
        let row = [1, number, number, 32 * number, 32 * number];
        assert_eq!(stats(&lab, "10.0.0.10:7"), row);
        assert_eq!(stats(&lab, "192.168.56.50:7"), row);
    }
}
