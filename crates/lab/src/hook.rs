//! The choice of where a director takes packets, in the words of `furiwake run --hook`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where the director takes packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// The director decides per interface.
    Auto,
    /// Traffic control, with offloads on.
    Tc,
    /// XDP in the driver, with the offloads off that XDP cannot undo.
    Xdp,
    /// XDP in the stack.
    XdpGeneric,
}

impl Hook {
    /// Whether packets must carry finished checksums and be no larger than the MTU.
    #[must_use]
    pub fn is_xdp(self) -> bool {
        matches!(self, Self::Xdp | Self::XdpGeneric)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Tc => "tc",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
        })
    }
}

impl FromStr for Hook {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "tc" => Ok(Self::Tc),
            "xdp" => Ok(Self::Xdp),
            "xdp-generic" => Ok(Self::XdpGeneric),
            _ => Err(Error::Invalid(format!(
                "hook {name:?}: choose auto, tc, xdp or xdp-generic"
            ))),
        }
    }
}
