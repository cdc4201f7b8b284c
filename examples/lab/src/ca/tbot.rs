//! The output folder of `tbot`, Teleport's agent for machines, for `type: identity`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::tsh::PLACEHOLDER;
use super::{Authority, Credential, bare, identity_file, write_key, write_public, write_secret};

/// Writes or renews the folder. Like tbot, it rewrites the files in place.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, proxy_host: &str, authority: &Authority, credential: &Credential) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    write_key(&folder.join("key"), &credential.key)?;
    let public = format!("{}\n", bare(credential.key.public_key()));
    write_public(&folder.join("key.pub"), &public)?;
    let certificate = format!("{}\n", credential.certificate.to_openssh()?);
    write_public(&folder.join("key-cert.pub"), &certificate)?;
    write_secret(&folder.join("tlscert"), PLACEHOLDER)?;
    write_public(&folder.join("teleport-host-ca.crt"), authority.tls().pem())?;
    write_public(&folder.join("known_hosts"), &authority.known_hosts(proxy_host))?;
    identity_file::write(&folder.join("identity"), authority, credential)
}
