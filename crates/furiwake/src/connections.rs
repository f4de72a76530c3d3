//! `furiwake connections`: the connection table, for people or as JSON.

use std::fmt::Write as _;

use furiwake_lvs::view::ConnectionView;

use crate::{client::Client, words};

/// Ask for the table and lay it out.
pub(crate) fn run(client: &Client, json: bool) -> anyhow::Result<String> {
    let connections: Vec<ConnectionView> = client.get("/api/v1/connections")?;
    if json {
        return Ok(serde_json::to_string_pretty(&connections)? + "\n");
    }
    Ok(text(&connections))
}

fn text(connections: &[ConnectionView]) -> String {
    let mut text = String::new();
    for entry in connections {
        let protocol = words::entry_protocol(entry.protocol);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{protocol:4} {:11} {:>6}s  {} -> {} -> {}",
            entry.state,
            entry.expires,
            std::net::SocketAddr::from((entry.client, entry.client_port)),
            std::net::SocketAddr::from((entry.virtual_address, entry.virtual_port)),
            std::net::SocketAddr::from((entry.server, entry.server_port)),
        );
    }
    if connections.is_empty() {
        text.push_str("no connections\n");
    }
    text
}
