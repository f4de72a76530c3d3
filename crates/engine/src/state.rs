//! Connection states, their transitions and which of them count as active (`ip_vs_proto_tcp.c`).

/// State of a connection. TCP states carry IPVS's numbers (also on the sync wire); UDP has one.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, no packet seen through it yet.
    None = 0,
    /// Both sides talk.
    Established = 1,
    /// The server opens a connection to the client.
    SynSent = 2,
    /// The client asked.
    SynRecv = 3,
    /// The server closed its side.
    FinWait = 4,
    /// Both sides closed.
    TimeWait = 5,
    /// Reset, or a packet without any flag.
    Close = 6,
    /// The client closed its side.
    CloseWait = 7,
    /// Both closed, the client first.
    LastAck = 8,
    /// Waiting for a connection that a helper announced.
    Listen = 9,
    /// The server answered (secure_tcp).
    SynAck = 10,
    /// UDP has only this one.
    Udp = 11,
    /// SCTP: made, no packet seen through it yet.
    SctpNone = 12,
    /// SCTP: the client sent INIT.
    SctpInit1 = 13,
    /// SCTP: INIT was sent again.
    SctpInit = 14,
    /// SCTP: the server answered with its cookie.
    SctpCookieSent = 15,
    /// SCTP: the client returned the cookie.
    SctpCookieReplied = 16,
    /// SCTP: the server sent INIT, or one side waits for the other's cookie.
    SctpCookieWait = 17,
    /// SCTP: a cookie was sent by who waited for one.
    SctpCookie = 18,
    /// SCTP: the server returned a cookie.
    SctpCookieEchoed = 19,
    /// SCTP: both sides talk.
    SctpEstablished = 20,
    /// SCTP: the server ends the association.
    SctpShutdownSent = 21,
    /// SCTP: the client ends the association.
    SctpShutdownReceived = 22,
    /// SCTP: the end was acknowledged.
    SctpShutdownAckSent = 23,
    /// SCTP: refused.
    SctpRejected = 24,
    /// SCTP: over.
    SctpClosed = 25,
    /// A persistence template without an established connection.
    TemplateNone = 26,
    /// A persistence template that had an established connection.
    TemplateAssured = 27,
}

/// How many states there are; the length of every table by state.
pub const STATES: usize = 28;

/// Names as ipvsadm shows them, by number.
pub const NAMES: [&str; STATES] = [
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
    "UDP",
    "NONE",
    "INIT1",
    "INIT",
    "C-SENT",
    "C-REPLIED",
    "C-WAIT",
    "COOKIE",
    "C-ECHOED",
    "ESTABLISHED",
    "S-SENT",
    "S-RECEIVED",
    "S-ACK-SENT",
    "REJECTED",
    "CLOSED",
    "NONE",
    "ASSURED",
];

/// Default timeouts in seconds, by number.
///
/// A template's is its service's.
pub const TIMEOUTS: [u32; STATES] = [
    2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 300, // TCP, UDP
    2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61, // SCTP
    0, 0,
];

/// Seconds that a connection lives between being made and its first packet.
pub const FIRST_TIMEOUT: u32 = 3;

const ACTIVE: u32 = 1 << State::Established as u32
    | 1 << State::SynSent as u32
    | 1 << State::SynRecv as u32
    | 1 << State::SynAck as u32
    | 1 << State::SctpEstablished as u32;

/// Whether connections in this state count as active.
#[inline(always)]
pub const fn is_active(state: u8) -> bool {
    ACTIVE >> (state & 31) & 1 != 0
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the virtual address.
    In,
    /// From the server to the client.
    Out,
}

/// Which column of the table of states a packet goes by.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the client, whose answers come this way.
    In = 0,
    /// From the server.
    Out = 1,
    /// From the client of a connection whose answers take another way, until one is seen (direct routing, tunnels).
    InOnly = 2,
}

/// Flags byte of the TCP header: FIN.
pub const FIN: u8 = 0x01;
/// Flags byte of the TCP header: SYN.
pub const SYN: u8 = 0x02;
/// Flags byte of the TCP header: RST.
pub const RST: u8 = 0x04;
/// Flags byte of the TCP header: ACK.
pub const ACK: u8 = 0x10;

/// What a row of transitions does with each of the eleven TCP states, four bits a state, state 0 lowest.
///
/// A row is one number, so that the kernel needs neither a map nor a bounds check to use it.
const fn row(next: [u8; 11]) -> u64 {
    let mut packed = 0;
    let mut state = 0;
    while state < 11 {
        packed |= (next[state] as u64) << (4 * state);
        state += 1;
    }
    packed
}

const ES: u8 = State::Established as u8;
const SS: u8 = State::SynSent as u8;
const SR: u8 = State::SynRecv as u8;
const FW: u8 = State::FinWait as u8;
const TW: u8 = State::TimeWait as u8;
const CL: u8 = State::Close as u8;
const CW: u8 = State::CloseWait as u8;
const LA: u8 = State::LastAck as u8;
const LI: u8 = State::Listen as u8;
const SA: u8 = State::SynAck as u8;

//                             NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
const IN_SYN: u64 = row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR]);
const IN_FIN: u64 = row([CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW]);
const IN_ACK: u64 = row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES]);
const IN_RST: u64 = row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR]);
const OUT_SYN: u64 = row([SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR]);
const OUT_FIN: u64 = row([TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW]);
const OUT_ACK: u64 = row([ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES]);
const OUT_RST: u64 = row([CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL]);
const ONLY_FIN: u64 = row([CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW]);
const ONLY_RST: u64 = row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL]);
// With `secure_tcp`, where a connection counts as made only once the server answered.
const SECURE_IN_SYN: u64 = row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA]);
const SECURE_IN_FIN: u64 = row([CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA]);
const SECURE_IN_ACK: u64 = row([ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA]);
const SECURE_OUT_SYN: u64 = row([SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA]);
const SECURE_ONLY_SYN: u64 = row([SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA]);
/// A packet with none of the four flags closes whatever the state.
const NO_FLAG: u64 = row([CL; 11]);

/// Which of the four flags counts when several are set, three bits for each of their sixteen combinations as
/// [`combination`] gives them: RST before SYN before FIN before ACK.
const EVENTS: u64 = {
    let mut packed = 0u64;
    let mut flags = 0;
    while flags < 16 {
        let event = if flags & 4 != 0 {
            0
        } else if flags & 2 != 0 {
            1
        } else if flags & 1 != 0 {
            2
        } else if flags & 8 != 0 {
            3
        } else {
            4
        };
        packed |= event << (3 * flags);
        flags += 1;
    }
    packed
};

/// FIN, SYN, RST and ACK as four bits.
#[inline(always)]
pub const fn combination(flags: u8) -> u32 {
    (flags & 7 | flags >> 1 & 8) as u32
}

/// All transitions, for [`Config::transitions`](crate::tables::Config::transitions): a row of states by side and event.
/// `secure`: those of the setting `secure_tcp`.
pub const fn transitions(secure: bool) -> [u64; 32] {
    let mut rows = [0; 32];
    let normal = [
        [IN_RST, IN_SYN, IN_FIN, IN_ACK, NO_FLAG],
        [OUT_RST, OUT_SYN, OUT_FIN, OUT_ACK, NO_FLAG],
        [ONLY_RST, IN_SYN, ONLY_FIN, IN_ACK, NO_FLAG],
    ];
    let strict = [
        [
            ONLY_RST,
            SECURE_IN_SYN,
            SECURE_IN_FIN,
            SECURE_IN_ACK,
            NO_FLAG,
        ],
        [OUT_RST, SECURE_OUT_SYN, OUT_FIN, OUT_ACK, NO_FLAG],
        [ONLY_RST, SECURE_ONLY_SYN, ONLY_FIN, IN_ACK, NO_FLAG],
    ];
    let mut side = 0;
    while side < 3 {
        let mut event = 0;
        while event < 5 {
            let row = if secure {
                strict[side][event]
            } else {
                normal[side][event]
            };
            // UDP has one state, whatever comes.
            rows[side << 3 | event] = row | UDP_STAYS;
            event += 1;
        }
        side += 1;
    }
    rows
}

const UDP_STAYS: u64 = (State::Udp as u64) << (4 * State::Udp as u32);

/// Index of a row of [`transitions`]: what a packet with these flags does that goes by this column (the number of a
/// [`Side`]). No branches: the verifier would follow each.
#[inline(always)]
pub const fn row_index(side: u32, flags: u8) -> u32 {
    let event = (EVENTS >> (3 * combination(flags))) as u32 & 7;
    side << 3 | event
}

/// The state that a row of [`transitions`] leads to.
#[inline(always)]
pub const fn next_in(row: u64, state: u8) -> u8 {
    (row >> (4 * (state & 15)) & 15) as u8
}

/// The state after a TCP packet.
pub const fn tcp_next(state: u8, side: Side, flags: u8, secure: bool) -> u8 {
    next_in(
        transitions(secure)[row_index(side as u32, flags) as usize],
        state,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: u8 = State::None as u8;

    /// Lives of connections as recorded from the real IPVS (golden/traffic/states.jsonl).
    #[test]
    fn recorded_lives_are_lived_again() {
        use Side::{In, InOnly, Out};
        type Life<'a> = (&'a str, &'a [(Side, u8, u8)]);
        let lives: [Life<'_>; 7] = [
            (
                "handshake",
                &[(In, SYN, SR), (Out, SYN | ACK, SR), (In, ACK, ES)],
            ),
            (
                "client closes first",
                &[
                    (In, SYN, SR),
                    (In, ACK, ES),
                    (In, FIN | ACK, CW),
                    (Out, ACK, CW),
                    (Out, FIN | ACK, TW),
                    (In, ACK, TW),
                ],
            ),
            (
                "server closes first",
                &[
                    (In, SYN, SR),
                    (In, ACK, ES),
                    (Out, FIN | ACK, FW),
                    (In, ACK, FW),
                    (In, FIN | ACK, TW),
                    (Out, ACK, TW),
                ],
            ),
            (
                "client resets",
                &[(In, SYN, SR), (In, ACK, ES), (In, RST, CL)],
            ),
            ("server refuses", &[(In, SYN, SR), (Out, RST | ACK, CL)]),
            ("no flags", &[(In, SYN, SR), (In, ACK, ES), (In, 0, CL)]),
            (
                "direct routing",
                &[
                    (InOnly, SYN, SR),
                    (InOnly, ACK, ES),
                    (InOnly, FIN | ACK, FW),
                ],
            ),
        ];
        for (name, life) in lives {
            let mut state = NO;
            for &(side, flags, wanted) in life {
                state = tcp_next(state, side, flags, false);
                assert_eq!(state, wanted, "{name}: flags {flags:#x}");
            }
        }
    }

    #[test]
    fn a_reset_while_half_open_does_not_close() {
        assert_eq!(tcp_next(SR, Side::In, RST, false), SR);
    }

    #[test]
    fn four_states_of_tcp_and_one_of_sctp_are_active() {
        let active: Vec<_> = (0..STATES as u8)
            .filter(|&s| is_active(s))
            .map(|s| NAMES[s as usize])
            .collect();
        assert_eq!(
            active,
            [
                "ESTABLISHED",
                "SYN_SENT",
                "SYN_RECV",
                "SYNACK",
                "ESTABLISHED"
            ]
        );
    }

    /// The tables of the reference (§3.2), as written there: side, event, and what changes; a state that is not
    /// named stays.
    const REFERENCE: &str = "
        in  SYN  NO FW TW CL CW LA LI SA > SR ; SS > ES
        in  FIN  NO > CL ; ES > CW ; SR FW SA > TW
        in  ACK  NO SR SA > ES ; LA > CL
        in  RST  NO ES SS FW TW CW > CL ; SA > SR
        out SYN  NO FW TW CL CW LA > SS ; SA > SR
        out FIN  NO SR CW SA > TW ; ES > FW
        out ACK  NO SR LI SA > ES
        out RST  NO ES SR FW CW LA LI SA > CL
        only SYN  NO FW TW CL CW LA LI SA > SR ; SS > ES
        only FIN  NO > CL ; ES > FW ; SR SA > TW
        only ACK  NO SR SA > ES ; LA > CL
        only RST  NO ES SS FW TW CW SA > CL";

    /// As above, of `secure_tcp`.
    const SECURE: &str = "
        in  SYN  NO FW TW CL CW LA LI > SR ; SS > ES
        in  FIN  NO > CL ; ES > CW ; SR FW > TW
        in  ACK  NO > ES ; LA > CL
        in  RST  NO ES SS FW TW CW SA > CL
        out SYN  NO FW TW CL CW LA > SS ; SR > SA
        out FIN  NO SR CW SA > TW ; ES > FW
        out ACK  NO SR LI SA > ES
        out RST  NO ES SR FW CW LA LI SA > CL
        only SYN  NO FW TW CL CW LA LI > SA ; SS > ES
        only FIN  NO > CL ; ES > FW ; SR SA > TW
        only ACK  NO SR SA > ES ; LA > CL
        only RST  NO ES SS FW TW CW SA > CL";

    #[test]
    fn the_whole_tables_are_those_of_the_reference() {
        check(REFERENCE, false);
        check(SECURE, true);
    }

    fn check(table: &str, secure: bool) {
        const SHORT: [&str; 11] = [
            "NO", "ES", "SS", "SR", "FW", "TW", "CL", "CW", "LA", "LI", "SA",
        ];
        for row in table.trim().lines() {
            let words: Vec<_> = row.split_whitespace().collect();
            let side = match words[0] {
                "in" => Side::In,
                "out" => Side::Out,
                _ => Side::InOnly,
            };
            // Flags that come after the event in order do not matter.
            let flags: &[u8] = match words[1] {
                "RST" => &[RST, RST | SYN | FIN | ACK, RST | ACK],
                "SYN" => &[SYN, SYN | FIN | ACK, SYN | 0xe8],
                "FIN" => &[FIN, FIN | ACK],
                _ => &[ACK, ACK | 0xe8],
            };
            let changes = words[2..].join(" ");
            for (number, name) in SHORT.iter().enumerate() {
                let change = changes
                    .split(" ; ")
                    .filter_map(|change| change.split_once(" > "))
                    .find(|(from, _)| from.split(' ').any(|state| state == *name));
                let wanted = change.map_or(*name, |(_, to)| to);
                for flags in flags {
                    let next = tcp_next(number as u8, side, *flags, secure);
                    assert_eq!(SHORT[next as usize], wanted, "{row}: from {name}");
                }
            }
        }
        for number in 0..11 {
            for side in [Side::In, Side::Out, Side::InOnly] {
                // Push, urgent, ECN: not one of the four.
                assert_eq!(tcp_next(number, side, 0, secure), CL);
                assert_eq!(tcp_next(number, side, 0xe8, secure), CL);
            }
        }
    }

    #[test]
    fn timeouts_are_those_of_the_reference() {
        let named: Vec<_> = NAMES.into_iter().zip(TIMEOUTS).collect();
        let wanted = [
            ("NONE", 2),
            ("ESTABLISHED", 900),
            ("SYN_SENT", 120),
            ("SYN_RECV", 60),
            ("FIN_WAIT", 120),
            ("TIME_WAIT", 120),
            ("CLOSE", 10),
            ("CLOSE_WAIT", 60),
            ("LAST_ACK", 30),
            ("LISTEN", 120),
            ("SYNACK", 120),
            ("UDP", 300),
            ("NONE", 2),
            ("INIT1", 4),
            ("INIT", 61),
            ("C-SENT", 61),
            ("C-REPLIED", 61),
            ("C-WAIT", 61),
            ("COOKIE", 61),
            ("C-ECHOED", 61),
            ("ESTABLISHED", 900),
            ("S-SENT", 61),
            ("S-RECEIVED", 61),
            ("S-ACK-SENT", 61),
            ("REJECTED", 4),
            ("CLOSED", 61),
            ("NONE", 0),
            ("ASSURED", 0),
        ];
        assert_eq!(named, wanted);
    }
}
