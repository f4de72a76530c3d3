//! Packets through the engine on the host: what becomes of them, what they look like then, what is counted.

#![allow(clippy::unwrap_used, reason = "tests")]

mod anything;
mod director;
mod fragments;
mod limits;
mod persistence;
mod quiesce;
mod reasons;
mod settings;
mod tunnel;
mod unfinished;
mod wire;
