//! The one binary: the director's daemon, every command, and `ipvsadm` when called by that name.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
