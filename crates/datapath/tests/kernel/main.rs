//! The kernel object, tried packet by packet through `BPF_PROG_TEST_RUN`.
//!
//! Needs root: each test makes network and mount namespaces for itself, which vanish with it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod decap;
mod director;
mod equality;
mod far;
mod half;
mod hooks;
mod life;
mod netlink;
mod network;
mod packet;
mod processor;
mod recordings;
mod row;
mod rows;
mod services;
