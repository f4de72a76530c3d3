//! Removing: filters, links and pins, in an order that leaves no half of a director that looks like a whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, attach};

/// The map whose pin says that there is a data plane; it is the first to go.
const FIRST: &str = "CONFIG";

/// Remove every trace of a director. Returns what was removed, a line each.
pub(crate) fn everything(pins: &Path) -> Result<Vec<String>, Error> {
    let mut removed = filters();
    for folder in files(pins)?.into_iter().filter(|f| is_layout(f)) {
        let (links, maps) = (folder.join("links"), folder.join("maps"));
        for part in [&links, &maps] {
            remove_files(part, &mut removed)?;
        }
        for folder in [&links, &maps, &folder] {
            remove_folder(folder)?;
        }
        removed.push(folder.display().to_string());
    }
    Ok(removed)
}

/// Remove what an interrupted start or end left. The folders stay.
pub(crate) fn wipe(links: &Path, maps: &Path) -> Result<(), Error> {
    let mut removed = filters();
    for part in [links, maps] {
        remove_files(part, &mut removed)?;
    }
    if !removed.is_empty() {
        tracing::warn!(?removed, "half of a data plane was here: removed");
    }
    Ok(())
}

fn filters() -> Vec<String> {
    let names = attach::remove_filters().into_iter();
    names.map(|name| format!("tc filter on {name}")).collect()
}

fn is_layout(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with("layout-")
}

fn remove_files(folder: &Path, removed: &mut Vec<String>) -> Result<(), Error> {
    let mut files = files(folder)?;
    files.sort_by_key(|file| !file.ends_with(FIRST));
    for path in files {
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path.display().to_string()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Map { path, source }),
        }
    }
    Ok(())
}

fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Map {
            path: path.to_path_buf(),
            source,
        }),
        _ => Ok(()),
    }
}

/// What is in a folder; nothing when it is not there.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Map {
        path: folder.to_path_buf(),
        source,
    };
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| Ok(e.map_err(failed)?.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(failed(e)),
    }
}
