//! `furiwake proc`: what the kernel's IPVS shows in files below /proc/net, for scripts that read those.

use clap::ValueEnum;
use furiwake_lvs::{
    proc_files,
    view::{ConnectionView, View},
};

use crate::client::{Client, Socket};

/// What `furiwake proc` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The file.
    file: File,

    #[command(flatten)]
    socket: Socket,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum File {
    /// Services and servers.
    IpVs,
    /// The connection table.
    IpVsConn,
    /// The connection table, with where entries came from.
    IpVsConnSync,
    /// Counters and rates of all services together.
    IpVsStats,
}

/// Ask the director and write what would be in the file.
pub(crate) fn run(options: Options) -> anyhow::Result<String> {
    let client = Client::new(options.socket);
    let view = || client.get::<View>("/api/v1/view");
    let connections = || client.get::<Vec<ConnectionView>>("/api/v1/connections");
    Ok(match options.file {
        File::IpVs => proc_files::services(&view()?),
        File::IpVsConn => proc_files::connections(&connections()?),
        File::IpVsConnSync => proc_files::synchronised_connections(&connections()?),
        File::IpVsStats => proc_files::statistics(&view()?),
    })
}
