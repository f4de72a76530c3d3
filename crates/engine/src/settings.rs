//! Settings of a director, by the names of the kernel's sysctls (`net.ipv4.vs.*`, `ip_vs_ctl.c`): the bits of
//! [`Config::settings`](crate::tables::Config::settings).

/// `expire_nodest_conn`: a connection whose server is gone ends with its next packet.
pub const EXPIRE_NODEST_CONN: u32 = 1;
/// `expire_quiescent_template`: a template whose server has weight 0 is not used.
pub const EXPIRE_QUIESCENT_TEMPLATE: u32 = 1 << 1;
/// `sloppy_tcp`: any TCP packet but a reset makes a connection.
pub const SLOPPY_TCP: u32 = 1 << 2;
/// `pmtu_disc`: tunnels carry the don't-fragment flag of what they wrap and tell senders of what is too long.
pub const PMTU_DISC: u32 = 1 << 5;
/// `schedule_icmp`: an ICMP error of no connection makes one.
pub const SCHEDULE_ICMP: u32 = 1 << 7;
/// `secure_tcp` at a level that is in force now; [`Config::set_transitions`](crate::tables::Config::set_transitions)
/// goes with it.
pub const SECURE_TCP: u32 = 1 << 8;
/// Ours: without a usable server a TCP client gets a reset instead of ICMP port unreachable.
pub const RESET_WITHOUT_SERVER: u32 = 1 << 11;
/// `drop_entry` at a level that is in force now: the sweeper takes out half-open connections at random.
pub const DROP_ENTRY: u32 = 1 << 12;

/// The settings that are on at first.
pub const DEFAULT: u32 = PMTU_DISC;
/// `conn_reuse_mode` at first.
pub const CONN_REUSE_MODE: u32 = 1;
/// `lblc_expiration` and `lblcr_expiration` at first, in seconds.
pub const LBLC_EXPIRATION: u32 = 86400;
