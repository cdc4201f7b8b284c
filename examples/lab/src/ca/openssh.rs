//! A key and its certificate as OpenSSH keeps them: `PATH`, `PATH.pub`, `PATH-cert.pub`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Credential, bare, write_key, write_public};

/// Writes the three files.
///
/// # Errors
/// When one cannot be written.
pub fn write(path: &Path, credential: &Credential) -> Result<()> {
    write_key(path, &credential.key)?;
    let public = format!("{}\n", bare(credential.key.public_key()));
    write_public(&beside(path, ".pub"), &public)?;
    let certificate = format!("{}\n", credential.certificate.to_openssh()?);
    write_public(&beside(path, "-cert.pub"), &certificate)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
