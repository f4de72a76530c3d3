//! Values of settings: how they are read and written, and what they may be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `sync_threshold`: two numbers in one setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SyncThreshold {
    /// Packets after which a connection is sent first.
    pub threshold: i32,
    /// Packets after which it is sent again; 0: never.
    pub period: i32,
}

/// Why a setting was not changed: the kernel's EINVAL and ENOENT, with a remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no such setting.
    #[error("there is no setting {0}: `furiwake set` lists them")]
    Unknown(String),
    /// It does not take this value.
    #[error("{name} cannot be \"{value}\": it takes {range}, by default {default}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// What it takes.
        range: String,
        /// What it is at first.
        default: String,
    },
}

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A number of 32 bits; 0 is off and any other is on (`proc_dointvec`).
    Switch,
    /// A number within bounds.
    Between(i64, i64),
    /// 1, 2, 4, 8 … (`proc_do_sync_ports`).
    PowerOfTwo,
    /// Two numbers, the first below the second unless that is 0 (`proc_do_sync_threshold`).
    Threshold,
    /// A list of processors, as `0-3,6`.
    Cpus,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.write_str("0 (off) or another number (on)"),
            Self::Between(0, most) if *most == i64::MAX => f.write_str("a number from 0 on"),
            Self::Between(least, most) if *least == i64::from(i32::MIN) => {
                write!(f, "a number up to {most}")
            }
            Self::Between(least, most) => write!(f, "a number from {least} to {most}"),
            Self::PowerOfTwo => f.write_str("a power of two"),
            Self::Threshold => f.write_str(
                "two numbers with a blank between them, the first below the second or the second 0",
            ),
            Self::Cpus => f.write_str("a list of processors (0-3,6), all, or nothing"),
        }
    }
}

/// A type that a setting can have.
pub(super) trait Value: Sized {
    /// Read it, if the text is one and the rule allows it.
    fn read(text: &str, rule: Rule) -> Option<Self>;
    /// As [`Value::read`] takes it.
    fn to_text(&self) -> String;
}

impl Value for i32 {
    fn read(text: &str, rule: Rule) -> Option<Self> {
        let number: Self = text.trim().parse().ok()?;
        let allowed = match rule {
            Rule::Between(least, most) => (least..=most).contains(&i64::from(number)),
            Rule::PowerOfTwo => number > 0 && number.unsigned_abs().is_power_of_two(),
            Rule::Switch => true,
            Rule::Threshold | Rule::Cpus => false,
        };
        allowed.then_some(number)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    fn read(text: &str, _rule: Rule) -> Option<Self> {
        // A document of JSON holds no larger number for sure.
        let number = text.trim().parse().ok()?;
        (number <= i64::MAX as u64).then_some(number)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Value for SyncThreshold {
    fn read(text: &str, _rule: Rule) -> Option<Self> {
        let mut words = text.split_whitespace();
        let threshold: i32 = words.next()?.parse().ok()?;
        let period: i32 = words.next()?.parse().ok()?;
        let fits = threshold >= 0 && (period == 0 || threshold < period);
        (fits && words.next().is_none()).then_some(Self { threshold, period })
    }

    fn to_text(&self) -> String {
        format!("{} {}", self.threshold, self.period)
    }
}

impl Value for String {
    fn read(text: &str, _rule: Rule) -> Option<Self> {
        let text = text.trim();
        let cpu = |word: &str| word.parse::<u16>().is_ok();
        let fits = text.is_empty()
            || text == "all"
            || text.split(',').all(|part| match part.split_once('-') {
                Some((first, last)) => cpu(first) && cpu(last),
                None => cpu(part),
            });
        fits.then(|| text.to_owned())
    }

    fn to_text(&self) -> String {
        self.clone()
    }
}
