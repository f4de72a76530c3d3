//! The connection table, read for people.

use std::net::IpAddr;

use furiwake_engine::{
    connection::{self, Way},
    state, sweep,
};
use furiwake_lvs::view::{ConnectionView, EntryProtocol};

use crate::{load::Maps, services::address};

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
        server_port: u16::from_be(way.server_port(server)),
        template: false,
        engine: None,
    })
}
