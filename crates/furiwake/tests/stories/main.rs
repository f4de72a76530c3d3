//! Whole directors in labs: each test tells a story of a network. Run as root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

mod complaints;
mod counters;
mod decap;
mod direct_routing;
mod downloads;
mod exercise;
mod hooks;
mod icmp;
mod interfaces;
mod ipvsadm;
mod judged;
mod neighbours;
mod persistence;
mod restart;
mod room;
mod run;
mod schedulers;
mod tunnels;
mod udp;
mod unreachable;
mod untouched;
