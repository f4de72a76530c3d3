//! What the kernel checks about services and servers before it takes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::OperationError;
use crate::model::{
    Family, Forward, Server, ServiceConfig, ServiceKey, Settings, Timeouts, TunnelKind,
};

/// Schedulers that exist, by the name that ipvsadm uses. `none` schedules nothing; `maglev` is not IPVS's.
pub const SCHEDULERS: [&str; 15] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
    "maglev", "none",
];

/// The scheduler that exists only with the setting `scheduler_twos`, as with many kernels it does not.
const TWOS: &str = "twos";

/// Longest slow start, in seconds.
const LONGEST_SLOW_START: u32 = 86400;

/// Longest timeout that ipvsadm takes, in seconds: 31 days.
const LONGEST_TIMEOUT: u32 = 2_678_400;

/// Persistence engines that exist.
pub const PERSISTENCE_ENGINES: [&str; 1] = ["sip"];

/// Largest number that the kernel does not take for a negative one.
const INT_MAX: u32 = i32::MAX as u32;

/// Checks of `ip_vs_add_service` and `ip_vs_edit_service`.
pub(super) fn service(config: &ServiceConfig, settings: &Settings) -> Result<(), OperationError> {
    if let ServiceKey::Mark { mark: 0, .. } = config.key {
        return Err(OperationError::Invalid(
            "a firewall mark of 0 marks nothing".into(),
        ));
    }
    let scheduler = config.scheduler.0.as_str();
    let is_twos = scheduler == TWOS && settings.scheduler_twos != 0;
    if !SCHEDULERS.contains(&scheduler) && !is_twos {
        return Err(OperationError::NoSuchScheduler);
    }
    if let Some(engine) = &config.persistence_engine
        && !PERSISTENCE_ENGINES.contains(&engine.as_str())
    {
        return Err(OperationError::NoSuchPersistenceEngine);
    }
    if config.key.family() == Family::V6
        && let Some(persistence) = config.persistence
        && !(1..=128).contains(&persistence.netmask)
    {
        return Err(OperationError::Invalid(format!(
            "an IPv6 prefix has 1 to 128 bits, not {}",
            persistence.netmask
        )));
    }
    if let Some(persistence) = config.persistence
        && !(1..=LONGEST_TIMEOUT).contains(&persistence.timeout)
    {
        return Err(OperationError::Invalid(format!(
            "persistence lasts 1 to {LONGEST_TIMEOUT} seconds (31 days), not {}",
            persistence.timeout
        )));
    }
    if config.slow_start > LONGEST_SLOW_START {
        return Err(OperationError::Invalid(format!(
            "a slow start takes {LONGEST_SLOW_START} seconds at most, not {}",
            config.slow_start
        )));
    }
    Ok(())
}

/// What ipvsadm checks of timeouts; 0 keeps what is there.
pub(super) fn timeouts(timeouts: &Timeouts) -> Result<(), OperationError> {
    let all = [timeouts.tcp, timeouts.tcp_fin, timeouts.udp];
    match all.into_iter().find(|seconds| *seconds > LONGEST_TIMEOUT) {
        Some(seconds) => Err(OperationError::Invalid(format!(
            "a timeout is {LONGEST_TIMEOUT} seconds (31 days) at most, not {seconds}"
        ))),
        None => Ok(()),
    }
}

/// Checks of `ip_vs_genl_set_cmd`, `ip_vs_add_dest` and `ip_vs_edit_dest`, in that order.
pub(super) fn server(key: &ServiceKey, server: &Server) -> Result<(), OperationError> {
    if Family::of(server.key.address) != key.family() && server.forward != Forward::Tunnel {
        return Err(OperationError::Invalid(
            "a server of another address family than its service needs a tunnel".into(),
        ));
    }
    if server.weight > INT_MAX {
        return Err(OperationError::WeightOutOfRange);
    }
    if server.lower_threshold > server.upper_threshold {
        return Err(OperationError::ThresholdsOutOfRange);
    }
    if server.upper_threshold > INT_MAX {
        return Err(OperationError::Invalid(
            "a threshold is above 2147483647".into(),
        ));
    }
    if server.tunnel.kind == TunnelKind::Gue && server.tunnel.port == 0 {
        return Err(OperationError::Invalid("a GUE tunnel needs a port".into()));
    }
    Ok(())
}

/// Checks of `ip_vs_new_dest`, as far as they do not depend on the host's own addresses and routes.
pub(super) fn server_address(address: IpAddr) -> Result<(), OperationError> {
    let one_host = match address {
        // The last one is the broadcast address of every host's loopback network.
        IpAddr::V4(address) => {
            !address.is_unspecified()
                && !address.is_multicast()
                && address != Ipv4Addr::BROADCAST
                && address != Ipv4Addr::new(127, 255, 255, 255)
        }
        IpAddr::V6(address) => {
            address != Ipv6Addr::UNSPECIFIED
                && !address.is_multicast()
                && !address.is_unicast_link_local()
                && address.to_ipv4_mapped().is_none()
        }
    };
    if one_host {
        Ok(())
    } else {
        Err(OperationError::AddressNotUnicast)
    }
}
