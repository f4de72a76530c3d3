//! ipvsadm, by name or as a subcommand: its language is in `lvs`, its director behind the control socket.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use furiwake_lvs::{
    ipvsadm::{self, Director, DirectorError},
    operation::{Operation, OperationError},
    view::{ConnectionView, View},
};

use crate::{
    cli::name_called_by,
    client::{self, Client, Socket},
    daemon::operate::Outcome,
    names::HostNames,
};

/// The ipvsadm command line that we were called for, if we were called by one of its names.
pub(crate) fn called_by_name(arguments: &[OsString]) -> Option<Vec<String>> {
    let rest = arguments.get(1..)?;
    match name_called_by(arguments)? {
        "ipvsadm" => Some(command(rest)),
        // Of the real ones these are scripts that call ipvsadm.
        "ipvsadm-save" => Some(command_with("-S", rest)),
        "ipvsadm-restore" => Some(command_with("-R", rest)),
        _ => None,
    }
}

/// The command line of ipvsadm with these arguments.
pub(crate) fn command(arguments: &[OsString]) -> Vec<String> {
    let arguments = arguments
        .iter()
        .map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once("ipvsadm".to_owned())
        .chain(arguments)
        .collect()
}

/// Run a command line and print what it says.
pub(crate) fn run(command: &[String]) -> ExitCode {
    let mut director = Remote {
        client: Client::new(Socket::from_environment()),
    };
    let mut stdin = io::stdin().lock();
    let output = ipvsadm::run(command, &mut stdin, &HostNames::default(), &mut director);
    // What cannot be written nobody reads.
    let _ = io::stdout().write_all(output.stdout.as_bytes());
    let _ = io::stdout().flush();
    let _ = io::stderr().write_all(output.stderr.as_bytes());
    ExitCode::from(output.code)
}

fn command_with(option: &str, arguments: &[OsString]) -> Vec<String> {
    let mut command = command(arguments);
    command.insert(1, option.to_owned());
    command
}

/// The director behind the control socket.
struct Remote {
    client: Client,
}

impl Remote {
    fn try_all(&self, operations: &[Operation]) -> Result<Vec<Outcome>, DirectorError> {
        let outcomes: Vec<Outcome> = self
            .client
            .post("/api/v1/operations", &operations)
            .map_err(|error| unavailable(&error))?;
        if outcomes.len() == operations.len() {
            Ok(outcomes)
        } else {
            Err(DirectorError::Unavailable(
                "the director's answer is incomplete".into(),
            ))
        }
    }
}

impl Director for Remote {
    fn view(&mut self) -> Result<View, DirectorError> {
        self.client
            .get("/api/v1/view")
            .map_err(|error| unavailable(&error))
    }

    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
        self.client
            .get("/api/v1/connections")
            .map_err(|error| unavailable(&error))
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), DirectorError> {
        let mut results = self.apply_all(std::slice::from_ref(operation));
        results.pop().unwrap_or(Ok(()))
    }

    fn apply_all(&mut self, operations: &[Operation]) -> Vec<Result<(), DirectorError>> {
        match self.try_all(operations) {
            Ok(outcomes) => outcomes.into_iter().map(result).collect(),
            Err(error) => vec![Err(error); operations.len()],
        }
    }
}

fn result(outcome: Outcome) -> Result<(), DirectorError> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Refused(error) => Err(error.into()),
    }
}

/// In the shape of ipvsadm's own complaint about a missing kernel module.
fn unavailable(error: &client::Error) -> DirectorError {
    match error {
        client::Error::NoDirector { absent: false, .. } => {
            DirectorError::Refused(OperationError::NotPermitted)
        }
        client::Error::NoDirector { .. } => DirectorError::Unavailable(format!(
            "Can't initialize ipvs: {error}\nIs a director running? Start one with `furiwake run`, or \
             name its socket by FURIWAKE_SOCKET."
        )),
        _ => DirectorError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(line: &[&str]) -> Option<Vec<String>> {
        called_by_name(&line.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_name_decides_what_runs() {
        assert_eq!(
            called(&["/sbin/ipvsadm", "-Ln"]).expect("is one"),
            ["ipvsadm", "-Ln"]
        );
        assert_eq!(
            called(&["ipvsadm-save", "-n"]).expect("is one"),
            ["ipvsadm", "-S", "-n"]
        );
        assert_eq!(
            called(&["./ipvsadm-restore"]).expect("is one"),
            ["ipvsadm", "-R"]
        );
        assert_eq!(called(&["/usr/bin/furiwake", "ipvsadm"]), None);
        assert_eq!(called(&[]), None);
    }
}
