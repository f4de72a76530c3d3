//! One self-made certificate per lab, good for its virtual addresses and every real server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{
    error::{Error, Result, Step},
    topology::{Role, Topology},
};

/// Makes the certificate and its key, and writes both into the lab's folder.
pub(crate) fn make(lab: &Path, topology: &Topology) -> Result<()> {
    let servers = topology.machines(Role::Server);
    let mut names: Vec<String> = topology
        .virtual_addresses()
        .map(|(address, _)| address.to_string())
        .collect();
    for server in servers {
        names.push(server.name.clone());
        names.extend(
            server
                .interfaces
                .iter()
                .map(|interface| interface.address.to_string()),
        );
    }
    if names.is_empty() {
        return Ok(());
    }
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)
        .map_err(|error| Error::Invalid(format!("make a certificate: {error}")))?;
    for (path, text) in [
        (certificate_path(lab), cert.pem()),
        (key_path(lab), signing_key.serialize_pem()),
    ] {
        fs::write(&path, text).step(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Reads the lab's certificate back, to trust it.
pub(crate) fn read(lab: &Path) -> Result<CertificateDer<'static>> {
    let path = certificate_path(lab);
    CertificateDer::from_pem_file(&path)
        .map_err(|error| Error::Invalid(format!("read {}: {error}", path.display())))
}

pub(crate) fn certificate_path(lab: &Path) -> PathBuf {
    lab.join("certificate.pem")
}

pub(crate) fn key_path(lab: &Path) -> PathBuf {
    lab.join("key.pem")
}
