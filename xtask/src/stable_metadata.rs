//! A `rustc` wrapper that makes symbol names the same in every checkout.
//!
//! Cargo derives `-C metadata` from the absolute folder of a path dependency, and rustc hashes it into every
//! mangled name: the object's symbol table would tell in which folder it was built. Cargo calls this program
//! in rustc's place (`RUSTC_WRAPPER`); for the BPF target it replaces the value by crate name and version.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The target whose crates get stable names.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Set by the job `bpf`, to tell a call by cargo from a call by a person.
pub(crate) const MARK: &str = "FURIWAKE_XTASK_WRAPS_RUSTC";

/// Whether cargo started us as its rustc wrapper.
pub(crate) fn called_by_cargo() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Becomes the compiler named by the first argument.
pub(crate) fn run() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(rustc) = arguments.next() else {
        eprintln!("xtask: {MARK} is set, but no compiler was named");
        return ExitCode::from(2);
    };
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let arguments = with_stable_metadata(arguments.collect(), &version);
    let error = Command::new(&rustc).args(arguments).env_remove(MARK).exec();
    eprintln!("xtask: cannot start {}: {error}", rustc.display());
    ExitCode::FAILURE
}

fn with_stable_metadata(mut arguments: Vec<OsString>, version: &str) -> Vec<OsString> {
    let value_of = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments
            .get(at + 1)
            .and_then(|value| value.to_str())
            .map(String::from)
    };
    let (Some(name), Some(target)) = (value_of("--crate-name"), value_of("--target")) else {
        return arguments;
    };
    if target != TARGET {
        return arguments;
    }
    for argument in &mut arguments {
        if argument
            .to_str()
            .is_some_and(|text| text.starts_with("metadata="))
        {
            *argument = format!("metadata={name}-{version}").into();
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn metadata_of_a_bpf_crate_names_crate_and_version_only() {
        let call = "--crate-name engine --target bpfel-unknown-none -C metadata=0123abcd -C extra-filename=-0123abcd";
        let expected = "--crate-name engine --target bpfel-unknown-none -C metadata=engine-0.1.0 -C extra-filename=-0123abcd";
        assert_eq!(with_stable_metadata(words(call), "0.1.0"), words(expected));
    }

    #[test]
    fn build_scripts_and_version_queries_are_left_alone() {
        for call in [
            "--crate-name build_script_build -C metadata=0123abcd",
            "-vV",
        ] {
            assert_eq!(with_stable_metadata(words(call), "0.1.0"), words(call));
        }
    }
}
