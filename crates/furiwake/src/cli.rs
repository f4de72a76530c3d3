//! The command line: which command runs, decided by the name we were called by and then by clap.
//!
//! Called as `ipvsadm`, `ipvsadm-save` or `ipvsadm-restore`, every argument belongs to that language, which
//! clap could not reproduce (popt's joined short options, its errors and exit codes).

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

/// Exit status when an operation failed; clap itself ends with 2 on wrong usage.
const FAILED: u8 = 1;

/// A complete Linux Virtual Server on an eBPF data plane.
#[derive(Debug, Parser)]
#[command(name = "furiwake", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What LVS users know: `furiwake ipvsadm -ln` is `ipvsadm -ln`.
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// Everything after the word, untouched.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Run what was asked for.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let result: anyhow::Result<ExitCode> = match cli.command {
        Command::Ipvsadm { arguments } => Err(anyhow::anyhow!(
            "ipvsadm is not built in yet ({} arguments)",
            arguments.len()
        )),
    };
    result.unwrap_or_else(|error| {
        eprintln!("furiwake: {error:#}");
        ExitCode::from(FAILED)
    })
}
