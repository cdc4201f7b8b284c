//! What a server on the way may be recognised by.

use crate::identity::Identity;
use crate::known_hosts::{Dialect, KnownHosts};
use std::io::ErrorKind;
use std::path::PathBuf;

/// What the identity brings, and files of the user's own. A file that is not there holds nothing.
pub(super) async fn known(identity: &Identity, files: &[PathBuf]) -> KnownHosts {
    let mut known = (*identity.authorities).clone();
    for path in files {
        match tokio::fs::read(path).await {
            Ok(bytes) => {
                // Comments may be in any encoding.
                let text = String::from_utf8_lossy(&bytes);
                known.extend(KnownHosts::parse(&text, &path.to_string_lossy(), Dialect::OpenSsh));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::debug!(path = %path.display(), "no such known_hosts");
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "known_hosts not read"),
        }
    }
    known
}
