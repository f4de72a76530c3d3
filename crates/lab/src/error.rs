//! What can go wrong in a lab: where, what, and what to do about it.

use std::{io, path::PathBuf};

use crate::file::{Problem, listed};

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine or this user cannot have a lab at all; nothing was started.
    #[error("{problem}\n{remedy}")]
    Precondition {
        /// What is missing.
        problem: String,
        /// What to type or to install.
        remedy: String,
    },
    /// The kernel or the file system refused a step.
    #[error("{step}: {source}")]
    System {
        /// The step, with the names it concerned.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// No node carries that name.
    #[error("no node is called {name:?}; this lab has {known}")]
    UnknownNode {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No running lab carries that name.
    #[error(
        "no lab called {name:?} is running; `furiwake lab up nat` starts one, `furiwake lab list` shows them"
    )]
    NoSuchLab {
        /// What was asked for.
        name: String,
    },
    /// A lab of that name is running already.
    #[error(
        "a lab called {name:?} is running already; `furiwake lab down --name {name}` ends it, --name gives another name"
    )]
    NameTaken {
        /// What was asked for.
        name: String,
    },
    /// A file that describes a lab has mistakes.
    #[error("{file} has {}", listed(problems))]
    File {
        /// Its name.
        file: String,
        /// Every mistake, from the top of the file.
        problems: Vec<Problem>,
    },
    /// Something asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A program of a node ended or never became ready.
    #[error("{program} on {node} {problem}\n{log_tail}(log: {})", log.display())]
    Program {
        /// What was started.
        program: String,
        /// Where.
        node: String,
        /// What it did instead.
        problem: String,
        /// Its last words, each line ended; may be empty.
        log_tail: String,
        /// The file with all its words.
        log: PathBuf,
    },
}

/// What every fallible function here returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Puts the step in front of what the system said about it.
pub(crate) trait Step<T> {
    /// `step` is a short sentence without a full stop: "create veth eth0".
    fn step(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Step<T> for std::result::Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::System {
            step: step(),
            source: error.into(),
        })
    }
}
