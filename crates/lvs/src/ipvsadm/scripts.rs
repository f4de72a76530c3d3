//! `ipvsadm-save` and `ipvsadm-restore`: what the two shell scripts around ipvsadm do.

use std::io::BufRead;

use super::{Director, Names, Output, run};

/// `ipvsadm-save [-n]`; `args[0]` is the name it was called by. Other words are ignored.
pub fn run_save_script(args: &[String], names: &dyn Names, director: &mut dyn Director) -> Output {
    let words = args.get(1..).unwrap_or_default();
    if words
        .iter()
        .any(|word| word.starts_with('-') && word != "-n")
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
    let numeric = words.iter().any(|word| word == "-n");
    let line = if numeric {
        &["ipvsadm", "-S", "-n"][..]
    } else {
        &["ipvsadm", "-S"][..]
    };
    ipvsadm(line, b"", names, director)
}

/// `ipvsadm-restore`: drops lines that begin with `#`, clears the table, restores.
///
/// It takes no options: whatever is on the command line is ignored.
pub fn run_restore_script(
    stdin: &mut dyn BufRead,
    names: &dyn Names,
    director: &mut dyn Director,
) -> Output {
    let mut input = Vec::new();
    if let Err(error) = stdin.read_to_end(&mut input) {
        return Output {
            stdout: String::new(),
            stderr: format!("ipvsadm-restore: cannot read standard input: {error}\n"),
            code: 2,
        };
    }
    let rules: Vec<&[u8]> = input
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.starts_with(b"#"))
        .collect();

    let mut cleared = ipvsadm(&["ipvsadm", "-C"], b"", names, director);
    let restored = ipvsadm(&["ipvsadm", "-R"], &rules.join(&b'\n'), names, director);
    cleared.stdout.push_str(&restored.stdout);
    cleared.stderr.push_str(&restored.stderr);
    cleared.code = restored.code;
    cleared
}

fn ipvsadm(
    line: &[&str],
    mut stdin: &[u8],
    names: &dyn Names,
    director: &mut dyn Director,
) -> Output {
    let args: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    run(&args, &mut stdin, names, director)
}
