//! Where the engine does something else than the recorded director, each with its reason.

use furiwake_engine::reason::Reason;

/// A packet that the recorded director answered, forwarded or swallowed, and that the engine leaves to the
/// host's own stack, which does the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Name of the recording.
    pub(crate) scenario: &'static str,
    /// Number of the step, from zero.
    pub(crate) step: usize,
    /// Why the engine does not act.
    pub(crate) reason: Reason,
}

const fn host(scenario: &'static str, step: usize, reason: Reason) -> Difference {
    Difference {
        scenario,
        step,
        reason,
    }
}

/// Every one.
pub(crate) const ALL: &[Difference] = &[
    // The host answers pings, and routes what is about no connection.
    host("echo", 3, Reason::IcmpUnrelated),
    host("echo", 5, Reason::IcmpUnrelated),
    host("echo", 6, Reason::IcmpUnrelated),
    // Redirects and parameter problems are not among the errors that IPVS translates: the host routes them.
    host("errors about tcp, NAT", 8, Reason::IcmpUnrelated),
    host("errors about tcp, NAT", 9, Reason::IcmpUnrelated),
    host("errors about udp, NAT", 8, Reason::IcmpUnrelated),
    host("errors about udp, NAT", 9, Reason::IcmpUnrelated),
    // The host routes what servers send of their own.
    host("nat_icmp_send=0", 5, Reason::NoConnection),
    host("nat_icmp_send=0", 6, Reason::NoConnection),
    host("nat_icmp_send=0", 7, Reason::NoConnection),
    // Not balanced yet: IPv6.
    host("echo", 4, Reason::NotIpv4),
    host("all weights 0", 10, Reason::NotIpv4),
    // The host resets TCP that belongs to no connection, and refuses ports that have no service.
    host("no servers", 3, Reason::NotSyn),
    host("ack without connection (NAT)", 3, Reason::NotSyn),
    host("no service", 3, Reason::NoService),
    host("no service", 4, Reason::NoService),
    // The host refuses protocols that it does not speak.
    host("short and odd packets", 6, Reason::OtherProtocol),
    host("short and odd packets", 7, Reason::OtherProtocol),
    // Without any service nothing is looked at: the host resets one way and routes the other.
    host("table cleared", 6, Reason::NoMatch),
    host("table cleared", 7, Reason::NoMatch),
];
