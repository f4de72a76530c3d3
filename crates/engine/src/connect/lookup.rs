//! Which service a request is for (`ip_vs_service_find`).

use crate::{
    connection::Peer,
    packet::TCP,
    tables::{Config, NONE, ServiceKey, Tables},
};

/// Port of FTP's control connections, as on the wire.
pub(super) const FTP: u16 = 21u16.to_be();
/// Port of FTP's data connections, where the server opens them, as on the wire.
pub(super) const FTP_DATA: u16 = 20u16.to_be();
/// The first port that everybody may listen on (sysctl `ip_unprivileged_port_start`).
const UNPRIVILEGED: u16 = 1024;

/// Index of the service for a virtual end, or [`NONE`]: the one on its port; FTP, whose data may come to any port;
/// the one on every port.
#[inline(always)]
pub(super) fn service<T: Tables>(tables: &T, config: &Config, peer: Peer, protocol: u8) -> u32 {
    let (address, port) = (peer.address(), peer.port());
    // One key for all, for the stack's sake.
    let mut key = ServiceKey::v4(address, port, protocol);
    if let Some(index) = tables.find_service(&key) {
        return index;
    }
    let kinds = config.kinds.get();
    let may_be_data = port == FTP_DATA || u16::from_be(port) >= UNPRIVILEGED;
    if kinds & Config::FTP != 0 && protocol == TCP && may_be_data {
        key.port = FTP;
        if let Some(index) = tables.find_service(&key) {
            return index;
        }
    }
    if kinds & Config::EVERY_PORT != 0 {
        key.port = 0;
        if let Some(index) = tables.find_service(&key) {
            return index;
        }
    }
    NONE
}
