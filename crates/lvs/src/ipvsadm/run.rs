//! Carrying out a command against a [`Director`].

use std::io::BufRead;

use super::{
    Director, DirectorError, Names, Output,
    command::{Command, ListOptions, Subject, try_help},
    failure_for, list, list_connections, list_daemons, list_timeouts, parse, save, usage,
};
use crate::operation::{Operation, OperationError};

/// Run one command line.
///
/// `args` is the whole of it: `args[0]` is the name that messages show, usually `ipvsadm`. `stdin` is
/// read by `-R` only.
pub fn run(
    args: &[String],
    stdin: &mut dyn BufRead,
    names: &dyn Names,
    director: &mut dyn Director,
) -> Output {
    let mut run = Run {
        program: args.first().map_or("ipvsadm", String::as_str),
        names,
        director,
        output: Output::default(),
    };
    match parse(args, names) {
        Ok(Command::Restore) => run.restore(stdin),
        Ok(command) => run.command(&command),
        Err(failure) => run.fail(&failure.text, failure.code),
    }
    run.output
}

/// Whether a restore goes on.
#[derive(PartialEq)]
enum After {
    GoOn,
    Stop,
}

struct Run<'a> {
    program: &'a str,
    names: &'a dyn Names,
    director: &'a mut dyn Director,
    output: Output,
}

impl Run<'_> {
    fn command(&mut self, command: &Command) {
        let result = match command {
            Command::Change(operation) => self.director.apply(operation),
            Command::List(options) => self.list(options),
            Command::Save { numeric } => self.save(*numeric),
            Command::Help => {
                self.output.stdout.push_str(&usage::usage(self.program));
                Ok(())
            }
            Command::Version => {
                self.output.stdout.push_str(usage::VERSION);
                Ok(())
            }
            // Only reached within a restore: one does not hold another.
            Command::Restore => {
                let failure = try_help(self.program);
                self.fail(&failure.text, failure.code);
                return;
            }
        };
        self.settle(command, result);
    }

    fn list(&mut self, options: &ListOptions) -> Result<(), DirectorError> {
        let text = match options.subject {
            Subject::Services | Subject::Service(_) => {
                list(&self.director.view()?, options, self.names)
                    .ok_or(OperationError::NoSuchService)?
            }
            Subject::Connections => {
                list_connections(&self.director.connections()?, options, self.names)
            }
            Subject::Timeouts => list_timeouts(&self.director.view()?.timeouts),
            Subject::Daemons => list_daemons(&self.director.view()?.sync_daemons),
        };
        self.output.stdout.push_str(&text);
        Ok(())
    }

    fn save(&mut self, numeric: bool) -> Result<(), DirectorError> {
        let text = save(&self.director.view()?, numeric, self.names);
        self.output.stdout.push_str(&text);
        Ok(())
    }

    /// Print what a command came to. The exit code is that of the last one.
    fn settle(&mut self, command: &Command, result: Result<(), DirectorError>) -> After {
        match result {
            Ok(()) => {
                self.output.code = 0;
                After::GoOn
            }
            Err(DirectorError::Refused(error)) => {
                let (text, code) = failure_for(command, &error);
                self.fail(&text, code);
                // A list ends the process itself when it fails, everything else goes on.
                if matches!(command, Command::List(_)) {
                    After::Stop
                } else {
                    After::GoOn
                }
            }
            Err(DirectorError::Unavailable(text)) => {
                self.fail(&text, 2);
                After::Stop
            }
        }
    }

    fn fail(&mut self, text: &str, code: u8) {
        self.output.stderr.push_str(text);
        self.output.stderr.push('\n');
        self.output.code = code;
    }

    /// `-R`: a command per line. Operations are collected until something needs their effect.
    fn restore(&mut self, stdin: &mut dyn BufRead) {
        let mut input = Vec::new();
        if let Err(error) = stdin.read_to_end(&mut input) {
            self.fail(
                &format!("{}: cannot read standard input: {error}", self.program),
                2,
            );
            return;
        }
        let input = String::from_utf8_lossy(&input);
        let mut waiting = Vec::new();
        for line in input.split('\n') {
            if self.restore_line(line, &mut waiting) == After::Stop {
                return;
            }
        }
        self.flush(&mut waiting);
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
            Ok(command @ (Command::Help | Command::Version | Command::Restore)) => {
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
