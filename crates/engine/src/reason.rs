//! Why a packet was not forwarded. Each reason has a counter; nothing is dropped or passed in silence.

macro_rules! reasons {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $name:literal, $drops:literal;)+) => {
        /// Why a packet was not forwarded, or an event worth a number.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),+];

            /// Stable name for metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),+ }
            }

            /// What it means, in a sentence or two.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($meaning),+).trim_ascii()),+ }
            }

            /// Whether such packets are dropped; otherwise they go to the host's own stack, or the reason is
            /// an event and not the end of a packet.
            pub const fn drops(self) -> bool {
                match self { $(Reason::$variant => $drops),+ }
            }
        }
    };
}

reasons! {
    /// Not IPv4.
    NotIpv4 = "not_ipv4", false;
    /// Neither to a virtual address nor from a server: none of ours.
    NoMatch = "no_match", false;
    /// The frame is addressed to another host.
    NotForUs = "not_for_us", false;
    /// To a virtual address, but not a protocol that is balanced.
    OtherProtocol = "other_protocol", false;
    /// Shorter than its headers say; the host's stack discards such.
    Truncated = "truncated", false;
    /// To a virtual address, but no service has that port.
    NoService = "no_service", false;
    /// From a server, but of no connection.
    NoConnection = "no_connection", false;
    /// TCP of no connection that does not ask for one; the host answers with a reset.
    NotSyn = "not_syn", false;
    /// From an address that no host can have; the host's own checks discard such.
    BadSource = "bad_source", false;
    /// From port 20: FTP data is never scheduled.
    FtpData = "ftp_data", false;
    /// A later fragment whose first one was not seen, or was not balanced.
    FragmentUnknown = "fragment_unknown", false;
    /// An ICMP message that is about no connection.
    IcmpUnrelated = "icmp_unrelated", false;
    /// A reply that may not be forwarded as it is: its time to live is used up or it is too long for the way
    /// to the client. The host's stack tells the server.
    ReplyUndeliverable = "reply_undeliverable", false;
    /// Too long for the way to the server and allowed to be fragmented: the host's stack does that.
    Fragmented = "fragmented_by_host", false;
    /// The next hop to the server is not known yet; the host's stack routes the packet.
    RoutedByHost = "routed_by_host", false;
    /// The server is the director itself: its own stack takes the packet.
    LocalServer = "local_server", false;
    /// An answer of a server that the director neither has to change nor to send: it was only counted.
    AnswerOfServer = "answer_of_server", false;
    /// The service has no usable server; the client was told (ICMP port unreachable).
    NoServer = "no_server", true;
    /// The connection's server was removed.
    ServerRemoved = "server_removed", true;
    /// The connection table has no place, and no half-open connection to put out.
    TableFull = "table_full", true;
    /// One new connection in so many is dropped: setting drop_packet.
    DropRate = "drop_rate", true;
    /// Two processors made the same connection at once and both gave way to the other; the client asks again.
    Raced = "raced", true;
    /// Time to live was used up; the sender was told (ICMP time exceeded).
    TtlExceeded = "ttl_exceeded", true;
    /// Too long for the way. Towards a server the sender was told; towards a client it may not be fragmented here.
    TooLong = "too_long", true;
    /// No route to the server; the client was told (ICMP host unreachable).
    NoRouteToServer = "no_route_to_server", true;
    /// No route to the client.
    NoRouteToClient = "no_route_to_client", true;
    /// The director may not forward packets to clients: sysctl net.ipv4.ip_forward is 0.
    ForwardingDisabled = "forwarding_disabled", true;
    /// An ICMP error was due but held back by the rate limit; the packet it was about was dropped.
    ErrorLimited = "error_limited", true;
    /// An ICMP error about a tunnel; the client was told about the packet that was in it.
    TunnelError = "tunnel_error", true;
    /// The packet could not be rewritten: the kernel refused memory or access.
    RewriteFailed = "rewrite_failed", true;
    /// A map had no entry where one must be: a fault of this program.
    Inconsistent = "inconsistent", true;
    /// A half-open connection was put out to make room (an event; no packet was lost by it).
    HalfOpenEvicted = "half_open_evicted", false;
}

impl Reason {
    /// The reason with this number; [`Reason::Inconsistent`] when there is none.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        if number < REASONS {
            // SAFETY: reasons are numbered without gaps from 0, in 32 bits.
            unsafe { core::mem::transmute::<u32, Self>(number) }
        } else {
            Self::Inconsistent
        }
    }
}

/// How many reasons there are.
pub const REASONS: u32 = Reason::ALL.len() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_in_order_and_named_apart() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
            assert_eq!(Reason::from_number(number as u32), *reason);
            assert!(!reason.meaning().is_empty());
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
