//! Comparing what commands print, line by line.

use super::Mismatch;

/// Compare what ipvsadm printed with what was recorded: blanks and all, but for
/// - the size of the connection table, which is each director's own;
/// - the order of connections, which is that of a hash table;
/// - times, which may differ by a second and `slack`;
/// - connections at 00:00: the recorded kernel looks at long timers late. What it has still to look at is over here, or,
///   as a template whose connections live on, has got more time;
/// - IPv6, which is not balanced.
pub(super) fn compare(recorded: &str, printed: &str, slack: u32) -> Result<(), Mismatch> {
    let (wanted, got) = (lines(recorded), lines(printed));
    let same = if recorded.starts_with("IPVS connection entries") {
        are_alike(&wanted, &got, 1 + slack)
    } else {
        wanted == got
    };
    if same {
        Ok(())
    } else {
        Err(Mismatch { wanted, got })
    }
}

/// The lines that are compared: not those about IPv6, neither its services and their servers, nor its connections.
fn lines(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.contains('['))
        .map(|line| match line.split_once(" (size=") {
            Some((head, _)) => head.to_owned(),
            None => line.to_owned(),
        })
        .collect()
}

/// Whether two lists of connections say the same, but for `tolerance` seconds.
fn are_alike(wanted: &[String], got: &[String], tolerance: u32) -> bool {
    let mut got: Vec<(String, u32)> = got.iter().map(|line| without_seconds(line)).collect();
    let is_there = |line: &String| {
        let (text, seconds) = without_seconds(line);
        let Some(at) = got.iter().position(|(other, _)| *other == text) else {
            return seconds <= tolerance && is_entry(line);
        };
        let (_, other) = got.swap_remove(at);
        seconds.abs_diff(other) <= tolerance || (seconds == 0 && is_entry(line))
    };
    wanted.iter().all(is_there) && got.iter().all(|(_, seconds)| *seconds <= tolerance)
}

/// Whether a line of a list of connections is one of them, and not of its head.
fn is_entry(line: &str) -> bool {
    time_of(line).is_some()
}

/// A line without the time that is left in it, and that time.
fn without_seconds(line: &str) -> (String, u32) {
    match time_of(line) {
        Some(seconds) => (format!("{}{}", &line[..4], &line[10..]), seconds),
        // Of the head, which is never over.
        None => (line.to_owned(), u32::MAX),
    }
}

fn time_of(line: &str) -> Option<u32> {
    let (minutes, seconds) = line.get(4..10)?.trim_end().split_once(':')?;
    Some(minutes.parse::<u32>().ok()? * 60 + seconds.parse::<u32>().ok()?)
}
