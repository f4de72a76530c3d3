//! `ipvsadm-save` and `ipvsadm-restore`: what the two shell scripts around ipvsadm do.

use std::io::{self, BufRead};

use super::{Director, Names, Output, RestoreMode, run, run::Run};
use crate::operation::Operation;

/// `ipvsadm-save [-n]`, and our `--all`; `args[0]` is the name it was called by. Other words are ignored.
pub fn run_save_script(args: &[String], names: &dyn Names, director: &mut dyn Director) -> Output {
    let words = args.get(1..).unwrap_or_default();
    if words
        .iter()
        .any(|word| word.starts_with('-') && word != "-n" && word != "--all")
    {
        let called = args.first().map_or("ipvsadm-save", String::as_str);
        let name = called.rsplit('/').next().unwrap_or(called);
        return Output {
            stdout: String::new(),
            stderr: format!(
                "{name}: Script to save the IPVS table to stdout.\n   \
                 With the -n option, prints out the table in numeric format.\n"
            ),
            code: 1,
        };
    }
    let mut line = vec!["ipvsadm".to_owned(), "-S".to_owned()];
    line.extend(words.iter().filter(|word| word.starts_with('-')).cloned());
    line.dedup();
    run(&line, &mut io::empty(), names, director)
}

/// `ipvsadm-restore`: drops lines that begin with `#`, clears the table, restores.
///
/// The script takes no options: whatever is on the command line is ignored, but for our `--atomic`.
pub fn run_restore_script(
    args: &[String],
    stdin: &mut dyn BufRead,
    names: &dyn Names,
    director: &mut dyn Director,
) -> Output {
    let mut run = Run::new("ipvsadm", names, director);
    let mut input = Vec::new();
    if let Err(error) = stdin.read_to_end(&mut input) {
        run.fail(
            &format!("ipvsadm-restore: cannot read standard input: {error}"),
            2,
        );
        return run.output;
    }
    let input = String::from_utf8_lossy(&input);
    let atomic = args.iter().skip(1).any(|word| word == "--atomic");
    if atomic || run.director.restore_mode() == RestoreMode::Atomic {
        run.restore_atomically(&input, true);
    } else {
        let rules = input.split('\n').filter(|line| !line.starts_with('#'));
        run.restore_lines(rules, vec![Operation::Flush]);
    }
    run.output
}
