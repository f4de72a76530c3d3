//! Jobs of the repository, called as `cargo xtask JOB`.

mod bench;
mod kernel_object;
mod stable_metadata;
mod strip;
mod toolchain;

use std::process::ExitCode;

use kernel_object::{Outcome, Workspace};

const USAGE: &str = "\
usage: cargo xtask JOB

jobs
  bpf           build the kernel object and put it where the daemon embeds it
  bpf --check   build it and compare with the committed one; exit status 1 if they differ
  bench         measure the director next to what people use instead; bench --help tells more";

fn main() -> ExitCode {
    if stable_metadata::called_by_cargo() {
        return stable_metadata::run();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["bench", words @ ..] = words.as_slice() {
        return Workspace::find()
            .and_then(|workspace| bench::run(words, &workspace))
            .unwrap_or_else(|error| fail(&error));
    }
    let result = match words.as_slice() {
        ["bpf"] => Workspace::find().and_then(|workspace| workspace.update()),
        ["bpf", "--check"] => Workspace::find().and_then(|workspace| workspace.check()),
        ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        [] => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
        _ => {
            eprintln!("xtask: unknown job `{}`\n\n{USAGE}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(Outcome::Fine(message)) => {
            println!("{message}");
            ExitCode::SUCCESS
        }
        Ok(Outcome::Stale(message)) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("xtask: {error:#}");
    ExitCode::FAILURE
}
