//! What of a machine would keep it from serving what comes out of tunnels, and the remedy.

use std::{fs, net::IpAddr, path::Path};

use crate::daemon::environment;

/// A line for each thing to mend.
pub(crate) fn advice(addresses: &[IpAddr], interfaces: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    let own = environment::own_addresses();
    for address in addresses.iter().filter(|address| !own.contains(address)) {
        lines.push(missing(*address));
    }
    if addresses.iter().any(IpAddr::is_ipv4) {
        let setting = |name: &str| setting(Path::new("/proc/sys/net/ipv4/conf"), name);
        lines.extend(
            interfaces
                .iter()
                .filter_map(|name| source_filter(name, setting)),
        );
        lines.extend(
            interfaces
                .iter()
                .filter_map(|name| answers_arp(name, setting)),
        );
    }
    lines
}

fn missing(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!(
        "this machine does not have the address {address}: ip addr add {address}/{length} dev lo"
    )
}

/// A strict filter drops clients whose way back is another interface. The larger of both settings counts.
fn source_filter(interface: &str, setting: impl Fn(&str) -> Option<u32>) -> Option<String> {
    const STRICT: u32 = 1;
    let of = |name: &str| setting(&format!("{name}/rp_filter"));
    let filter = of("all")?.max(of(interface)?);
    (filter == STRICT).then(|| {
        format!(
            "{interface} drops clients whose way back is another interface: \
             sysctl -w net.ipv4.conf.{interface}.rp_filter=2"
        )
    })
}

/// Beside the director, a server must not say that the virtual address is its own. The larger of both settings counts.
fn answers_arp(interface: &str, setting: impl Fn(&str) -> Option<u32>) -> Option<String> {
    let of = |name: &str| setting(&format!("{name}/arp_ignore"));
    let ignore = of("all")?.max(of(interface)?);
    (ignore == 0).then(|| {
        format!(
            "{interface} answers ARP for the virtual addresses, which in the director's own network takes clients \
             away from it: sysctl -w net.ipv4.conf.{interface}.arp_ignore=1 net.ipv4.conf.{interface}.arp_announce=2"
        )
    })
}

fn setting(folder: &Path, name: &str) -> Option<u32> {
    fs::read_to_string(folder.join(name))
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: u32, own: u32) -> impl Fn(&str) -> Option<u32> {
        move |name| Some(if name.starts_with("all/") { all } else { own })
    }

    #[test]
    fn only_a_strict_filter_is_warned_of() {
        for (all, own, warned) in [
            (0, 0, false),
            (1, 0, true),
            (0, 1, true),
            (1, 2, false),
            (2, 1, false),
        ] {
            let line = source_filter("eth0", settings(all, own));
            assert_eq!(line.is_some(), warned, "{all} {own}");
            assert!(line.is_none_or(|line| line.ends_with("net.ipv4.conf.eth0.rp_filter=2")));
        }
    }

    #[test]
    fn answers_to_arp_are_warned_of_unless_either_setting_forbids_them() {
        for (all, own, warned) in [(0, 0, true), (1, 0, false), (0, 2, false)] {
            assert_eq!(answers_arp("eth0", settings(all, own)).is_some(), warned);
        }
    }

    #[test]
    fn a_missing_address_comes_with_the_command_that_adds_it() {
        assert!(
            missing("10.0.0.5".parse().expect("v4")).ends_with("ip addr add 10.0.0.5/32 dev lo")
        );
        assert!(missing("2001:db8::5".parse().expect("v6")).ends_with("2001:db8::5/128 dev lo"));
    }
}
