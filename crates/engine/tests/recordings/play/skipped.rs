//! Recordings that ask for what is not built, by name. One that passes all the same must leave the list.

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skipped {
    /// File of the recording.
    pub(crate) file: &'static str,
    /// Its name.
    pub(crate) scenario: &'static str,
    /// Why it cannot pass.
    pub(crate) why: &'static str,
}

/// Why a recording is skipped, if it is.
pub(super) fn reason(file: &str, scenario: &str) -> Option<&'static str> {
    ALL.iter()
        .find(|skipped| skipped.file == file && skipped.scenario == scenario)
        .map(|skipped| skipped.why)
}

const fn skip(file: &'static str, scenario: &'static str, why: &'static str) -> Skipped {
    Skipped {
        file,
        scenario,
        why,
    }
}

const IPV6: &str = "IPv6 is not balanced";
const SCTP: &str = "SCTP is not balanced";
const MARKS: &str = "there are no services by firewall mark";
const SYNC: &str = "connections are not synchronised";
const LOCAL: &str =
    "answers of servers on the director itself pass its own stack, which is not played";

const NAT_ICMP: &str =
    "a server's packet of no connection is not answered (nat_icmp_send): the host routes it";

/// Every one.
pub(super) const ALL: &[Skipped] = &[
    skip("schedulers", "many-destinations rr", MARKS),
    skip("schedulers", "many-destinations wrr", MARKS),
    skip("schedulers", "many-destinations lc", MARKS),
    skip("schedulers", "many-destinations wlc", MARKS),
    skip("schedulers", "many-destinations sed", MARKS),
    skip("schedulers", "many-destinations fo", MARKS),
    skip("schedulers", "many-destinations ovf", MARKS),
    skip("schedulers", "many-destinations sh", MARKS),
    skip("schedulers", "many-destinations sh -b sh-port", MARKS),
    skip("schedulers", "many-destinations sh -b sh-fallback", MARKS),
    skip("schedulers", "many-destinations mh -b mh-port", MARKS),
    skip("schedulers", "many-destinations mh -b mh-fallback", MARKS),
    skip("schedulers", "many-destinations dh", MARKS),
    skip("schedulers", "many-destinations lblcr", MARKS),
    skip("schedulers", "ipv6 rr weights=1,2,3", IPV6),
    skip("schedulers", "ipv6 wlc weights=1,2,3", IPV6),
    skip("schedulers", "ipv6 sh weights=1,2,3", IPV6),
    skip("packets", "ipv6 nat", IPV6),
    skip("packets", "ipv6 dr", IPV6),
    skip("packets", "ipv6 tun", IPV6),
    skip("packets", "ipv6 tun-gre", IPV6),
    skip("packets", "ipv6 tun-gue", IPV6),
    skip("packets", "ipv6 fragments nat", IPV6),
    skip("packets", "ipv6 fragments tun", IPV6),
    skip("packets", "sctp dr", SCTP),
    skip("persistence", "ipv6 prefix", IPV6),
    skip("persistence", "fwmark", MARKS),
    skip("others", "local real server", LOCAL),
    skip("others", "fwmark", MARKS),
    skip("others", "cache_bypass=0", MARKS),
    skip("others", "sync master", SYNC),
    skip("others", "sync backup, services configured", SYNC),
    skip("icmp", "nat_icmp_send=1", NAT_ICMP),
];
