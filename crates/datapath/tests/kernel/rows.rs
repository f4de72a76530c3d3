//! Verdict rows, by subject.

mod headers;
mod icmp;
mod persistence;
mod servers;
mod sizes;
mod tcp;
mod tunnel;
mod udp;
