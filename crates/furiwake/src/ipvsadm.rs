//! ipvsadm, by name or as a subcommand: its language is in `lvs`, its director behind the control socket.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use furiwake_lvs::{
    ipvsadm::{self, Director, DirectorError, RestoreMode},
    operation::{Operation, OperationError},
    view::{ConnectionView, View},
};

use crate::{
    api::problem::Problem,
    cli::name_called_by,
    client::{self, Client, Socket},
    daemon::operate::Outcome,
    names::HostNames,
};

/// A command of the family, with the whole of its command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `ipvsadm`.
    Ipvsadm(Vec<String>),
    /// `ipvsadm-save`.
    Save(Vec<String>),
    /// `ipvsadm-restore`.
    Restore(Vec<String>),
}

impl Command {
    /// The command that we were called by the name of, if we were.
    pub(crate) fn called_by_name(line: &[OsString]) -> Option<Self> {
        match name_called_by(line)? {
            "ipvsadm" => Some(Self::ipvsadm(line.get(1..)?)),
            "ipvsadm-save" => Some(Self::Save(words(line))),
            "ipvsadm-restore" => Some(Self::Restore(words(line))),
            _ => None,
        }
    }

    /// `ipvsadm` with these arguments. Its messages call it by the short name, however it was called.
    pub(crate) fn ipvsadm(arguments: &[OsString]) -> Self {
        let mut line = vec!["ipvsadm".to_owned()];
        line.extend(words(arguments));
        Self::Ipvsadm(line)
    }

    /// Run it and print what it says.
    pub(crate) fn run(&self) -> ExitCode {
        let director = Remote {
            client: Client::new(Socket::from_environment()),
            restore_mode: restore_mode(std::env::var_os(RESTORE_MODE)),
        };
        self.run_with(&mut io::stdin().lock(), director)
    }

    fn run_with(&self, stdin: &mut dyn BufRead, mut director: Remote) -> ExitCode {
        let names = HostNames::default();
        let output = match self {
            Self::Ipvsadm(line) => ipvsadm::run(line, stdin, &names, &mut director),
            Self::Save(line) => ipvsadm::run_save_script(line, &names, &mut director),
            Self::Restore(line) => ipvsadm::run_restore_script(line, stdin, &names, &mut director),
        };
        // What cannot be written nobody reads.
        let _ = io::stdout().write_all(output.stdout.as_bytes());
        let _ = io::stdout().flush();
        let _ = io::stderr().write_all(output.stderr.as_bytes());
        ExitCode::from(output.code)
    }
}

/// `furiwake restore`: ipvsadm-restore as one transaction.
pub(crate) fn restore(socket: Socket, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let director = Remote {
        client: Client::new(socket),
        restore_mode: RestoreMode::Atomic,
    };
    let command = Command::Restore(vec!["ipvsadm-restore".to_owned()]);
    Ok(match file {
        Some(path) => {
            let file =
                File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            command.run_with(&mut BufReader::new(file), director)
        }
        None => command.run_with(&mut io::stdin().lock(), director),
    })
}

fn words(arguments: &[OsString]) -> Vec<String> {
    let words = arguments.iter();
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// The director behind the control socket.
struct Remote {
    client: Client,
    restore_mode: RestoreMode,
}

/// The variable that says how to restore: `atomic`, or else as ipvsadm does.
const RESTORE_MODE: &str = "FURIWAKE_RESTORE";

fn restore_mode(wish: Option<OsString>) -> RestoreMode {
    if wish.is_some_and(|wish| wish == "atomic") {
        RestoreMode::Atomic
    } else {
        RestoreMode::Compatible
    }
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

    fn apply_atomically(&mut self, operations: &[Operation]) -> Result<(), (usize, DirectorError)> {
        let done: Result<Vec<Outcome>, client::Error> = self
            .client
            .post("/api/v1/operations?atomic=true", &operations);
        match done {
            Ok(_) => Ok(()),
            Err(client::Error::Refused(Problem {
                index: Some(index),
                error: Some(error),
                ..
            })) if index < operations.len() => Err((index, error.into())),
            Err(error) => Err((0, unavailable(&error))),
        }
    }

    fn restore_mode(&self) -> RestoreMode {
        self.restore_mode
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
    use crate::daemon::{fake::FakePlane, rig::Rig};

    fn called(line: &[&str]) -> Option<Command> {
        Command::called_by_name(&line.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_name_decides_what_runs() {
        let ipvsadm = Command::Ipvsadm(vec!["ipvsadm".into(), "-Ln".into()]);
        assert_eq!(called(&["/sbin/ipvsadm", "-Ln"]), Some(ipvsadm));
        let save = Command::Save(vec!["ipvsadm-save".into(), "-n".into()]);
        assert_eq!(called(&["ipvsadm-save", "-n"]), Some(save));
        let restore = Command::Restore(vec!["./ipvsadm-restore".into()]);
        assert_eq!(called(&["./ipvsadm-restore"]), Some(restore));
        assert_eq!(called(&["/usr/bin/furiwake", "ipvsadm"]), None);
        assert_eq!(called(&[]), None);
    }

    /// Type lines at a director; what they print.
    fn typed(director: &mut Remote, lines: &[&str]) -> String {
        let mut printed = String::new();
        for line in lines {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let output = ipvsadm::run(&words, &mut io::empty(), &ipvsadm::NoNames, director);
            printed.push_str(&output.stdout);
            printed.push_str(&output.stderr);
        }
        printed
    }

    #[test]
    fn the_exercise_can_be_typed_at_a_director() {
        let rig = Rig::start(FakePlane::default());
        let mut director = Remote {
            client: Client::new(Socket {
                path: rig.socket.clone(),
            }),
            restore_mode: RestoreMode::Compatible,
        };
        let printed = typed(
            &mut director,
            &[
                "ipvsadm -A -t 192.168.56.50:80 -s rr",
                "ipvsadm -A -t 192.168.56.50:80 -s rr",
                "ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.10 -m",
                "ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.20 -m",
                "ipvsadm -ln",
            ],
        );
        assert_eq!(
            printed,
            "\
Service already exists
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.56.50:80 rr
  -> 10.0.0.10:80                 Masq    1      1          2         
  -> 10.0.0.20:80                 Masq    1      1          2         
"
        );
    }

    #[test]
    fn a_restore_in_one_transaction_names_the_line_that_the_director_refuses() {
        let plane = FakePlane::default();
        let rig = Rig::start(plane.clone());
        let mut director = Remote {
            client: Client::new(Socket {
                path: rig.socket.clone(),
            }),
            restore_mode: restore_mode(Some("atomic".into())),
        };
        let mut restore = |rules: &str| {
            let output = ipvsadm::run_restore_script(
                &[],
                &mut rules.as_bytes(),
                &ipvsadm::NoNames,
                &mut director,
            );
            (output.stderr, output.code)
        };
        let rules = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.9 -m\n";
        assert_eq!(restore(rules), (String::new(), 0));
        let table = plane.state().table.clone();

        let (text, code) = restore("-A -t 10.0.0.1:80\n-A -t [fd00::1]:80\n");
        assert_eq!(
            text,
            "line 2: -A -t [fd00::1]:80: This build of furiwake cannot do this yet: IPv6 services; \
             nothing was changed\n"
        );
        assert_eq!(code, 255);
        assert_eq!(plane.state().table, table);
        rig.stop();
    }
}
