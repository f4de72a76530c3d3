//! `furiwake lab …`: disposable networks of namespaces to try, break and measure a director in.

use std::process::ExitCode;

/// The arguments after `furiwake lab`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Carries out a lab command and returns the exit status of the process.
pub(crate) fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("furiwake lab is being built")
}
