//! What building for BPF needs beyond stable Rust: the source of `core`, and `bpf-linker`.
//!
//! Both are installed when missing: `rust-src` by rustup, the linker below the target folder. The linker is
//! built against the very LLVM that rustc carries, so that no LLVM has to be installed and the bitcode that
//! it reads is always of its own version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const BPF_LINKER_VERSION: &str = "0.13.0";
/// The LLVM that the pinned Rust carries.
const BPF_LINKER_FEATURE: &str = "llvm-22";

/// The pinned Rust, able to build for BPF.
pub(crate) struct Toolchain {
    /// The folder that holds `bin/rustc`.
    pub(crate) sysroot: PathBuf,
    /// The folder that holds `bpf-linker`.
    pub(crate) linker_folder: PathBuf,
}

impl Toolchain {
    /// Checks the toolchain of this workspace and installs what is missing, the linker below `tools`.
    pub(crate) fn prepare(root: &Path, tools: &Path) -> Result<Self> {
        let pinned = pinned_channel(&read(&root.join("rust-toolchain.toml"))?)?;
        let version = output(Command::new(rustc()).current_dir(root).arg("--version"))?;
        ensure!(
            version.split(' ').nth(1) == Some(pinned.as_str()),
            "the kernel object is built with Rust {pinned}, and this is {version}: \
             run `rustup toolchain install {pinned}`, then `cargo xtask bpf` without `+toolchain`"
        );
        let sysroot: PathBuf = output(
            Command::new(rustc())
                .current_dir(root)
                .args(["--print", "sysroot"]),
        )?
        .into();
        ensure_core_source(root, &sysroot, &pinned)?;
        let linker_folder = bpf_linker(&sysroot, tools)?;
        Ok(Self {
            sysroot,
            linker_folder,
        })
    }

    /// The search path with which `bpf-linker` finds the LLVM of rustc.
    pub(crate) fn library_path(&self) -> PathBuf {
        self.sysroot.join("lib")
    }
}

/// A command from which the caller's own build settings are removed.
pub(crate) fn clean_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let changes_a_build = matches!(
            text.as_ref(),
            "RUSTFLAGS"
                | "RUSTC_WRAPPER"
                | "RUSTC_WORKSPACE_WRAPPER"
                | "CARGO_ENCODED_RUSTFLAGS"
                | "CARGO_TARGET_DIR"
        ) || ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_"]
            .iter()
            .any(|start| text.starts_with(start));
        if changes_a_build {
            command.env_remove(&name);
        }
    }
    command
}

/// The cargo that runs us.
pub(crate) fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn pinned_channel(rust_toolchain: &str) -> Result<String> {
    rust_toolchain
        .lines()
        .find_map(|line| line.trim().strip_prefix("channel = \"")?.strip_suffix('"'))
        .map(String::from)
        .context("rust-toolchain.toml has no line `channel = \"VERSION\"`")
}

fn ensure_core_source(root: &Path, sysroot: &Path, pinned: &str) -> Result<()> {
    let core = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if core.exists() {
        return Ok(());
    }
    eprintln!("xtask: adding rust-src, the source of Rust's core library, to the toolchain");
    let toolchain = std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| pinned.into());
    let added = Command::new("rustup")
        .current_dir(root)
        .args(["component", "add", "rust-src", "--toolchain", &toolchain])
        .status();
    match added {
        Ok(status) if status.success() && core.exists() => Ok(()),
        Ok(_) => bail!(
            "`rustup component add rust-src --toolchain {toolchain}` did not bring {}: \
             it needs the network; what rustup printed above says more",
            core.display()
        ),
        Err(error) => bail!(
            "the source of Rust's core library is not in {}, and rustup, which would add it, cannot be started ({error}): \
             install rustup, or put the component rust-src of Rust {pinned} there",
            sysroot.display()
        ),
    }
}

/// The folder of a `bpf-linker` of the right version, built now if need be.
fn bpf_linker(sysroot: &Path, tools: &Path) -> Result<PathBuf> {
    let llvm = libllvm(sysroot)?;
    let llvm_name = llvm
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    // The folder's name is the version stamp: another linker or another LLVM is another folder.
    let installed = tools.join(format!("bpf-linker-{BPF_LINKER_VERSION}-{llvm_name}"));
    let linker_folder = installed.join("bin");
    if linker_runs(sysroot, &linker_folder) {
        return Ok(linker_folder);
    }
    eprintln!(
        "xtask: building bpf-linker {BPF_LINKER_VERSION} below {} (about a minute)",
        tools.display()
    );
    ensure!(
        Command::new("cc").arg("--version").output().is_ok(),
        "building bpf-linker needs a C compiler named `cc`: on Debian, `apt-get install gcc`"
    );
    // llvm-sys looks for `lib/libLLVM.so` below LLVM_PREFIX; the toolchain's file has another name.
    let prefix = installed.join("llvm");
    let library_folder = prefix.join("lib");
    std::fs::create_dir_all(&library_folder)
        .with_context(|| format!("cannot make {}", library_folder.display()))?;
    let link = library_folder.join("libLLVM.so");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&llvm, &link)
        .with_context(|| format!("cannot make {}", link.display()))?;

    let status = clean_command(cargo())
        .current_dir(tools)
        .args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER_VERSION,
            "--locked",
            "--force",
        ])
        .args([
            "--no-default-features",
            "--features",
            BPF_LINKER_FEATURE,
            "--root",
        ])
        .arg(&installed)
        .env("LLVM_PREFIX", &prefix)
        .env("LIBRARY_PATH", &library_folder)
        .env("LD_LIBRARY_PATH", sysroot.join("lib"))
        .status()
        .context("cannot start cargo")?;
    ensure!(
        status.success(),
        "bpf-linker {BPF_LINKER_VERSION} could not be built: cargo's message above says why \
         (it needs the network for its crates, and a C compiler)"
    );
    ensure!(
        linker_runs(sysroot, &linker_folder),
        "{} was built but does not run",
        linker_folder.join("bpf-linker").display()
    );
    Ok(linker_folder)
}

fn linker_runs(sysroot: &Path, folder: &Path) -> bool {
    let version = Command::new(folder.join("bpf-linker"))
        .arg("--version")
        .env("LD_LIBRARY_PATH", sysroot.join("lib"))
        .output();
    version.is_ok_and(|output| {
        output.status.success()
            && String::from_utf8_lossy(&output.stdout).trim()
                == format!("bpf-linker {BPF_LINKER_VERSION}")
    })
}

/// The shared LLVM of the toolchain, named like `libLLVM.so.22.1-rust-1.95.0-stable`.
fn libllvm(sysroot: &Path) -> Result<PathBuf> {
    let folder = sysroot.join("lib");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("libLLVM.so."))
        })
        .collect();
    found.sort();
    found.pop().with_context(|| {
        format!(
            "no libLLVM.so.* in {}: bpf-linker is built against the LLVM of rustup's Rust for Linux; \
             use that toolchain (https://rustup.rs)",
            folder.display()
        )
    })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_channel_is_read_from_the_toolchain_file() {
        let text = "[toolchain]\nchannel = \"1.95.0\"\ncomponents = [\"rustfmt\"]\n";
        assert_eq!(pinned_channel(text).unwrap(), "1.95.0");
        assert!(
            pinned_channel("[toolchain]\n")
                .unwrap_err()
                .to_string()
                .contains("channel")
        );
    }
}
