//! The schedulers, by the names of ipvsadm.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

macro_rules! schedulers {
    ($($(#[$doc:meta])* $variant:ident $name:literal)*) => {
        /// How a director chooses a server. Of some the lab can tell what they must choose: they say so.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Scheduler {
            $($(#[$doc])* $variant,)*
        }

        impl Scheduler {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

schedulers! {
    /// One after the other; predicted.
    Rr "rr"
    /// One after the other, in proportion to the weights; predicted.
    Wrr "wrr"
    /// The one with the fewest connections.
    Lc "lc"
    /// The same, in proportion to the weights.
    Wlc "wlc"
    /// By destination, while that server is not overloaded.
    Lblc "lblc"
    /// The same with sets of servers.
    Lblcr "lblcr"
    /// By a hash of the destination; predicted to be always the same.
    Dh "dh"
    /// By a hash of the source; predicted to be always the same for one client.
    Sh "sh"
    /// By Maglev's table as IPVS fills it; predicted to be always the same for one client.
    Mh "mh"
    /// Shortest expected delay.
    Sed "sed"
    /// Never a queue: an idle one, or else shortest expected delay.
    Nq "nq"
    /// The heaviest; predicted.
    Fo "fo"
    /// The heaviest that is not full.
    Ovf "ovf"
    /// The better of two chosen at random.
    Twos "twos"
    /// By Maglev's table as its paper fills it.
    Maglev "maglev"
    /// New connections are not served.
    None "none"
}

impl Scheduler {
    /// The names, for people.
    pub(crate) fn names() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|scheduler| scheduler.name()).collect();
        names.join(", ")
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheduler {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|scheduler| scheduler.name() == name)
            .ok_or_else(|| {
                Error::Invalid(format!("scheduler {name:?}: there are {}", Self::names()))
            })
    }
}
