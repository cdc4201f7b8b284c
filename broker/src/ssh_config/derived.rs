//! The files that stock ssh needs and that nobody else writes, kept in natssh's state folder.
//!
//! They hold no secret, only certificates and authorities. `natssh ssh-config` makes
//! them; from then on the broker rewrites them whenever their identity changes. ssh
//! reads them only after its ProxyCommand has reached the broker, so they are as
//! fresh as the broker's own identity.

use super::view::{DerivedFile, View};
use crate::identity::Identity;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Rewrites what was derived from an identity before, if anything was.
///
/// # Errors
/// The first file that could not be written.
pub fn refresh(state_dir: &Path, identity: &Identity) -> io::Result<()> {
    let folder = folder(state_dir, &identity.name);
    if !folder.is_dir() {
        return Ok(());
    }
    write(&view(state_dir, identity).files)
}

/// What stock ssh can use of an identity.
pub(super) fn view(state_dir: &Path, identity: &Identity) -> View {
    let own = identity.ssh_files.known_hosts.as_ref().and_then(|file| fs::read_to_string(file).ok());
    View::of(identity, own.as_deref(), &folder(state_dir, &identity.name))
}

/// Writes files that changed: 0600 in 0700 folders, each complete from the moment it is there.
pub(super) fn write(files: &[DerivedFile]) -> io::Result<()> {
    for file in files {
        let Some(folder) = file.path.parent() else { continue };
        if fs::read(&file.path).is_ok_and(|old| old == file.text.as_bytes()) {
            continue;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let half = file.path.with_extension(format!("{}.new", std::process::id()));
        let written = write_half(&half, file.text.as_bytes()).and_then(|()| fs::rename(&half, &file.path));
        if let Err(error) = written {
            // Best effort: the error below matters more than a leftover.
            let _ = fs::remove_file(&half);
            return Err(io::Error::new(error.kind(), format!("write {}: {error}", file.path.display())));
        }
    }
    Ok(())
}

fn write_half(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// `<state folder>/ssh/<identity>`; the name cannot lead out of it.
fn folder(state_dir: &Path, identity: &str) -> PathBuf {
    let plain = |c: char| if c.is_alphanumeric() || "-_.@".contains(c) { c } else { '_' };
    let name: String = identity.chars().map(plain).collect();
    state_dir.join("ssh").join(if name.trim_matches('.').is_empty() { "_" } else { &name })
}
