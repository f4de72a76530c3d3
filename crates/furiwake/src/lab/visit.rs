//! Going into a lab: a shell, a command, a browser.

use std::{
    ffi::OsString,
    io::Write,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
};

use anyhow::Context;
use furiwake_lab::{Role, open};

use super::Which;

/// `lab enter`.
#[derive(Debug, clap::Args)]
pub(super) struct Enter {
    #[command(flatten)]
    which: Which,
    /// The machine: client, director, rs1, …
    node: String,
}

/// `lab exec`.
#[derive(Debug, clap::Args)]
pub(super) struct Exec {
    #[command(flatten)]
    which: Which,
    /// The machine: client, director, rs1, …
    node: String,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// `lab open`.
#[derive(Debug, clap::Args)]
pub(super) struct Open {
    #[command(flatten)]
    which: Which,
    /// Where to listen on this machine
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8056")]
    listen: SocketAddr,
    /// Port of the virtual address
    #[arg(long, default_value_t = 80)]
    port: u16,
}

impl Enter {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let lab = self.which.find()?;
        let node = lab.node(&self.node)?;
        let shell = std::env::var_os("SHELL")
            .filter(|shell| !shell.is_empty())
            .unwrap_or_else(|| "/bin/sh".into());
        eprintln!(
            "this is {} of lab {}; `exit` leaves it",
            node.name(),
            lab.name()
        );
        let error = node.exec(&shell, &[]);
        Err(error).with_context(|| format!("start {} on {}", shell.display(), node.name()))
    }
}

impl Exec {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let node = self.which.find()?.node(&self.node)?;
        let (program, arguments) = self.command.split_first().context("no command was given")?;
        let error = node.exec(program, arguments);
        Err(error).with_context(|| format!("run {} on {}", program.display(), node.name()))
    }
}

impl Open {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let lab = self.which.find()?;
        let topology = lab.topology();
        let service = topology
            .services
            .first()
            .context("this lab has no virtual address")?;
        let client = topology
            .machines(Role::Client)
            .next()
            .context("this lab has no client")?;
        let node = lab.node(&client.name)?;
        let listener = TcpListener::bind(self.listen).with_context(|| {
            format!(
                "listen on {}; --listen 127.0.0.1:0 takes any free port",
                self.listen
            )
        })?;
        let scheme = if self.port == 443 { "https" } else { "http" };
        let target = SocketAddr::from((service.address, self.port));
        let shown = format!(
            "{scheme}://{}/ is {target} as seen from {}   Ctrl-C ends it\n",
            listener.local_addr()?,
            client.name
        );
        let _ = std::io::stdout().write_all(shown.as_bytes());
        open::serve(&listener, &node, target)?;
        Ok(ExitCode::SUCCESS)
    }
}
