//! What happens to packets of tunnels, each with a counter.

macro_rules! events {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $name:literal, $drops:literal;)+) => {
        /// What became of a packet.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Event {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl Event {
            /// Every event, by number.
            pub const ALL: &'static [Event] = &[$(Event::$variant),+];

            /// Stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Event::$variant => $name),+ }
            }

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Event::$variant => concat!($($meaning),+).trim_ascii()),+ }
            }

            /// Whether such packets are dropped.
            #[inline(always)]
            pub const fn drops(self) -> bool {
                match self { $(Event::$variant => $drops),+ }
            }
        }
    };
}

events! {
    /// No tunnel of ours; not counted.
    None = "none", false;
    /// Taken out of ipip.
    Ipip = "ipip", false;
    /// Taken out of GUE.
    Gue = "gue", false;
    /// Taken out of GRE.
    Gre = "gre", false;
    /// The inner packet is to none of the virtual addresses: left to the stack.
    NotVirtual = "not_virtual", false;
    /// The tunnel comes from an address that --from does not name: left to the stack.
    SenderNotAllowed = "sender_not_allowed", false;
    /// The tunnel goes to another host: left to the stack.
    NotLocal = "not_local", false;
    /// A fragment of a tunnel's packet: left to the stack. The director's way to here has too small an MTU.
    Fragment = "fragment", false;
    /// A header is cut short or contradicts itself: left to the stack, which discards it.
    Malformed = "malformed", false;
    /// A tunnel with fields that neither furiwake nor IPVS sends: a GRE key, GUE control or security: left to the stack.
    Unsupported = "unsupported", false;
    /// The tunnel's checksum is wrong.
    BadChecksum = "bad_checksum", true;
    /// Congestion on the way, and an inner packet that cannot carry the word on (RFC 6040).
    Congestion = "congestion", true;
    /// The kernel would not change the packet, or it is a super-packet of datagrams in GUE, as a neighbour on the same machine
    /// may send it: have it not use UDP_SEGMENT, or `ethtool -K IF tx-udp_tnl-segmentation off` there.
    Failed = "failed", true;
}

/// How many events there are.
pub const EVENTS: u32 = Event::ALL.len() as u32;
