//! Saying what a lab is and what was found, for people and for programs. Pure functions to text.

pub mod format;

mod json;
mod markdown;
mod picture;
mod text;

pub use json::json;
pub use markdown::markdown;
pub use text::{Paint, head, next_steps, text};

use crate::check::{Check, Measured, Status};

/// What there is to report.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was measured.
    pub measured: Measured,
    /// What that means.
    pub checks: Vec<Check>,
}

impl Report {
    /// Judges what was measured.
    #[must_use]
    pub fn new(measured: Measured) -> Self {
        let checks = crate::check::judge(&measured);
        Self { measured, checks }
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.count(Status::Failed) == 0
    }

    /// How many checks came out so.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.checks
            .iter()
            .filter(|check| check.status == status)
            .count()
    }
}

/// The director's hooks in a few words.
fn data_plane(hook: crate::hook::Hook, attached: &[(String, String)]) -> String {
    let mut places: Vec<&str> = attached.iter().map(|(_, place)| place.as_str()).collect();
    places.dedup();
    match places.as_slice() {
        [] => format!("hook {hook}"),
        [one] => format!("{one} (--hook {hook})"),
        _ => attached
            .iter()
            .map(|(interface, place)| format!("{interface} {place}"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

#[cfg(test)]
mod tests;
