//! Scheduler flags by name: three bits, which some schedulers give names of their own.

use super::command::{Failure, usage_error};

/// The kernel's bits for flag-1, flag-2 and flag-3.
const BITS: [u32; 3] = [8, 16, 32];

/// Names, the scheduler they belong to (any, if empty) and their bit.
const NAMES: [(&str, &str, u32); 7] = [
    ("flag-1", "", BITS[0]),
    ("flag-2", "", BITS[1]),
    ("flag-3", "", BITS[2]),
    ("sh-fallback", "sh", BITS[0]),
    ("sh-port", "sh", BITS[1]),
    ("mh-fallback", "mh", BITS[0]),
    ("mh-port", "mh", BITS[1]),
];

/// Read a comma-separated list.
pub(super) fn parse(list: &str, scheduler: &str) -> Result<u32, Failure> {
    let mut flags = 0;
    for flag in list.split(',').filter(|flag| !flag.is_empty()) {
        match NAMES.iter().find(|(name, ..)| *name == flag) {
            None => return Err(usage_error(format!("invalid scheduler flag `{flag}'"))),
            Some((_, owner, _)) if !owner.is_empty() && *owner != scheduler => {
                return Err(usage_error(format!("incompatible scheduler flag `{flag}'")));
            }
            Some((.., bit)) => flags |= bit,
        }
    }
    Ok(flags)
}

/// Write a comma-separated list that [`parse`] makes the same flags of, whatever the scheduler.
pub(super) fn list_of_all(flags: u32) -> String {
    list(flags, "")
}

/// Write a comma-separated list, by the scheduler's own names if it has some. Those that have do not
/// name flag-3, so the list may come out empty though a flag is set.
pub(super) fn list(flags: u32, scheduler: &str) -> String {
    let owner = if NAMES.iter().any(|(_, owner, _)| *owner == scheduler) {
        scheduler
    } else {
        ""
    };
    let names: Vec<&str> = NAMES
        .iter()
        .filter(|(_, of, bit)| *of == owner && flags & bit != 0)
        .map(|(name, ..)| *name)
        .collect();
    names.join(",")
}
