//! The connection table, read for people.

use std::net::IpAddr;

use furiwake_engine::{
    connection::{self, TEMPLATE, Way},
    state, sweep,
    tables::Server,
};
use furiwake_lvs::view::{ConnectionView, EntryProtocol};

use crate::{load::Maps, translate::address};

/// Every entry, in the order of the table.
pub(crate) fn list(maps: &Maps, now: u32) -> Vec<ConnectionView> {
    let per_second = maps.config[0].ticks_per_second.get().max(1);
    let mut found = Vec::new();
    for bucket in &*maps.connections {
        let tags = bucket.tags.get();
        for (lane, way) in bucket.ways.iter().enumerate() {
            if tags >> (16 * lane) & 0xffff > 1 {
                found.extend(view(maps, way, now, per_second));
            }
        }
    }
    found
}

fn view(maps: &Maps, way: &Way, now: u32, per_second: u32) -> Option<ConnectionView> {
    let word = way.word.get();
    let server = maps.server.get(way.server.get() as usize)?;
    let expires = way.expires.get();
    let left = if sweep::is_over(expires, now) {
        0
    } else {
        expires.wrapping_sub(now) / per_second
    };
    let ports = way.ports.get();
    Some(ConnectionView {
        protocol: EntryProtocol::from_number(connection::protocol_of(word))?,
        state: (*state::NAMES.get(connection::state_of(word) as usize)?).to_owned(),
        expires: left,
        client: IpAddr::V4(address(way.client.get())),
        client_port: u16::from_be(connection::first(ports)),
        virtual_address: IpAddr::V4(address(way.virtual_address.get())),
        virtual_port: u16::from_be(connection::last(ports)),
        server: IpAddr::V4(address(server.address.get())),
        server_port: u16::from_be(shown_server_port(server, word, ports)),
        template: word & TEMPLATE != 0,
        engine: None,
    })
}

/// A template for every port says so at both ends, and so does one that is not to be used any more
/// (`ip_vs_core.c`, `ip_vs_sched_persist`, `ip_vs_check_template`).
fn shown_server_port(server: &Server, word: u32, ports: u32) -> u16 {
    let port = connection::last(ports);
    if word & TEMPLATE != 0 && matches!(port, 0 | u16::MAX) {
        port
    } else {
        connection::server_port(server, word, ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_show_the_port_of_their_service_at_the_server() {
        let server = Server::default();
        server.port.set(8080u16.to_be());
        let ports = |port: u16| u32::from(port.to_be()) << 16;
        for (word, virtual_port, shown) in [
            (TEMPLATE, 80, 8080),
            (TEMPLATE, 0, 0),
            (TEMPLATE, 65535, 65535),
            (0, 80, 8080),
        ] {
            let got = shown_server_port(&server, word, ports(virtual_port));
            assert_eq!(u16::from_be(got), shown, "{virtual_port}");
        }
        server.port.set(0);
        assert_eq!(
            u16::from_be(shown_server_port(&server, TEMPLATE, ports(80))),
            80
        );
    }
}
