//! Comparing what commands print, line by line.

use super::Mismatch;

/// Compare what ipvsadm printed with what was recorded: blanks and all, but for
/// - the size of the connection table, which is each director's own;
/// - the order of connections, which is that of a hash table;
/// - times, which may differ by a second and `slack`;
/// - connections at 00:00: the recorded kernel looks at long timers late, and an entry that is over stays for a while;
/// - IPv6, which is not balanced.
pub(super) fn compare(recorded: &str, printed: &str, slack: u32) -> Result<(), Mismatch> {
    let (wanted, got) = (rows(recorded), rows(printed));
    let is_same = |(wanted, got): (&Row, &Row)| {
        wanted.text == got.text && wanted.seconds.abs_diff(got.seconds) <= 1 + slack
    };
    if wanted.len() == got.len() && wanted.iter().zip(&got).all(is_same) {
        return Ok(());
    }
    let shown = |rows: Vec<Row>| rows.into_iter().map(Row::shown).collect();
    Err(Mismatch {
        wanted: shown(wanted),
        got: shown(got),
    })
}

/// A line, without the time that is left in it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    text: String,
    seconds: u32,
}

impl Row {
    fn of(line: &str) -> Self {
        let whole = Self {
            text: line.to_owned(),
            seconds: 0,
        };
        let Some((minutes, seconds)) = line.get(4..10).and_then(|time| time.split_once(':')) else {
            return whole;
        };
        match (minutes.parse::<u32>(), seconds.trim_end().parse::<u32>()) {
            (Ok(minutes), Ok(seconds)) => Self {
                text: format!("{}  :   {}", &line[..4], &line[10..]),
                seconds: minutes * 60 + seconds,
            },
            _ => whole,
        }
    }

    fn shown(self) -> String {
        match self.text.get(4..10) {
            Some("  :   ") => {
                let (head, tail) = (&self.text[..4], &self.text[10..]);
                format!(
                    "{head}{:02}:{:02} {tail}",
                    self.seconds / 60,
                    self.seconds % 60
                )
            }
            _ => self.text,
        }
    }
}

fn rows(text: &str) -> Vec<Row> {
    let is_table = text.starts_with("IPVS connection entries");
    let mut rows: Vec<Row> = without_ipv6(text)
        .map(|line| match line.split_once(" (size=") {
            Some((head, _)) => Row::of(head),
            None => Row::of(line),
        })
        .filter(|row| !(is_table && row.text.get(4..10) == Some("  :   ") && row.seconds == 0))
        .collect();
    if is_table {
        let head = rows.len().min(2);
        rows[head..].sort();
    }
    rows
}

/// Lines that are not about IPv6: neither its services and their servers, nor its connections.
fn without_ipv6(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.contains('['))
}
