//! What users of IPVS have complained of for years (the list is in docs/ipvs-differences.md), one test each.
//!
//! W10 is in `tunnels.rs`. W19, the cost of a look-up, is for the benchmarks.

mod configuration;
mod counting;
mod floods;
mod leaving;
mod ports;
