//! `furiwake slow-start`: how long a new or returning server of a service takes to get its whole share.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use furiwake_lvs::{
    model::{Protocol, ServiceConfig, ServiceKey, Table},
    operation::Operation,
};

use crate::{
    client::{Client, Socket},
    daemon::operate::Outcome,
    words,
};

/// What `furiwake slow-start` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Protocol of the service.
    protocol: Kind,

    /// Address and port of the service.
    #[arg(value_name = "ADDRESS:PORT")]
    service: SocketAddr,

    /// Seconds; 0 gives a server its share at once.
    #[arg(value_name = "SECONDS")]
    seconds: u32,

    #[command(flatten)]
    socket: Socket,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Tcp,
    Udp,
    Sctp,
}

/// Change it.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let client = Client::new(options.socket);
    let key = ServiceKey::Address {
        protocol: match options.protocol {
            Kind::Tcp => Protocol::Tcp,
            Kind::Udp => Protocol::Udp,
            Kind::Sctp => Protocol::Sctp,
        },
        address: options.service.ip(),
        port: options.service.port(),
    };
    let table: Table = client.get("/api/v1/table")?;
    let service = table
        .service(&key)
        .with_context(|| format!("there is no service {}", words::service(&key)))?;
    let edit = Operation::EditService(ServiceConfig {
        slow_start: options.seconds,
        ..service.config.clone()
    });
    let outcomes: Vec<Outcome> = client.post("/api/v1/operations", &[edit])?;
    match outcomes.into_iter().next() {
        Some(Outcome::Done) => Ok(()),
        Some(Outcome::Refused(error)) => Err(error.into()),
        None => bail!("the director's answer is incomplete"),
    }
}
