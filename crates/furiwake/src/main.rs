//! The one binary: the director's daemon, every command, and `ipvsadm` when called by that name.

mod api;
mod cli;
mod client;
mod connections;
mod daemon;
mod decap;
mod down;
mod ipvsadm;
mod lab;
mod names;
mod proc_file;
mod set;
mod slow_start;
mod status;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
