//! What happens to a packet: every decision of the director, for the kernel and the host alike.
//!
//! No allocation, no I/O, no clock. The code is generic over two traits: [`packet::Packet`], the bytes, and
//! [`tables::Tables`], the state. In the kernel these are XDP or tc buffers and BPF maps (crate `ebpf`); on
//! the host they are vectors ([`host`]), so that unit tests, fuzzers and `furiwake explain` run the very
//! same code. [`pipeline::process`] is the way in.
//!
//! Addresses, ports and other wire fields are kept as they lie on the wire: a `u32` read from the packet in
//! memory order. Nothing here swaps bytes but arithmetic that needs numbers.

#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics, asm_experimental_arch),
    allow(internal_features)
)]

pub mod checksum;
pub mod connect;
pub mod connection;
pub mod decap;
pub(crate) mod deliver;
pub mod fragment;
mod hidden;
#[cfg(not(target_arch = "bpf"))]
pub mod host;
pub mod icmp;
pub mod learn;
#[cfg(not(target_arch = "bpf"))]
pub mod list;
pub mod packet;
pub mod pipeline;
pub mod reason;
pub mod reject;
pub mod rewrite;
pub mod schedule;
pub mod sctp;
pub mod settings;
pub mod shared;
pub mod siphash;
pub mod state;
pub mod sweep;
pub mod tables;
pub mod threshold;
pub mod transmit;
pub mod tunnel;
