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
enum File {
    /// Services and servers.
    #[value(name = "ip_vs")]
    Services,
    /// The connection table.
    #[value(name = "ip_vs_conn")]
    Connections,
    /// The connection table, with where entries came from.
    #[value(name = "ip_vs_conn_sync")]
    Origins,
    /// Counters and rates of all services together.
    #[value(name = "ip_vs_stats")]
    Statistics,
}

/// Ask the director and write what would be in the file.
pub(crate) fn run(options: Options) -> anyhow::Result<String> {
    let client = Client::new(options.socket);
    let view = || client.get::<View>("/api/v1/view");
    let connections = || client.get::<Vec<ConnectionView>>("/api/v1/connections");
    Ok(match options.file {
        File::Services => proc_files::services(&view()?),
        File::Connections => proc_files::connections(&connections()?),
        File::Origins => proc_files::synchronised_connections(&connections()?),
        File::Statistics => proc_files::statistics(&view()?),
    })
}
