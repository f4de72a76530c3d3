//! What of the host keeps a director from working as it should, in words.

use std::{collections::BTreeSet, net::IpAddr};

use furiwake_lvs::model::{ServiceKey, Table};

use crate::daemon::data_plane::DataPlane;

/// One sentence for each thing that should be looked at; none while there is no service.
pub(super) fn of(table: &Table, plane: &impl DataPlane) -> Vec<String> {
    let mut warnings = Vec::new();
    if !table.services.is_empty() && !plane.host_forwards() {
        warnings.push(
            "net.ipv4.ip_forward is 0, so nothing is sent on to clients or by the host's stack: \
             sysctl -w net.ipv4.ip_forward=1"
                .to_owned(),
        );
    }
    let own = plane.own_addresses();
    let missing: BTreeSet<IpAddr> = table
        .services
        .iter()
        .filter_map(|service| match service.config.key {
            ServiceKey::Address { address, .. } => Some(address),
            // Packets with a mark may go anywhere.
            ServiceKey::Mark { .. } => None,
        })
        .filter(|address| !address.is_unspecified() && !own.contains(address))
        .collect();
    for address in missing {
        warnings.push(format!(
            "no interface here has the address {address}: nobody answers ARP for it (no harm if routers \
             send it here): ip address add {address}/{} dev INTERFACE",
            if address.is_ipv4() { 32 } else { 128 }
        ));
    }
    warnings
}
