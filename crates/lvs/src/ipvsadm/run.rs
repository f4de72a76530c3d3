//! Carrying out a command against a [`Director`].

use std::io::BufRead;

use super::{
    Director, DirectorError, Names, Output,
    command::{Command, ListOptions, Subject, try_help},
    failure_for, list, list_connections, list_daemons, list_timeouts, parse, save, save_all, usage,
};
use crate::operation::OperationError;

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
    let program = args.first().map_or("ipvsadm", String::as_str);
    let mut run = Run::new(program, names, director);
    match parse(args, names) {
        Ok(Command::Restore { atomic }) => run.restore(stdin, atomic),
        Ok(command) => run.command(&command),
        Err(failure) => run.fail(&failure.text, failure.code),
    }
    run.output
}

/// Whether a restore goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    GoOn,
    Stop,
}

pub(super) struct Run<'a> {
    pub(super) program: &'a str,
    pub(super) names: &'a dyn Names,
    pub(super) director: &'a mut dyn Director,
    pub(super) output: Output,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        program: &'a str,
        names: &'a dyn Names,
        director: &'a mut dyn Director,
    ) -> Self {
        Self {
            program,
            names,
            director,
            output: Output::default(),
        }
    }

    pub(super) fn command(&mut self, command: &Command) {
        let result = match command {
            Command::Change(operation) => self.director.apply(operation),
            Command::List(options) => self.list(options),
            Command::Save { numeric, all } => self.save(*numeric, *all),
            Command::Help => {
                self.output.stdout.push_str(&usage::usage(self.program));
                Ok(())
            }
            Command::Version => {
                self.output.stdout.push_str(usage::VERSION);
                Ok(())
            }
            // Only reached within a restore: one does not hold another.
            Command::Restore { .. } => {
                let failure = try_help(self.program);
                self.fail(&failure.text, failure.code);
                return;
            }
        };
        self.settle(command, result);
    }

    pub(super) fn list(&mut self, options: &ListOptions) -> Result<(), DirectorError> {
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

    fn save(&mut self, numeric: bool, all: bool) -> Result<(), DirectorError> {
        let view = self.director.view()?;
        let text = if all {
            save_all(&view, numeric, self.names)
        } else {
            save(&view, numeric, self.names)
        };
        self.output.stdout.push_str(&text);
        Ok(())
    }

    /// Print what a command came to. The exit code is that of the last one.
    pub(super) fn settle(&mut self, command: &Command, result: Result<(), DirectorError>) -> After {
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

    pub(super) fn fail(&mut self, text: &str, code: u8) {
        self.output.stderr.push_str(text);
        self.output.stderr.push('\n');
        self.output.code = code;
    }
}
