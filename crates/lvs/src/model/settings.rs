//! Settings of a director, by the names of the kernel's sysctls (`net.ipv4.vs.*`, `ip_vs_ctl.c`): the same
//! names, defaults and ranges, and a few of our own.
//!
//! Numbers are kept as they were given (the kernel shows a switch that was set to 3 as 3, and so do we).

use std::fmt;

use serde::{Deserialize, Serialize};

mod value;

use value::{Rule, Value};
pub use value::{SettingError, SyncThreshold};

/// A switch: any number, everything but 0 is on. As wide as the kernel takes it.
const SWITCH: Rule = Rule::Switch;
/// Any number of 32 bits.
const ANY: Rule = Rule::Between(i32::MIN as i64, i32::MAX as i64);
/// The modes of the defences against floods.
const MODE: Rule = Rule::Between(0, 3);
/// Seconds that fit the kernel's ticks, 250 in a second.
const SECONDS: Rule = Rule::Between(-8_589_934, 8_589_934);

/// What comes of a setting in this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The director does what it says.
    Works,
    /// It is kept, and does nothing until something is built.
    Later(&'static str),
    /// It is kept, and there is nothing here for it to change.
    Nothing(&'static str),
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("in force"),
            Self::Later(why) => write!(f, "kept, without effect yet: {why}"),
            Self::Nothing(why) => write!(f, "kept, without effect here: {why}"),
        }
    }
}

/// What is known of one setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it means, in one sentence without a full stop.
    pub meaning: &'static str,
    /// Whether it does anything.
    pub effect: Effect,
    rule: Rule,
    get: fn(&Settings) -> String,
    set: fn(&mut Settings, &str, Rule) -> Option<()>,
}

impl Setting {
    /// The setting with this name.
    pub fn named(name: &str) -> Result<&'static Self, SettingError> {
        SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .ok_or_else(|| SettingError::Unknown(name.to_owned()))
    }

    /// Its value.
    pub fn value(&self, settings: &Settings) -> String {
        (self.get)(settings)
    }

    /// Its value at first.
    pub fn default_value(&self) -> String {
        self.value(&Settings::default())
    }

    /// What it takes, in words.
    pub fn range(&self) -> String {
        self.rule.to_string()
    }
}

impl Settings {
    /// Change one, as `sysctl -w` would, or refuse it and change nothing.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        let setting = Setting::named(name)?;
        (setting.set)(self, value, setting.rule).ok_or_else(|| SettingError::Invalid {
            name: setting.name,
            value: value.to_owned(),
            range: setting.range(),
            default: setting.default_value(),
        })
    }

    /// Whether every value is one that [`Settings::set`] would take: a document may hold others.
    pub fn check(&self) -> Result<(), SettingError> {
        let mut scratch = self.clone();
        SETTINGS
            .iter()
            .try_for_each(|setting| scratch.set(setting.name, &setting.value(self)))
    }

    /// Those that are not what they are at first.
    pub fn changed(&self) -> impl Iterator<Item = &'static Setting> {
        let default = Self::default();
        SETTINGS
            .iter()
            .filter(move |setting| setting.value(self) != setting.value(&default))
    }
}

/// Declares the fields of [`Settings`] and the rows of [`SETTINGS`] in one place.
macro_rules! settings {
    ($($name:ident: $type:ty = $default:expr, $rule:expr, $effect:expr, $meaning:literal;)*) => {
        /// The settings of a director; fields are named as the kernel's sysctls, numbers of seconds and modes
        /// are theirs too.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            $(#[doc = $meaning] pub $name: $type,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// Every setting there is, in the order in which they are listed.
        pub static SETTINGS: &[Setting] = &[
            $(Setting {
                name: stringify!($name),
                meaning: $meaning,
                effect: $effect,
                rule: $rule,
                get: |settings| settings.$name.to_text(),
                set: |settings, text, rule| {
                    settings.$name = Value::read(text, rule)?;
                    Some(())
                },
            },)*
        ];
    };
}

const SYNC: Effect = Effect::Later("the wire of the sync daemon comes later");
const ESTIMATOR: Effect =
    Effect::Nothing("rates are estimated by the daemon, counters by the programs");
const SCTP: Effect = Effect::Later("SCTP services come later");
const MARKS: Effect = Effect::Later("services by firewall mark come later");
const STACK: Effect = Effect::Nothing("packets do not pass the host's stack");
const SIZES: Effect =
    Effect::Nothing("the table's size is chosen when the director starts (--connections)");

settings! {
    am_droprate: i32 = 10, ANY, Effect::Works,
        "With drop_packet 3, one in so many new flows is dropped";
    amemthresh: i32 = 1024, ANY, Effect::Works,
        "Pages of free memory below which automatic defence starts";
    backup_only: i32 = 0, SWITCH, SYNC,
        "While a backup sync daemon runs, nothing is balanced";
    cache_bypass: i32 = 0, SWITCH, MARKS,
        "Without a server, packets of a service by firewall mark go on to their destination";
    conn_lfactor: i32 = -4, Rule::Between(-8, 8), SIZES,
        "Load factor of the connection table, as a power of two";
    conn_max: i32 = 1 << 30, Rule::Between(0, 1 << 30), SIZES,
        "Most connections";
    conn_reuse_mode: i32 = 1, ANY, Effect::Works,
        "A new connection on a used port is scheduled anew: 0 never, 1 when the old one ended, 2 also in FIN_WAIT";
    conn_tab_bits: i32 = 12, Rule::Between(8, 20), SIZES,
        "Size of the kernel's connection table as a power of two (there a parameter of the module)";
    conntrack: i32 = 0, SWITCH, STACK,
        "Keep netfilter's connection tracking for balanced flows";
    debug_level: i32 = 0, ANY, Effect::Nothing("say what is logged with FURIWAKE_LOG"),
        "How much the kernel logs";
    drop_entry: i32 = 0, MODE, Effect::Works,
        "Defence that drops half-open connections: 0 off, 1 and 2 automatic, 3 on";
    drop_packet: i32 = 0, MODE, Effect::Works,
        "Defence that drops packets of new flows: 0 off, 3 on; 1 and 2 wait for lack of memory, which does not come";
    est_cpulist: String = "all".to_owned(), Rule::Cpus, ESTIMATOR,
        "Processors of the estimator's threads";
    est_nice: i32 = 0, Rule::Between(-20, 19), ESTIMATOR,
        "Niceness of the estimator's threads";
    expire_nodest_conn: i32 = 0, SWITCH, Effect::Works,
        "A connection whose server is gone ends with its next packet";
    expire_quiescent_template: i32 = 0, SWITCH, Effect::Works,
        "A persistent client of a server with weight 0 gets another server";
    ignore_tunneled: i32 = 0, SWITCH, STACK,
        "What was taken out of packets of unknown protocols is not balanced again";
    lblc_expiration: i32 = 86400, SECONDS, Effect::Works,
        "Seconds after which lblc forgets an unused destination";
    lblcr_expiration: i32 = 86400, SECONDS, Effect::Works,
        "Seconds after which lblcr forgets an unused destination, and a set of servers shrinks";
    nat_icmp_send: i32 = 0, SWITCH, Effect::Later("answers to servers come later"),
        "A server's packet of no connection is answered with port unreachable";
    pmtu_disc: i32 = 1, SWITCH, Effect::Works,
        "Tunnels carry the don't-fragment flag, and senders are told of what is too long";
    run_estimation: i32 = 1, SWITCH, ESTIMATOR,
        "Estimate rates";
    schedule_icmp: i32 = 0, SWITCH, Effect::Works,
        "An ICMP error of no connection makes one";
    secure_tcp: i32 = 0, MODE, Effect::Works,
        "The stricter table of TCP states: 0 off, 3 on; 1 and 2 wait for lack of memory, which does not come";
    sloppy_sctp: i32 = 0, SWITCH, SCTP,
        "Any SCTP packet but an abort makes a connection";
    sloppy_tcp: i32 = 0, SWITCH, Effect::Works,
        "Any TCP packet but a reset makes a connection";
    snat_reroute: i32 = 1, SWITCH, STACK,
        "Replies are routed anew after their source changed";
    svc_lfactor: i32 = -3, Rule::Between(-8, 8), SIZES,
        "Load factor of the table of services, as a power of two";
    sync_persist_mode: i32 = 0, SWITCH, SYNC,
        "Of persistent services only templates are synchronised";
    sync_ports: i32 = 1, Rule::PowerOfTwo, SYNC,
        "UDP ports of the sync daemon, one after the other; 64 at most are used";
    sync_qlen_max: u64 = 0, Rule::Between(0, i64::MAX), SYNC,
        "Most messages that wait to be sent; 0 as much as memory allows";
    sync_refresh_period: i32 = 0, SECONDS, SYNC,
        "Seconds after which an unchanged connection is sent again";
    sync_retries: i32 = 0, Rule::Between(0, 3), SYNC,
        "How often a connection is sent again";
    sync_sock_size: i32 = 0, ANY, SYNC,
        "Buffer of the sync daemon's socket in bytes; 0 as the system says";
    sync_threshold: SyncThreshold = SyncThreshold { threshold: 3, period: 50 }, Rule::Threshold, SYNC,
        "Packets of a connection after which it is sent, and then every so many";
    sync_version: i32 = 1, Rule::Between(0, 1), SYNC,
        "Version of the messages that are sent";
    reset_without_server: i32 = 0, Rule::Between(0, 1), Effect::Works,
        "Ours: without a usable server, TCP clients get a reset instead of port unreachable";
    scheduler_twos: i32 = 0, Rule::Between(0, 1), Effect::Works,
        "Ours: whether there is the scheduler twos, which many kernels are built without";
}

#[cfg(test)]
mod tests;
