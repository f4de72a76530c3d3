//! `-R`: a command per line, as ipvsadm does it, or all of them as one transaction.
//!
//! ipvsadm carries out each line by itself, goes on after what the kernel refuses and stops at what it does
//! not understand. So does this, though it hands over many lines at once. The transaction is ours.

use std::io::BufRead;

use super::{
    Command, DirectorError, RestoreMode, failure_for, parse,
    run::{After, Run},
};
use crate::operation::Operation;

impl Run<'_> {
    /// Read lines and carry them out.
    pub(super) fn restore(&mut self, stdin: &mut dyn BufRead, atomic: bool) {
        let mut input = Vec::new();
        if let Err(error) = stdin.read_to_end(&mut input) {
            let text = format!("{}: cannot read standard input: {error}", self.program);
            self.fail(&text, 2);
            return;
        }
        let input = String::from_utf8_lossy(&input);
        if atomic || self.director.restore_mode() == RestoreMode::Atomic {
            self.restore_atomically(&input, false);
        } else {
            self.restore_lines(input.split('\n'), Vec::new());
        }
    }

    /// As ipvsadm does it. Operations wait, behind those that are `waiting` already, until something needs
    /// their effect.
    pub(super) fn restore_lines<'l>(
        &mut self,
        lines: impl Iterator<Item = &'l str>,
        mut waiting: Vec<Operation>,
    ) {
        for line in lines {
            if self.restore_line(line, &mut waiting) == After::Stop {
                return;
            }
        }
        self.flush(&mut waiting);
    }

    /// All lines or none, instead of what is there or in addition to it. Empty lines and those that begin with
    /// `#` mean nothing; every other one must change something.
    pub(super) fn restore_atomically(&mut self, input: &str, instead: bool) {
        let mut operations = Vec::new();
        let mut lines = Vec::new();
        for (index, line) in input.split('\n').enumerate() {
            let args = self.words(line);
            if args.len() < 2 || line.starts_with('#') {
                continue;
            }
            match parse(&args, self.names) {
                Ok(Command::Change(operation)) => {
                    operations.push(operation);
                    lines.push((index + 1, line));
                }
                Ok(_) => {
                    let problem =
                        "a restore in one transaction takes only lines that change something";
                    return self.refuse(index + 1, line, problem, 2);
                }
                Err(failure) => return self.refuse(index + 1, line, &failure.text, failure.code),
            }
        }
        let cleared = match instead.then(|| self.clearing(&operations)).transpose() {
            Ok(clearing) => clearing.unwrap_or_default(),
            Err(error) => return self.fail(&error.to_string(), 2),
        };
        let before = cleared.len();
        operations.splice(0..0, cleared);
        let (index, error) = match self.director.apply_atomically(&operations) {
            Ok(()) => return,
            Err((_, DirectorError::Unavailable(text))) => return self.fail(&text, 2),
            Err((index, DirectorError::Refused(error))) => (index, error),
        };
        let operation = operations
            .into_iter()
            .nth(index)
            .unwrap_or(Operation::Flush);
        let (text, code) = failure_for(&Command::Change(operation), &error);
        match index.checked_sub(before).and_then(|at| lines.get(at)) {
            Some((number, line)) => self.refuse(*number, line, &text, code),
            None => self.fail(&text, code),
        }
    }

    /// What makes room for these operations: no service, and no sync daemon that they start.
    fn clearing(&mut self, operations: &[Operation]) -> Result<Vec<Operation>, DirectorError> {
        let mut clearing = vec![Operation::Flush];
        let starts = |operation: &Operation| matches!(operation, Operation::StartSyncDaemon(_));
        if operations.iter().any(starts) {
            let running = self.director.view()?.sync_daemons;
            let stops = running
                .iter()
                .map(|daemon| Operation::StopSyncDaemon(daemon.role));
            clearing.extend(stops);
        }
        Ok(clearing)
    }

    fn refuse(&mut self, number: usize, line: &str, problem: &str, code: u8) {
        let text = format!(
            "line {number}: {}: {}; nothing was changed",
            line.trim(),
            problem.trim_end()
        );
        self.fail(&text, code);
    }

    fn restore_line(&mut self, line: &str, waiting: &mut Vec<Operation>) -> After {
        let args = self.words(line);
        if args.len() < 2 {
            return After::GoOn;
        }
        let command = match parse(&args, self.names) {
            Ok(Command::Change(operation)) => {
                waiting.push(operation);
                return After::GoOn;
            }
            other => other,
        };
        // An answer of the director may say that the rest is pointless.
        if self.flush(waiting) == After::Stop {
            return After::Stop;
        }
        match command {
            Ok(command @ (Command::Help | Command::Version | Command::Restore { .. })) => {
                self.command(&command);
                After::Stop
            }
            Ok(Command::List(options)) => {
                let result = self.list(&options);
                self.settle(&Command::List(options), result)
            }
            Ok(command) => {
                self.command(&command);
                After::GoOn
            }
            Err(failure) => {
                self.fail(&failure.text, failure.code);
                if failure.stops_restore {
                    After::Stop
                } else {
                    After::GoOn
                }
            }
        }
    }

    /// Words of a line, the name of the program in front. The word `ipvsadm` is left out wherever it
    /// stands; quotes, backslashes and `#` mean nothing. A zero byte ends a word early.
    fn words(&self, line: &str) -> Vec<String> {
        let words = line
            .split([' ', '\t', '\r'])
            .filter(|word| !word.is_empty())
            .map(|word| word.split('\0').next().unwrap_or_default())
            .filter(|word| *word != "ipvsadm");
        std::iter::once(self.program)
            .chain(words)
            .map(str::to_owned)
            .collect()
    }

    fn flush(&mut self, waiting: &mut Vec<Operation>) -> After {
        if waiting.is_empty() {
            return After::GoOn;
        }
        let operations = std::mem::take(waiting);
        let results = self.director.apply_all(&operations);
        for (operation, result) in operations.into_iter().zip(results) {
            if self.settle(&Command::Change(operation), result) == After::Stop {
                return After::Stop;
            }
        }
        After::GoOn
    }
}
