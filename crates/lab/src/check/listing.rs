//! Reading what `ipvsadm` prints, as a user's script would.

use std::collections::BTreeMap;

/// A line of a listing for a real server or a service: its columns after the name.
pub(super) type Columns = Vec<String>;

/// A listing by service (`192.168.56.50:80`), each with its own columns and those of its servers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) services: BTreeMap<String, (Columns, BTreeMap<String, Columns>)>,
}

/// An entry of `ipvsadm -Lnc`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) source: String,
    pub(super) service: String,
    pub(super) server: String,
}

impl Listing {
    /// Reads `-Ln` and its variants.
    pub(super) fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        let mut service = None;
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("TCP" | "UDP") => {
                    let name = words.next().unwrap_or_default();
                    listing
                        .services
                        .insert(name.clone(), (words.collect(), BTreeMap::new()));
                    service = Some(name);
                }
                Some("->") => {
                    let current = service
                        .as_ref()
                        .and_then(|name| listing.services.get_mut(name));
                    if let (Some((_, servers)), Some(server)) = (current, words.next()) {
                        servers.insert(server, words.collect());
                    }
                }
                _ => {}
            }
        }
        listing
    }

    /// One column of a server.
    pub(super) fn text(&self, service: &str, server: &str, column: usize) -> Option<&str> {
        let columns = self.services.get(service)?.1.get(server)?;
        columns.get(column).map(String::as_str)
    }

    /// One column of a server as a number.
    pub(super) fn number(&self, service: &str, server: &str, column: usize) -> Option<u64> {
        self.text(service, server, column)?.parse().ok()
    }
}

/// Reads `-Lnc`.
pub(super) fn connections(text: &str) -> Vec<Connection> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [protocol, _expire, _state, source, service, server] = words.as_slice() else {
                return None;
            };
            let owned = |word: &&str| (*word).to_owned();
            (*protocol == "TCP").then(|| Connection {
                source: owned(source),
                service: owned(service),
                server: owned(server),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_by_service_and_server() {
        let listing = Listing::parse(
            "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\nTCP  192.168.56.50:80 rr\n  \
             -> 10.0.0.10:80                 Masq    1      2          48        \n",
        );
        assert_eq!(listing.services.len(), 1);
        assert_eq!(listing.services["192.168.56.50:80"].0, ["rr"]);
        assert_eq!(
            listing.number("192.168.56.50:80", "10.0.0.10:80", 3),
            Some(48)
        );
        assert_eq!(listing.number("192.168.56.50:80", "10.0.0.20:80", 3), None);
    }

    #[test]
    fn connections_are_read_and_titles_are_not() {
        let text = "IPVS connection entries\npro expire state       source             virtual            destination\n\
                    TCP 01:59  TIME_WAIT   192.168.56.1:40000 192.168.56.50:80   10.0.0.10:80\n";
        let entry = Connection {
            source: "192.168.56.1:40000".into(),
            service: "192.168.56.50:80".into(),
            server: "10.0.0.10:80".into(),
        };
        assert_eq!(connections(text), [entry]);
    }
}
