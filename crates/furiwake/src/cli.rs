//! The command line: which command runs, decided by the name we were called by and then by clap.
//!
//! Called as `ipvsadm`, `ipvsadm-save` or `ipvsadm-restore`, every argument belongs to that language, which
//! clap could not reproduce (popt's joined short options, its errors and exit codes).

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::{
    client::{self, Client, Socket},
    connections, daemon, decap, down, ipvsadm, lab, proc_file, set, slow_start, status,
};

/// Exit status when an operation failed; clap itself ends with 2 on wrong usage.
const FAILED: u8 = 1;

/// A complete Linux Virtual Server on an eBPF data plane.
#[derive(Debug, Parser)]
#[command(
    name = "furiwake",
    version,
    about,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a director in the foreground.
    ///
    /// It loads the data plane, or takes over the one that is there, and listens on the Ethernet interfaces
    /// of its network namespace. SIGTERM ends it and leaves forwarding as it is; `furiwake down` ends that.
    Run(daemon::options::Options),
    /// Stop the director and remove its data plane: every trace of it.
    Down(down::Options),
    /// How the director is: interfaces, services, next hops, packets not forwarded.
    Status(Asked),
    /// The connection table.
    Connections(Asked),
    /// Show and change settings: those of the kernel's IPVS, by their names, and a few of our own.
    Set(set::Options),
    /// How many seconds a new or returning server of a service takes to get its whole share.
    SlowStart(slow_start::Options),
    /// Replace all services by what `ipvsadm-save` wrote: all of it, or, with the line named, nothing.
    Restore {
        #[command(flatten)]
        socket: Socket,

        /// The file; standard input by default.
        file: Option<PathBuf>,
    },
    /// What the kernel's IPVS shows in files below /proc/net, for scripts that read those.
    Proc(proc_file::Options),
    /// What LVS users know: `furiwake ipvsadm -ln` is `ipvsadm -ln`.
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// Everything after the word, untouched.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Be the real server at the end of tunnels, in the foreground.
    ///
    /// Packets to the virtual addresses that come in ipip, GUE or GRE are taken out and go to this machine's own stack,
    /// on which the addresses must be (`ip addr add VIP/32 dev lo`). The kernel needs no tunnel device for it. Ends
    /// with SIGTERM or SIGINT, prints counters then and on SIGUSR1, and leaves nothing behind.
    Decap(decap::Options),
    /// Networks of namespaces to try, break and measure a director in.
    Lab(lab::Args),
}

/// The options of commands that show something.
#[derive(Debug, clap::Args)]
struct Asked {
    #[command(flatten)]
    socket: Socket,

    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Run what was asked for.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(command) = ipvsadm::Command::called_by_name(&arguments) {
        die_of_closed_pipes();
        return command.run();
    }
    match run(Cli::parse_from(arguments).command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("furiwake: {error:#}");
            let remedy = error
                .downcast_ref::<client::Error>()
                .and_then(client::Error::remedy);
            if let Some(remedy) = remedy {
                eprintln!("{remedy}");
            }
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    // What runs for long must outlive whoever reads what it writes.
    if !matches!(
        command,
        Command::Run(_) | Command::Decap(_) | Command::Lab(_)
    ) {
        die_of_closed_pipes();
    }
    match command {
        Command::Run(options) => daemon::run(&options)?,
        Command::Down(options) => print!("{}", down::run(&options)?),
        Command::Status(Asked { socket, json }) => {
            print!("{}", status::run(&Client::new(socket), json)?);
        }
        Command::Connections(Asked { socket, json }) => {
            print!("{}", connections::run(&Client::new(socket), json)?);
        }
        Command::Proc(options) => print!("{}", proc_file::run(options)?),
        Command::Set(options) => print!("{}", set::run(options)?),
        Command::SlowStart(options) => slow_start::run(options)?,
        Command::Restore { socket, file } => return ipvsadm::restore(socket, file.as_deref()),
        Command::Ipvsadm { arguments } => return Ok(ipvsadm::Command::ipvsadm(&arguments).run()),
        Command::Decap(options) => decap::run(&options)?,
        Command::Lab(arguments) => return lab::run(arguments),
    }
    Ok(ExitCode::SUCCESS)
}

/// `furiwake status | head -1` is no error: end quietly, as other commands do.
fn die_of_closed_pipes() {
    // SAFETY: restoring the default action installs no handler code.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// The last part of the path that we were called by.
pub(crate) fn name_called_by(arguments: &[OsString]) -> Option<&str> {
    Path::new(arguments.first()?).file_name()?.to_str()
}
