//! Where the director does something else than the recorded one, each with its reason.

/// A step that does not come out as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// File of the recording.
    pub(crate) file: &'static str,
    /// Its name.
    pub(crate) scenario: &'static str,
    /// Number of the step, from zero.
    pub(crate) step: usize,
    /// Why, and which setting gives IPVS's way, if there is one.
    pub(crate) why: &'static str,
}

/// Those of a recording.
pub(super) fn of(file: &str, scenario: &str) -> impl Iterator<Item = &'static Difference> {
    ALL.iter()
        .filter(move |difference| difference.file == file && difference.scenario == scenario)
}

const fn differs(
    file: &'static str,
    scenario: &'static str,
    step: usize,
    why: &'static str,
) -> Difference {
    Difference {
        file,
        scenario,
        step,
        why,
    }
}

const IPV6: &str = "IPv6 is not balanced; the host does what is to be done, and is not played";
const FRAGMENTS: &str = "fragments are sent on, and counted, one by one: nothing waits for the rest of a datagram. \
    The host's own reassembly comes too late for a program before it, so there is no setting";
const NOT_LOCAL: &str = "an address that has a service need not be the director's own: one that is routed through it is \
    balanced as well. Without a service for the address it is as in IPVS";

const DROP_ENTRY: &str = "which half-open connections drop_entry takes out is random in both";

const PATH_MTU: &str = "a tunnel's client is told the length that fits: what the error said, less the tunnel. The recorded \
    director goes by a route that it looked up before the error came. There is no setting";

/// Every one.
pub(super) const ALL: &[Difference] = &[
    differs("icmp", "echo", 4, IPV6),
    differs("icmp", "errors about tcp, TUN", 5, PATH_MTU),
    differs("icmp", "errors about tcp, TUN", 12, PATH_MTU),
    differs("icmp", "errors about udp, TUN", 5, PATH_MTU),
    differs("icmp", "errors about udp, TUN", 12, PATH_MTU),
    differs("quiesce", "all weights 0", 10, IPV6),
    differs("packets", "udp dr", 9, FRAGMENTS),
    differs("packets", "udp tun-ipip", 7, FRAGMENTS),
    differs("packets", "udp tun-ipip", 9, FRAGMENTS),
    differs("packets", "udp tun-gre", 7, FRAGMENTS),
    differs("packets", "udp tun-gre", 9, FRAGMENTS),
    differs("packets", "udp tun-gue", 7, FRAGMENTS),
    differs("packets", "udp tun-gue", 9, FRAGMENTS),
    differs("siblings", "packets: udp nat", 9, FRAGMENTS),
    differs("siblings", "packets: udp nat-port", 9, FRAGMENTS),
    differs("siblings", "packets: udp tun-gue-csum", 7, FRAGMENTS),
    differs("siblings", "packets: udp tun-gue-csum", 9, FRAGMENTS),
    differs("siblings", "packets: udp tun-gue-remcsum", 7, FRAGMENTS),
    differs("siblings", "packets: udp tun-gue-remcsum", 9, FRAGMENTS),
    differs("siblings", "packets: udp tun-gre-csum", 7, FRAGMENTS),
    differs("siblings", "packets: udp tun-gre-csum", 9, FRAGMENTS),
    differs(
        "others",
        "service on an address that is not local",
        4,
        NOT_LOCAL,
    ),
    differs(
        "others",
        "service on an address that is not local",
        5,
        NOT_LOCAL,
    ),
    differs(
        "others",
        "drop_entry and drop_packet mode 3",
        12,
        DROP_ENTRY,
    ),
];
