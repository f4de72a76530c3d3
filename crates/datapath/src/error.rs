//! What can go wrong in the data plane.

use std::{io, net::IpAddr, path::PathBuf};

/// Why the data plane could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the pin folder could not be used.
    #[error("{path}: {source}", path = path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel or aya refused a step.
    #[error("cannot {what} ({path}): {}", chain(source.as_ref()), path = path.display())]
    Aya {
        /// The step.
        what: &'static str,
        /// The pin, or the name of what it is about.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The verifier or the kernel refused a program.
    #[error("the kernel refuses the program {program}: {reason}; {remedy}")]
    Refused {
        /// Name of the program.
        program: &'static str,
        /// The kernel's last words.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A service cannot get its scheduler.
    #[error("{0}")]
    Scheduler(#[from] furiwake_engine::list::NoScheduler),
    /// A pin has another shape than this version expects.
    #[error("{path} has another layout than this version of furiwake; run `furiwake down` first", path = path.display())]
    Layout {
        /// The pin.
        path: PathBuf,
    },
    /// The pin folder belongs to a version with other layouts.
    #[error(
        "{path} holds the state of a furiwake with layout {found}, this one has layout {wanted}: \
         stop it and run its `furiwake down` (its connections end), or start that version again", path = path.display()
    )]
    StalePins {
        /// The pin folder.
        path: PathBuf,
        /// Layout found.
        found: String,
        /// Layout of this version.
        wanted: u32,
    },
    /// A map is full.
    #[error("no room for another {what}: {limit} is the most that this data plane holds")]
    Full {
        /// What.
        what: &'static str,
        /// How many fit.
        limit: u32,
    },
    /// The data plane does not have this.
    #[error("{0} is not something that this data plane does")]
    Unsupported(String),
    /// A change names something that is not there.
    #[error("no such {0} in the data plane")]
    Missing(&'static str),
    /// An address that no server has.
    #[error("no server has the address {0}")]
    NoServer(IpAddr),
    /// The hook that was asked for cannot be had.
    #[error(
        "{interface}: {hook} cannot be attached: {reason}; choose another with --hook {interface}=tc"
    )]
    Hook {
        /// The interface.
        interface: String,
        /// The hook.
        hook: &'static str,
        /// Why.
        reason: String,
    },
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
