//! What a director keeps over a restart and the maps do not hold: sync daemons. It lies in a file beside the control
//! socket, as long as the data plane does.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use furiwake_lvs::{model::Table, sync::SyncDaemon};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// The file, and what was written to it last.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    path: Option<PathBuf>,
    last: Document,
}

/// What is in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Document {
    sync_daemons: Vec<SyncDaemon>,
}

/// The file that belongs to a socket.
pub(crate) fn path_of(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".kept");
    path.into()
}

impl Kept {
    /// The file of this socket; nothing is read yet.
    pub(crate) fn beside(socket: &Path) -> Self {
        Self {
            path: Some(path_of(socket)),
            last: Document::default(),
        }
    }

    /// Complete a table that was read from the maps of an earlier daemon; whether there was anything to recall.
    pub(crate) fn recall(&mut self, table: &mut Table) -> bool {
        match self.read() {
            Ok(Some(document)) => {
                table.sync_daemons = document.sync_daemons.clone();
                self.last = document;
                true
            }
            Ok(None) => false,
            Err(error) => {
                warn!(error = format!("{error:#}"), "sync daemons are forgotten");
                false
            }
        }
    }

    /// The data plane is a new one: what was kept belonged to another.
    pub(crate) fn forget(&mut self) {
        if let Some(path) = &self.path {
            // Most often there is none.
            let _ = fs::remove_file(path);
        }
    }

    /// Keep what is wanted now, if it is not what was kept last.
    pub(crate) fn keep(&mut self, table: &Table) {
        let document = Document {
            sync_daemons: table.sync_daemons.clone(),
        };
        if self.last == document {
            return;
        }
        if let Err(error) = self.write(&document) {
            warn!(
                error = format!("{error:#}"),
                "sync daemons will not outlive this daemon"
            );
        }
        self.last = document;
    }

    fn read(&self) -> anyhow::Result<Option<Document>> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        let place = || format!("cannot read {}", path.display());
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).with_context(place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(place),
        }
    }

    /// Beside it first, so that nobody ever reads half of it.
    fn write(&self, document: &Document) -> anyhow::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let half = path.with_extension("kept.new");
        fs::write(&half, serde_json::to_vec(document)?)
            .and_then(|()| fs::rename(&half, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use furiwake_lvs::sync::SyncRole;

    #[test]
    fn what_was_kept_is_recalled_and_what_is_broken_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("control.sock");
        let mut table = Table::default();
        table.sync_daemons.push(SyncDaemon {
            role: SyncRole::Master,
            interface: "eth0".to_owned(),
            sync_id: 7,
            max_length: None,
            group: None,
            port: None,
            ttl: None,
        });
        Kept::beside(&socket).keep(&table);
        let mut recalled = Table::default();
        assert!(Kept::beside(&socket).recall(&mut recalled));
        assert_eq!(recalled, table);

        fs::write(path_of(&socket), "{").expect("a file");
        let mut recalled = Table::default();
        assert!(!Kept::beside(&socket).recall(&mut recalled));
        assert_eq!(recalled, Table::default());

        Kept::beside(&socket).forget();
        assert!(!path_of(&socket).exists());
    }
}
