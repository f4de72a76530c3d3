//! One self-made certificate per lab, good for its virtual addresses and every real server.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
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
    write(&certificate_path(lab), &cert.pem(), 0o644)?;
    write(&key_path(lab), &signing_key.serialize_pem(), 0o600)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .step(|| format!("write {}", path.display()))
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
