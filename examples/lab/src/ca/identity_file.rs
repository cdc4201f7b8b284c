//! The single file that `tsh login --out` and `tctl auth sign --format=file` write.

use std::path::Path;

use anyhow::Result;
use ssh_key::LineEnding;

use super::{Authority, Credential, bare, tls, write_secret};

/// The text: private key, SSH certificate, TLS certificate, host authorities, TLS authorities.
///
/// # Errors
/// When the credential cannot be encoded.
fn text(authority: &Authority, credential: &Credential) -> Result<String> {
    let key = credential.key.to_openssh(LineEnding::LF)?;
    let certificate = credential.certificate.to_openssh()?;
    let cluster = authority.cluster();
    let host_ca = bare(authority.host_ca());
    Ok(format!(
        "{}\n{certificate}\n{}@cert-authority *.{cluster} {host_ca} type=host\n{}",
        key.trim_end(),
        tls::user_pem(credential.certificate.key_id())?,
        authority.tls().pem()
    ))
}

/// Writes the file, mode 0600.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, authority: &Authority, credential: &Credential) -> Result<()> {
    write_secret(path, &text(authority, credential)?)
}
