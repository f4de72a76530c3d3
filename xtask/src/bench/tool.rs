//! The programs of others that a benchmark uses: named when missing, run with what they say kept.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// A program and the Debian package that has it.
pub(crate) type Tool = (&'static str, &'static str);

/// Refuses, with the command to type, when one of these is missing.
pub(crate) fn require(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&Tool> = tools
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    bail!(
        "the benchmarks need programs that are not here: {}\ntype: sudo apt-get install {}",
        programs.join(", "),
        packages.join(" ")
    )
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Runs a command to its end, with `input` at its standard input, and returns what it printed.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String> {
    let words = words(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {words}"))?;
    // A program that ends without reading says why by its exit status.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("cannot wait for {words}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(
        output.status.success(),
        "{words} failed ({}): {}",
        output.status,
        [text(&output.stderr), text(&output.stdout)]
            .join(" ")
            .trim()
    );
    Ok(text(&output.stdout))
}

fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// Compiles every `*.bpf.c` of a folder into `objects`, as NAME.o.
pub(crate) fn compile(sources: &Path, objects: &Path) -> Result<()> {
    fs::create_dir_all(objects).with_context(|| format!("cannot make {}", objects.display()))?;
    let folder =
        fs::read_dir(sources).with_context(|| format!("cannot read {}", sources.display()))?;
    for entry in folder {
        let source = entry?.path();
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(".bpf.c") else {
            continue;
        };
        // Debian keeps `asm/` in the folder of the architecture, which clang does not look into for BPF.
        let include = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
        run(
            Command::new("clang")
                .args(["-O2", "-g", "-mcpu=v3", "-target", "bpf", &include, "-c"])
                .arg(&source)
                .arg("-o")
                .arg(objects.join(format!("{name}.o"))),
            "",
        )
        .context("compile the benchmark's BPF programs (needs: sudo apt-get install libbpf-dev)")?;
    }
    Ok(())
}
