//! How popt splits a command line into options, as far as ipvsadm uses it (`poptGetNextOpt`).
//!
//! Options and other words may come in any order; letters may be bundled; a value may be the rest of
//! the word, with or without `=`, or the next word. Nothing may be abbreviated.

use std::collections::VecDeque;

use super::options::{Action, OPTIONS, Spec, Value};

/// A command line being taken apart.
pub(super) struct Popt<'a> {
    words: &'a [String],
    next: usize,
    /// Rest of a word of bundled letters.
    bundle: Option<&'a str>,
    /// After `--` nothing is an option.
    only_words: bool,
    others: VecDeque<&'a str>,
}

/// An option that was found, and its value.
pub(super) type Found<'a> = (Action, Option<&'a str>);

/// What popt itself complains about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Unknown,
    MissingArgument,
    UnwantedArgument,
}

impl Fault {
    /// `poptStrerror`.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "unknown option",
            Self::MissingArgument => "missing argument",
            Self::UnwantedArgument => "option does not take an argument",
        }
    }
}

impl<'a> Popt<'a> {
    /// Take apart these words, the program's name not among them.
    pub(super) fn new(words: &'a [String]) -> Self {
        Self {
            words,
            next: 0,
            bundle: None,
            only_words: false,
            others: VecDeque::new(),
        }
    }

    /// The next option; `None` at the end.
    pub(super) fn next_option(&mut self) -> Result<Option<Found<'a>>, Fault> {
        loop {
            if let Some(bundle) = self.bundle.take() {
                return self.short(bundle).map(Some);
            }
            let Some(word) = self.take_word() else {
                return Ok(None);
            };
            if self.only_words || word == "-" || !word.starts_with('-') {
                self.others.push_back(word);
            } else if word == "--" {
                self.only_words = true;
            } else if let Some(long) = word.strip_prefix("--") {
                return self.long(long).map(Some);
            } else {
                self.bundle = Some(&word[1..]);
            }
        }
    }

    /// The next word that is no option; to be asked when the options have come to an end.
    pub(super) fn next_word(&mut self) -> Option<&'a str> {
        self.others.pop_front()
    }

    /// The word that was read last: popt blames it for whatever is wrong.
    pub(super) fn last_word(&self) -> &'a str {
        self.next
            .checked_sub(1)
            .and_then(|last| self.words.get(last))
            .map_or("", String::as_str)
    }

    fn take_word(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    fn long(&mut self, text: &'a str) -> Result<Found<'a>, Fault> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let spec = OPTIONS
            .iter()
            .find(|spec| spec.long == name)
            .ok_or(Fault::Unknown)?;
        self.finish(spec, value)
    }

    fn short(&mut self, bundle: &'a str) -> Result<Found<'a>, Fault> {
        let mut letters = bundle.chars();
        let letter = letters.next().ok_or(Fault::Unknown)?;
        let rest = letters.as_str();
        let spec = OPTIONS
            .iter()
            .find(|spec| spec.shorts.contains(letter))
            .ok_or(Fault::Unknown)?;

        if let Some(value) = rest.strip_prefix('=') {
            self.finish(spec, Some(value))
        } else if rest.is_empty() {
            self.finish(spec, None)
        } else if spec.value == Value::No {
            self.bundle = Some(rest);
            Ok((spec.action, None))
        } else {
            self.finish(spec, Some(rest))
        }
    }

    /// Find the value of an option that has `attached` in its own word.
    fn finish(&mut self, spec: &Spec, attached: Option<&'a str>) -> Result<Found<'a>, Fault> {
        let value = match (spec.value, attached) {
            (Value::No, None) => None,
            (Value::No, Some(_)) => return Err(Fault::UnwantedArgument),
            (_, Some(value)) => Some(value),
            (Value::Yes, None) => Some(self.take_word().ok_or(Fault::MissingArgument)?),
            (Value::Maybe, None) => {
                let follows = self
                    .words
                    .get(self.next)
                    .is_some_and(|word| !word.starts_with('-'));
                if follows { self.take_word() } else { None }
            }
        };
        Ok((spec.action, value))
    }
}
