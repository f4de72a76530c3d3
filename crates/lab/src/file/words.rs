//! The single words of a file: names, addresses, settings. Each says what it would have to be.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::topology::{Network, Route};

/// What was read, or what is wrong with it and what to do about that.
pub(super) type Read<T> = Result<T, (String, String)>;

/// The name of a lab.
pub(super) fn name(text: &str) -> Read<String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if text.is_empty() || text.len() > 24 || !text.chars().all(plain) {
        return Err((
            format!("is {text:?}"),
            "use 1 to 24 letters, digits, dashes and underscores".into(),
        ));
    }
    Ok(text.to_owned())
}

/// The name of a network, which names a bridge.
pub(super) fn network_name(text: &str) -> Read<()> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    if text.is_empty() || text.len() > 9 || !text.chars().all(plain) {
        return Err((
            format!("a network is called {text:?}"),
            "use 1 to 9 letters, digits and dashes".into(),
        ));
    }
    Ok(())
}

/// The name of a machine, or what stands before the number when there are several.
pub(super) fn machine_name(text: &str) -> Read<String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    if text.is_empty() || text.len() > 12 || !text.chars().all(plain) {
        return Err((
            format!("is {text:?}"),
            "use 1 to 12 letters, digits and dashes".into(),
        ));
    }
    Ok(text.to_owned())
}

/// An address.
pub(super) fn address(text: &str) -> Read<Ipv4Addr> {
    text.parse().map_err(|_| {
        let remedy = if text.parse::<Ipv6Addr>().is_ok() {
            "the director balances IPv4 alone so far: write an IPv4 address"
        } else {
            "write an IPv4 address, as 192.168.56.1"
        };
        (format!("is {text:?}"), remedy.into())
    })
}

/// `192.168.56.0/24`.
pub(super) fn network(text: &str) -> Read<(Ipv4Addr, u8)> {
    let wrong = |remedy: String| (format!("is {text:?}"), remedy);
    let form = || wrong("write a network, as 192.168.56.0/24".into());
    let (start, length) = text.split_once('/').ok_or_else(form)?;
    let start = address(start).map_err(|(_, remedy)| wrong(remedy))?;
    let prefix: u8 = length.parse().map_err(|_| form())?;
    if !(8..=30).contains(&prefix) {
        return Err(wrong("the length of a network is 8 to 30".into()));
    }
    let first = Ipv4Addr::from_bits(start.to_bits() & !(u32::MAX >> prefix));
    if first != start {
        return Err(wrong(format!("the network begins at {first}/{prefix}")));
    }
    Ok((first, prefix))
}

/// `10.1.0.0/16 via 192.168.56.1`.
pub(super) fn route(text: &str) -> Read<Route> {
    let form = || {
        (
            format!("is {text:?}"),
            "write a route, as 10.1.0.0/16 via 192.168.56.1".to_owned(),
        )
    };
    let (to, by) = text.split_once(" via ").ok_or_else(form)?;
    let (network, prefix) = network(to.trim()).map_err(|(_, remedy)| (form().0, remedy))?;
    let gateway = address(by.trim()).map_err(|(_, remedy)| (form().0, remedy))?;
    Ok(Route {
        network,
        prefix,
        gateway,
    })
}

/// A netmask: ones, then zeros.
pub(super) fn netmask(text: &str) -> Read<Ipv4Addr> {
    let mask = address(text)?;
    if mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() != 32
        || mask.is_unspecified()
    {
        return Err((
            format!("is {text:?}"),
            "write a netmask, as 255.255.255.0".into(),
        ));
    }
    Ok(mask)
}

/// A setting of the kernel that belongs to a network namespace: others are the whole host's.
pub(super) fn sysctl(text: &str) -> Read<()> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let ours = ["net.ipv4.", "net.ipv6."]
        .iter()
        .any(|start| text.starts_with(start));
    if !ours || text.contains("..") || text.ends_with('.') || !text.chars().all(plain) {
        return Err((
            format!("{text:?} is no setting that a machine has of its own"),
            "names begin with net.ipv4. or net.ipv6., as net.ipv4.conf.all.arp_ignore".into(),
        ));
    }
    Ok(())
}

/// A flag of a scheduler.
pub(super) fn flag(text: &str) -> Read<String> {
    const FLAGS: [&str; 7] = [
        "sh-fallback",
        "sh-port",
        "mh-fallback",
        "mh-port",
        "flag-1",
        "flag-2",
        "flag-3",
    ];
    if !FLAGS.contains(&text) {
        let known = FLAGS.join(", ");
        return Err((format!("is {text:?}"), format!("there are {known}")));
    }
    Ok(text.to_owned())
}

/// Whether a machine can have this address in this network.
pub(super) fn is_host(network: &Network, address: Ipv4Addr) -> bool {
    let hosts = u32::MAX >> network.prefix;
    let host = address.to_bits() & hosts;
    network.contains(address) && host != 0 && host != hosts
}
