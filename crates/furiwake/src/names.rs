//! Names of hosts and services as this machine knows them, for ipvsadm without `-n`.

use std::{
    ffi::CStr,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _},
};

use furiwake_lvs::{ipvsadm::Names, model::Protocol};
use nix::sys::socket::{SockaddrLike as _, SockaddrStorage};

/// The host's resolver and its `/etc/services`, read when the first service is asked for.
#[derive(Debug, Default)]
pub(crate) struct HostNames {
    services: std::cell::OnceCell<Services>,
}

impl HostNames {
    fn services(&self) -> &Services {
        self.services.get_or_init(|| {
            // A machine without the file has no service names.
            Services::parse(&fs::read_to_string("/etc/services").unwrap_or_default())
        })
    }
}

impl Names for HostNames {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        (name, 0)
            .to_socket_addrs()
            .ok()?
            .find_map(|address| match address {
                SocketAddr::V4(address) => Some(*address.ip()),
                SocketAddr::V6(_) => None,
            })
    }

    fn host_name(&self, address: IpAddr) -> Option<String> {
        let address = SockaddrStorage::from(SocketAddr::from((address, 0)));
        let mut name = [0u8; libc::NI_MAXHOST as usize];
        // SAFETY: the address and its length belong together, and so do the buffer and its length.
        let failed = unsafe {
            libc::getnameinfo(
                address.as_ptr(),
                address.len(),
                name.as_mut_ptr().cast(),
                name.len() as libc::socklen_t,
                std::ptr::null_mut(),
                0,
                libc::NI_NAMEREQD,
            )
        };
        let name = CStr::from_bytes_until_nul(&name).ok()?;
        (failed == 0).then(|| name.to_string_lossy().into_owned())
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.services().port(name, protocol)
    }

    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services().name(port, protocol).map(str::to_owned)
    }
}

/// `services(5)`: in order, because the first line that fits counts.
#[derive(Debug)]
struct Services(Vec<Service>);

#[derive(Debug)]
struct Service {
    /// The official name, then its aliases.
    names: Vec<String>,
    port: u16,
    protocol: Protocol,
}

impl Services {
    fn parse(text: &str) -> Self {
        let service = |line: &str| {
            let line = line.split('#').next()?;
            let mut words = line.split_ascii_whitespace();
            let name = words.next()?;
            let (port, protocol) = words.next()?.split_once('/')?;
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                "sctp" => Protocol::Sctp,
                _ => return None,
            };
            let names = std::iter::once(name)
                .chain(words)
                .map(str::to_owned)
                .collect();
            Some(Service {
                names,
                port: port.parse().ok()?,
                protocol,
            })
        };
        Self(text.lines().filter_map(service).collect())
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let named = |service: &&Service| {
            service.protocol == protocol && service.names.iter().any(|known| known == name)
        };
        self.0.iter().find(named).map(|service| service.port)
    }

    fn name(&self, port: u16, protocol: Protocol) -> Option<&str> {
        let there = |service: &&Service| service.protocol == protocol && service.port == port;
        self.0.iter().find(there)?.names.first().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: &str = "\
# Network services, Internet style
http\t\t80/tcp\t\twww\t\t# WorldWideWeb HTTP
domain\t\t53/tcp
domain\t\t53/udp
broken\t\tno-port/tcp
far\t\t99999/tcp
";

    #[test]
    fn services_are_found_by_name_alias_and_port() {
        let services = Services::parse(SERVICES);
        assert_eq!(services.port("http", Protocol::Tcp), Some(80));
        assert_eq!(services.port("www", Protocol::Tcp), Some(80));
        assert_eq!(services.port("http", Protocol::Udp), None);
        assert_eq!(services.name(80, Protocol::Tcp), Some("http"));
        assert_eq!(services.name(53, Protocol::Udp), Some("domain"));
        assert_eq!(services.name(443, Protocol::Tcp), None);
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        assert_eq!(Services::parse(SERVICES).0.len(), 3);
    }

    #[test]
    fn localhost_resolves_both_ways() {
        let names = HostNames::default();
        assert_eq!(names.host("localhost"), Some(Ipv4Addr::LOCALHOST));
        assert!(names.host_name(Ipv4Addr::LOCALHOST.into()).is_some());
        assert_eq!(names.host("no-such-host.invalid"), None);
    }
}
