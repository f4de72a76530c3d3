//! Walking a TOML document: every key is asked for by name, every mistake is noted with its line, and what
//! nobody asked for is a mistake, too.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::Problem;

/// The text and what was found wrong with it.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

/// A table, and which of its keys were asked for.
pub(super) struct Section<'a> {
    /// What it is, for messages: `[[machine]]`.
    pub(super) what: &'static str,
    /// Where it starts.
    pub(super) at: Range<usize>,
    table: &'a DeTable<'a>,
    asked: Vec<&'static str>,
}

/// A value, where it stands and what it is called.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub(super) key: String,
    pub(super) at: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            problems: Vec::new(),
        }
    }

    /// Notes a mistake.
    pub(super) fn add(
        &mut self,
        at: &Range<usize>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        self.problems.push(Problem {
            line: before.matches('\n').count() + 1,
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    /// All mistakes, from the top of the file to its end.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems.dedup();
        self.problems
    }

    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

impl<'a> Section<'a> {
    pub(super) fn new(what: &'static str, at: Range<usize>, table: &'a DeTable<'a>) -> Self {
        Self {
            what,
            at,
            table,
            asked: Vec::new(),
        }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        let value = self.table.get(key)?;
        Some(Value {
            key: key.to_owned(),
            at: value.span(),
            value: value.get_ref(),
        })
    }

    /// The value of a key that has to be there.
    pub(super) fn need(
        &mut self,
        findings: &mut Findings<'_>,
        key: &'static str,
        example: &str,
    ) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            // Sections are not added as a value is.
            let remedy = match example.strip_prefix("add ") {
                Some(_) => example.to_owned(),
                None => format!("add {key} = {example}"),
            };
            findings.add(&self.at, format!("{} has no {key}", self.what), remedy);
        }
        value
    }

    /// Notes every key that nobody asked for.
    pub(super) fn close(self, findings: &mut Findings<'_>) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let near = self
                .asked
                .iter()
                .map(|known| (distance(name, known), known))
                .filter(|(distance, _)| *distance <= 2)
                .min();
            let remedy = match near {
                Some((_, known)) => format!("did you mean {known}?"),
                None => format!("{} knows {}", self.what, self.asked.join(", ")),
            };
            findings.add(
                &key.span(),
                format!("{} has no key {name:?}", self.what),
                remedy,
            );
        }
    }
}

impl<'a> Value<'a> {
    /// A mistake about this value.
    pub(super) fn wrong(
        &self,
        findings: &mut Findings<'_>,
        problem: impl AsRef<str>,
        remedy: impl Into<String>,
    ) {
        findings.add(
            &self.at,
            format!("{} {}", self.key, problem.as_ref()),
            remedy,
        );
    }

    pub(super) fn text(&self, findings: &mut Findings<'_>) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong(findings, self.is_a("a text"), "write it in quotes");
        }
        text
    }

    /// A text of which `parse` makes something, or says what the text would have to be.
    pub(super) fn parsed<T>(
        &self,
        findings: &mut Findings<'_>,
        parse: impl FnOnce(&str) -> Result<T, (String, String)>,
    ) -> Option<T> {
        match parse(self.text(findings)?) {
            Ok(parsed) => Some(parsed),
            Err((problem, remedy)) => {
                self.wrong(findings, problem, remedy);
                None
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn number(&self, findings: &mut Findings<'_>, least: u64, most: u64) -> Option<u64> {
        let Some(number) = self.value.as_integer() else {
            self.wrong(
                findings,
                self.is_a("a whole number"),
                format!("write a number from {least} to {most}, without quotes"),
            );
            return None;
        };
        let parsed = u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok();
        let parsed = parsed.filter(|parsed| (least..=most).contains(parsed));
        if parsed.is_none() {
            let problem = format!("is {number}");
            self.wrong(findings, problem, format!("it can be {least} to {most}"));
        }
        parsed
    }

    /// The parts of a list.
    pub(super) fn list(&self, findings: &mut Findings<'_>) -> Option<Vec<Self>> {
        let Some(list) = self.value.as_array() else {
            self.wrong(findings, self.is_a("a list"), "write it in brackets: [ , ]");
            return None;
        };
        Some(list.iter().map(|part| self.part(&self.key, part)).collect())
    }

    /// The value as a table.
    pub(super) fn section(
        &self,
        findings: &mut Findings<'_>,
        what: &'static str,
    ) -> Option<Section<'a>> {
        let Some(table) = self.value.as_table() else {
            let example = "write it in braces: { key = value }";
            self.wrong(findings, self.is_a("a table"), example);
            return None;
        };
        Some(Section::new(what, self.at.clone(), table))
    }

    /// The keys and values of a table whose keys are names, in the order written.
    pub(super) fn entries(&self, findings: &mut Findings<'_>) -> Option<Vec<Self>> {
        let Some(table) = self.value.as_table() else {
            let example = "write it in braces: { name = value }";
            self.wrong(findings, self.is_a("a table"), example);
            return None;
        };
        let mut entries: Vec<(usize, Self)> = table
            .iter()
            .map(|(key, value)| (key.span().start, self.part(key.get_ref(), value)))
            .collect();
        entries.sort_by_key(|(start, _)| *start);
        Some(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    /// A text or a number as text, for settings of the kernel.
    pub(super) fn scalar(&self, findings: &mut Findings<'_>) -> Option<String> {
        match self.value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => Some(number.to_string()),
            _ => {
                self.wrong(
                    findings,
                    self.is_a("a number or a text"),
                    "write one of these",
                );
                None
            }
        }
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    fn part(&self, key: &str, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self {
            key: key.to_owned(),
            at: value.span(),
            value: value.get_ref(),
        }
    }

    fn is_a(&self, wanted: &str) -> String {
        format!("is {}, not {wanted}", kind(self.value))
    }
}

/// The kind of a value in words.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// How many letters must be changed, added or left out to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut left = line + 1;
        let mut diagonal = line;
        for (column, same) in other.iter().enumerate() {
            let above = row.get(column + 1).copied().unwrap_or(0);
            let best = (diagonal + usize::from(letter != *same))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            if let Some(cell) = row.get_mut(column) {
                *cell = left;
            }
            left = best;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn words_are_as_far_apart_as_letters_must_change() {
        assert_eq!(distance("adress", "address"), 1);
        assert_eq!(distance("gatewya", "gateway"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
