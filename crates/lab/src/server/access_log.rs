//! An access log in the common log format, the one Apache and nginx write too.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    net::IpAddr,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::error::{Result, Step};

/// A log that is only ever appended to, a line at a time.
#[derive(Debug)]
pub(super) struct AccessLog {
    file: File,
}

impl AccessLog {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .step(|| format!("open {}", path.display()))?;
        Ok(Self { file })
    }

    pub(super) fn write(&self, client: IpAddr, request: &str, status: u16, bytes: u64) {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let line = format!(
            "{client} - - [{}] \"{request}\" {status} {bytes}\n",
            timestamp(seconds)
        );
        // One write per line keeps lines of several threads apart; a full disk must not stop the service.
        let _ = (&self.file).write_all(line.as_bytes());
    }
}

/// `24/Nov/2026:12:30:22 +0000`, always in UTC.
fn timestamp(seconds: u64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (mut days, time) = (seconds / 86400, seconds % 86400);
    let mut year = 1970;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!(
        "{:02}/{}/{year}:{hour:02}:{minute:02}:{second:02} +0000",
        days + 1,
        MONTHS[month]
    )
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn dates_are_right_around_leap_days_and_years() {
        assert_eq!(timestamp(0), "01/Jan/1970:00:00:00 +0000");
        assert_eq!(timestamp(951_782_400), "29/Feb/2000:00:00:00 +0000");
        assert_eq!(timestamp(1_709_251_199), "29/Feb/2024:23:59:59 +0000");
        assert_eq!(timestamp(1_709_251_200), "01/Mar/2024:00:00:00 +0000");
        assert_eq!(timestamp(1_767_225_599), "31/Dec/2025:23:59:59 +0000");
    }
}
