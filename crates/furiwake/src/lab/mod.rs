//! `furiwake lab …`: disposable networks of namespaces to try, break and measure a director in.

mod exercise;
mod keep;
mod manage;
mod presets;
mod visit;

use std::process::ExitCode;

use clap::Subcommand;
use furiwake_lab::{Attached, Error, list, server};

/// A network that could not be had here, rather than one that went wrong (EX_TEMPFAIL).
const PRECONDITION_MISSING: u8 = 75;

/// The arguments after `furiwake lab`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Try it:
  furiwake lab run nat          build the classic exercise, check it, report, remove
  furiwake lab run dr           the same by direct routing; furiwake lab presets lists all
  furiwake lab show nat > my.toml; furiwake lab run my.toml
                                a network of your own
  furiwake lab up nat           the same, to keep; then:
  furiwake lab exec client -- curl -s http://192.168.56.50/
  furiwake lab enter director   a shell there; ipvsadm -Ln
  furiwake lab down

All machines are network namespaces: interfaces, addresses, routes, firewall and sysctls of
this host are not touched, and no machine stays when the lab ends, however it ends. Programs
on the machines see this host's files and may change them.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a network, check that it balances, report, remove it. Exit status: 0 pass, 10 fail, 75 not possible here.
    Run(exercise::Options),
    /// Build a network and keep it in the background.
    Up(keep::Options),
    /// A shell on a machine.
    Enter(visit::Enter),
    /// Run a command on a machine; its exit status is ours.
    Exec(visit::Exec),
    /// Let a browser on this machine see the virtual address, until Ctrl-C.
    Open(visit::Open),
    /// Kill a real server, or the daemon of a director.
    Break(manage::OneNode),
    /// Start it again.
    Mend(manage::OneNode),
    /// What runs and what does not.
    Status(manage::Status),
    /// End a lab.
    Down(manage::Down),
    /// All running labs.
    List(manage::List),
    /// The networks that come with this program.
    Presets,
    /// Print the file of a preset, to start your own from.
    Show(presets::Show),
    /// The web server of real servers.
    #[command(hide = true)]
    Serve,
    /// The process that keeps a lab.
    #[command(hide = true)]
    Supervise(keep::Supervise),
}

/// Which lab is meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// Name of the lab; not needed while only one runs
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Carries out a lab command and returns the exit status of the process.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let result = match args.command {
        Command::Run(options) => exercise::run(&options),
        Command::Up(options) => keep::up(&options),
        Command::Enter(enter) => enter.run(),
        Command::Exec(exec) => exec.run(),
        Command::Open(open) => open.run(),
        Command::Break(node) => node.kill(),
        Command::Mend(node) => node.mend(),
        Command::Status(status) => status.run(),
        Command::Down(down) => down.run(),
        Command::List(list) => list.run(),
        Command::Presets => Ok(presets::list()),
        Command::Show(show) => show.run(),
        Command::Serve => server::run()
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::Supervise(supervise) => supervise.run(),
    };
    match result {
        Err(error) if is_precondition(&error) => {
            eprintln!("furiwake lab: {error}");
            Ok(ExitCode::from(PRECONDITION_MISSING))
        }
        result => result,
    }
}

fn is_precondition(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<Error>(),
        Some(Error::Precondition { .. })
    )
}

impl Which {
    /// The lab of that name, or the only one.
    fn find(&self) -> anyhow::Result<Attached> {
        furiwake_lab::require_root()?;
        if let Some(name) = &self.name {
            return Ok(Attached::open(name)?);
        }
        let mut labs = list()?;
        match labs.len() {
            0 => anyhow::bail!("no lab is running; `furiwake lab up nat` starts one"),
            1 => Ok(labs.remove(0)),
            _ => {
                let names: Vec<&str> = labs.iter().map(Attached::name).collect();
                anyhow::bail!(
                    "several labs are running ({}): say which with --name",
                    names.join(", ")
                )
            }
        }
    }
}
