//! Builds `crates/ebpf` into the object that the daemon embeds, byte for byte the same in every checkout.
//!
//! The committed object is what users build with; `check` proves that it is what its source gives.
//! Sameness takes three things: the pinned toolchain, source paths that name no folder of this machine
//! (`--remap-path-prefix`), and symbol names that do not depend on the checkout ([`crate::stable_metadata`]).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::stable_metadata::{self, TARGET};
use crate::strip::strip;
use crate::toolchain::{self, Toolchain, clean_command};

/// Where the object is committed, from the root of the repository.
const COMMITTED: &str = "crates/datapath/bpf/furiwake.o";
const SOURCE: &str = "crates/ebpf";

/// How a job ended.
pub(crate) enum Outcome {
    /// As wished; what to tell.
    Fine(String),
    /// The committed object is not what its source gives; what to do.
    Stale(String),
}

/// The checkout that we work in.
pub(crate) struct Workspace {
    /// Its folder.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The workspace whose `cargo xtask` was called.
    pub(crate) fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest)
            .parent()
            .context("xtask's folder has no parent")?
            .to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder).context("CARGO_TARGET_DIR")?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// Builds the object and writes it where the daemon embeds it.
    pub(crate) fn update(&self) -> Result<Outcome> {
        let built = self.build()?;
        let committed = self.root.join(COMMITTED);
        // An unchanged object keeps its time stamp, so that nothing is rebuilt for it.
        if std::fs::read(&committed).is_ok_and(|old| old == built) {
            return Ok(Outcome::Fine(format!(
                "{COMMITTED} is up to date ({} bytes)",
                built.len()
            )));
        }
        let folder = committed
            .parent()
            .context("the object's path has no folder")?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(&committed, &built)
            .with_context(|| format!("cannot write {}", committed.display()))?;
        Ok(Outcome::Fine(format!(
            "{COMMITTED} written ({} bytes): commit it with its source",
            built.len()
        )))
    }

    /// Builds the object and compares it with the committed one.
    pub(crate) fn check(&self) -> Result<Outcome> {
        let built = self.build()?;
        const REMEDY: &str = "run `cargo xtask bpf` and commit the object with its source";
        let committed = match std::fs::read(self.root.join(COMMITTED)) {
            Ok(committed) => committed,
            Err(error) => {
                return Ok(Outcome::Stale(format!(
                    "cannot read {COMMITTED} ({error}): {REMEDY}"
                )));
            }
        };
        if committed == built {
            return Ok(Outcome::Fine(format!(
                "{COMMITTED} is what its source gives ({} bytes)",
                built.len()
            )));
        }
        // The rebuilt one is kept, so that the two can be compared by hand.
        let kept = self.target.join("bpf/furiwake.o");
        std::fs::write(&kept, &built)
            .with_context(|| format!("cannot write {}", kept.display()))?;
        Ok(Outcome::Stale(format!(
            "{COMMITTED} ({} bytes) is not what its source gives ({} bytes, kept as {}): {REMEDY}",
            committed.len(),
            built.len(),
            kept.display()
        )))
    }

    fn build(&self) -> Result<Vec<u8>> {
        let source = self.root.join(SOURCE);
        ensure!(
            source.join("Cargo.toml").exists(),
            "{SOURCE}/Cargo.toml is missing: nothing to build"
        );
        let tools = self.target.join("tools");
        std::fs::create_dir_all(&tools)
            .with_context(|| format!("cannot make {}", tools.display()))?;
        let toolchain = Toolchain::prepare(&self.root, &tools)?;

        // Fetched first, because the folder names below are only known then.
        let status = clean_command(toolchain::cargo())
            .current_dir(&source)
            .args(["fetch", "--locked"])
            .status();
        ensure!(
            status.context("cannot start cargo")?.success(),
            "the crates of {SOURCE} cannot be fetched: cargo's message above says why \
             (no network, or {SOURCE}/Cargo.lock does not fit {SOURCE}/Cargo.toml: run cargo there once and commit it)"
        );
        let out = self.target.join("bpf/out");
        if out.exists() {
            std::fs::remove_dir_all(&out)
                .with_context(|| format!("cannot empty {}", out.display()))?;
        }
        let remaps = self.path_remaps(&toolchain.sysroot)?;
        let status = clean_command(toolchain::cargo())
            .current_dir(&source)
            .args(["build", "--release", "--locked", "--target", TARGET])
            .args([
                "-Z",
                "build-std=core",
                "-Z",
                "unstable-options",
                "--artifact-dir",
            ])
            .arg(&out)
            .arg("--target-dir")
            .arg(self.target.join("bpf"))
            // `build-std`, and the assembly that aya-ebpf uses on this target, are unstable in the pinned Rust.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", encoded_flags(&remaps))
            .env(
                "RUSTC_WRAPPER",
                std::env::current_exe().context("cannot tell where xtask is")?,
            )
            .env(stable_metadata::MARK, "1")
            .env("PATH", path_with_first(&toolchain.linker_folder)?)
            .env("LD_LIBRARY_PATH", toolchain.library_path())
            .status()
            .context("cannot start cargo")?;
        ensure!(
            status.success(),
            "{SOURCE} does not build: the compiler's message above says why"
        );

        let stripped = strip(&only_file_in(&out)?)?;
        if contains(&stripped, b"4core9panicking") {
            eprintln!(
                "xtask: warning: the kernel object holds a panic, which the verifier refuses where it can be reached: \
                 look for a slice index or a division whose operand the compiler cannot bound"
            );
        }
        for (folder, _) in &remaps {
            ensure!(
                !contains(&stripped, folder.as_encoded_bytes()),
                "the kernel object names {}, a folder of this machine: it would differ elsewhere",
                folder.display()
            );
        }
        Ok(stripped)
    }

    /// Folders of this machine and what the object calls them; where one is inside another, the inner comes later.
    fn path_remaps(&self, sysroot: &Path) -> Result<Vec<(OsString, &'static str)>> {
        let cargo_home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
            .context(
                "neither CARGO_HOME nor HOME is set: cannot tell where cargo keeps its crates",
            )?;
        let mut folders = vec![
            (self.root.clone(), "/furiwake"),
            (sysroot.to_path_buf(), "/rust"),
        ];
        // Named after the registry's address, which a mirror changes.
        if let Ok(registries) = std::fs::read_dir(cargo_home.join("registry/src")) {
            folders.extend(
                registries
                    .flatten()
                    .map(|registry| (registry.path(), "/crates")),
            );
        }
        let canonical: Vec<_> = folders
            .iter()
            .filter_map(|(folder, name)| Some((folder.canonicalize().ok()?, *name)))
            .filter(|pair| !folders.contains(pair))
            .collect();
        folders.extend(canonical);
        folders.sort();
        Ok(folders
            .into_iter()
            .map(|(folder, name)| (folder.into_os_string(), name))
            .collect())
    }
}

/// Compiler flags, in the encoding that allows spaces in them.
fn encoded_flags(remaps: &[(OsString, &str)]) -> OsString {
    let mut flags = OsString::from("-Clinker=bpf-linker");
    for flag in [
        // The instruction set of Linux 5.1 and later: 32-bit arithmetic and jumps.
        "-Ctarget-cpu=v3",
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        // aya-ebpf asks for an architecture. It only chooses the layout of `pt_regs`, of which XDP and tc
        // programs see nothing: the same object serves x86_64 and aarch64.
        "--cfg=bpf_target_arch=\"x86_64\"",
    ] {
        flags.push("\x1f");
        flags.push(flag);
    }
    for (folder, name) in remaps {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(folder);
        flags.push("=");
        flags.push(name);
    }
    flags
}

fn path_with_first(folder: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path)))
        .context("the target folder's name contains a colon, and PATH cannot hold it")
}

fn only_file_in(folder: &Path) -> Result<Vec<u8>> {
    let files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let [file] = files.as_slice() else {
        anyhow::bail!("{SOURCE} must have exactly one binary, and its build left {files:?}");
    };
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_survive_a_folder_with_a_space() {
        let flags = encoded_flags(&[("/home/a b".into(), "/furiwake")]);
        let flags = flags.to_string_lossy();
        assert_eq!(
            flags.split('\x1f').next_back(),
            Some("--remap-path-prefix=/home/a b=/furiwake")
        );
    }

    #[test]
    fn a_path_inside_the_object_is_found() {
        assert!(contains(b"\0/home/me/furiwake\0", b"/home/me"));
        assert!(!contains(b"\0/furiwake/crates\0", b"/home/me"));
    }
}
