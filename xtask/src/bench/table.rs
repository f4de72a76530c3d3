//! Measured rows, compared and laid out in 80 columns.

use serde::Serialize;

/// Columns for a row's name; a longer one has a line to itself.
const NAME: usize = 25;

/// Rows that are measured in the same unit and compared with each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Section {
    /// What was measured.
    pub(crate) title: String,
    /// In what.
    pub(crate) unit: &'static str,
    /// What the ratios are to.
    pub(crate) compared_with: Option<String>,
    /// One per director.
    pub(crate) rows: Vec<Row>,
    /// How it was measured, and what else happened.
    pub(crate) notes: Vec<String>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Of which director.
    pub(crate) name: String,
    /// The middle sample.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The greatest.
    pub(crate) most: f64,
    /// The middle of the samples divided, round by round, by those compared with.
    pub(crate) ratio: Option<f64>,
    /// What must be reached.
    pub(crate) must: Option<String>,
    /// Whether it was.
    pub(crate) met: Option<bool>,
}

/// What must be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Must {
    /// So many times what it is compared with.
    RatioAtLeast(f64),
    /// No more than that.
    AtMost(f64),
    /// Exactly that.
    Be(f64),
}

/// The samples of one row; sample n of every row was taken in round n.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples {
    /// Of which director.
    pub(crate) name: String,
    /// Values.
    pub(crate) values: Vec<f64>,
    /// What must be reached.
    pub(crate) must: Option<Must>,
}

impl Section {
    /// Compares every row with the one called `compared_with`.
    pub(crate) fn new(
        title: impl Into<String>,
        unit: &'static str,
        compared_with: Option<&str>,
        samples: &[Samples],
    ) -> Self {
        let reference = samples
            .iter()
            .find(|row| Some(row.name.as_str()) == compared_with)
            .map(|row| row.values.as_slice());
        Self {
            title: title.into(),
            unit,
            compared_with: compared_with.map(str::to_owned),
            rows: samples.iter().map(|row| Row::new(row, reference)).collect(),
            notes: Vec::new(),
        }
    }

    /// Whether every target was reached.
    pub(crate) fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }

    /// The section as text.
    pub(crate) fn text(&self) -> String {
        let ratio = if self.compared_with.is_some() {
            "ratio"
        } else {
            ""
        };
        let mut text = format!("{}\n", self.title);
        text += &line(&["", self.unit, "least – most", ratio, "must", ""]);
        for row in &self.rows {
            let spread = match (row.least, row.most) {
                (least, most) if least == most => String::new(),
                (least, most) => format!("{} – {}", number(least), number(most)),
            };
            let ratio = row.ratio.map(|ratio| format!("{ratio:.2}"));
            let verdict = row.met.map_or("", |met| if met { "met" } else { "MISSED" });
            let mut name = row.name.as_str();
            if name.chars().count() > NAME {
                text += &format!("  {name}\n");
                name = "";
            }
            text += &line(&[
                name,
                &number(row.median),
                &spread,
                ratio.as_deref().unwrap_or_default(),
                row.must.as_deref().unwrap_or_default(),
                verdict,
            ]);
        }
        if let Some(peer) = &self.compared_with {
            text += &wrap(&format!(
                "ratio: to {peer}, the median of the rounds' ratios"
            ));
        }
        for note in &self.notes {
            text += &wrap(note);
        }
        text
    }
}

impl Row {
    fn new(samples: &Samples, reference: Option<&[f64]>) -> Self {
        let ratio = reference.map(|reference| {
            let ratios = samples
                .values
                .iter()
                .zip(reference)
                .map(|(ours, theirs)| ours / theirs);
            median(&ratios.collect::<Vec<_>>())
        });
        let median = median(&samples.values);
        let (must, met) = match samples.must {
            None => (None, None),
            Some(Must::RatioAtLeast(least)) => (
                Some(format!("≥ {least:.1}×")),
                Some(ratio.is_some_and(|ratio| ratio >= least)),
            ),
            Some(Must::AtMost(most)) => (Some(format!("≤ {}", number(most))), Some(median <= most)),
            Some(Must::Be(value)) => (Some(format!("= {}", number(value))), Some(median == value)),
        };
        Self {
            name: samples.name.clone(),
            median,
            least: samples.values.iter().copied().fold(f64::INFINITY, f64::min),
            most: samples
                .values
                .iter()
                .copied()
                .fold(f64::NEG_INFINITY, f64::max),
            ratio,
            must,
            met,
        }
    }
}

/// The middle value; the mean of the two in the middle when there is no middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match (sorted.get(half.wrapping_sub(1)), sorted.get(half)) {
        (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => {
            f64::midpoint(*below, *above)
        }
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

/// Three figures or all of a larger number, thousands apart.
fn number(value: f64) -> String {
    match value.abs() {
        small if small != 0.0 && small < 10.0 => format!("{value:.2}"),
        small if small != 0.0 && small < 100.0 => format!("{value:.1}"),
        _ => {
            let digits = format!("{value:.0}");
            let (head, tail) = digits.split_at(digits.len() % 3);
            let groups = tail.as_bytes().chunks(3).map(String::from_utf8_lossy);
            let mut groups: Vec<_> = groups.map(|group| group.into_owned()).collect();
            if !head.is_empty() {
                groups.insert(0, head.to_owned());
            }
            groups.join(",")
        }
    }
}

fn line([name, median, spread, ratio, must, verdict]: &[&str; 6]) -> String {
    let line = format!("  {name:<NAME$}{median:>10}{spread:>16}{ratio:>7}{must:>13} {verdict}");
    line.trim_end().to_owned() + "\n"
}

/// A note, broken at blanks to 78 columns and set in.
fn wrap(note: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in note.split_whitespace() {
        let length = word.chars().count();
        if column == 0 || column + 1 + length > 78 {
            text += if column == 0 { "  " } else { "\n  " };
            column = 2 + length;
        } else {
            text.push(' ');
            column += 1 + length;
        }
        text += word;
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(name: &str, values: &[f64], must: Option<Must>) -> Samples {
        Samples {
            name: name.into(),
            values: values.to_vec(),
            must,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round_so_that_a_slow_round_slows_both() {
        let section = Section::new(
            "rate",
            "Mpps",
            Some("them"),
            &[
                samples("them", &[1.0, 0.1, 1.0], None),
                samples("us", &[3.0, 0.3, 4.0], Some(Must::RatioAtLeast(3.0))),
            ],
        );
        assert_eq!(section.rows[1].ratio, Some(3.0));
        assert!(section.passed());
    }

    #[test]
    fn a_missed_target_is_said_and_fails_the_section() {
        let section = Section::new(
            "memory",
            "MiB",
            None,
            &[samples("maps", &[129.0], Some(Must::AtMost(128.0)))],
        );
        assert!(!section.passed());
        assert_eq!(
            section.text(),
            "memory\n\
             \x20                                 MiB    least – most                must\n\
             \x20 maps                            129                               ≤ 128 MISSED\n"
        );
    }

    #[test]
    fn a_long_name_has_a_line_to_itself() {
        let name = "every packet of a new connection";
        let text = Section::new("", "ns", None, &[samples(name, &[1.0], None)]).text();
        assert!(text.contains(&format!("  {name}\n  ")), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn numbers_keep_what_matters_of_them() {
        let shown = [0.0, 0.384, 12.34, 512.0, 1234.5, 1_000_000.0].map(number);
        assert_eq!(shown, ["0", "0.38", "12.3", "512", "1,234", "1,000,000"]);
    }

    #[test]
    fn notes_stay_within_eighty_columns() {
        let note = "word ".repeat(60);
        assert!(wrap(&note).lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
