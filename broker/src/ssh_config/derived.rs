//! The files that stock ssh needs and that nobody else writes, kept in natssh's state folder.
//!
//! They hold no secret: certificates, authorities, and a link to the private key. `natssh ssh-config` makes
//! them; from then on the broker rewrites them whenever their identity changes. ssh
//! reads them only after its ProxyCommand has reached the broker, so they are as
//! fresh as the broker's own identity.

use super::view::{Content, DerivedFile, Seen, View};
use crate::identity::{Identity, Watched};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rewrites the derived files each time an identity changes, for as long as it is polled.
pub async fn follow(state_dir: PathBuf, watched: Arc<Watched>) {
    let mut snapshots = watched.subscribe();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let folder = state_dir.clone();
        let refreshed = tokio::task::spawn_blocking(move || match &snapshot.identity {
            Ok(identity) => refresh(&folder, identity),
            // What is wrong with it is told in `status`; the old files are no worse.
            Err(_) => Ok(()),
        });
        match refreshed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(identity = watched.name(), reason = %error, "files for stock ssh not refreshed");
            }
            Err(_) => return,
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// Rewrites what was derived from an identity before, if anything was.
///
/// # Errors
/// The first file that could not be written.
fn refresh(state_dir: &Path, identity: &Identity) -> io::Result<()> {
    let folder = folder(state_dir, &identity.name);
    if !folder.is_dir() {
        return Ok(());
    }
    write(&view(state_dir, identity).files)
}

/// Where an identity is, for whoever reads it as stock ssh does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// `IdentityFile`.
    pub key: Option<PathBuf>,
    /// `CertificateFile`.
    pub certificate: Option<PathBuf>,
    /// `IdentityAgent`.
    pub agent: Option<PathBuf>,
    /// A file for `UserKnownHostsFile`.
    pub known_hosts: Option<PathBuf>,
    /// Whether its authority signs certificates with SHA-1.
    pub sha1_authority: bool,
}

impl Places {
    /// Those of an identity; files that nobody else writes are written first (blocking).
    ///
    /// # Errors
    /// The first file that could not be written.
    pub fn of(state_dir: &Path, identity: &Identity) -> io::Result<Self> {
        let View { key, certificate, agent, known_hosts, files, sha1_authority } = view(state_dir, identity);
        write(&files)?;
        Ok(Self { key, certificate, agent, known_hosts, sha1_authority })
    }
}

/// What stock ssh can use of an identity.
pub(super) fn view(state_dir: &Path, identity: &Identity) -> View {
    let own = &identity.ssh_files;
    let beside = |key: &PathBuf| {
        let mut name = key.clone().into_os_string();
        name.push(".pub");
        Path::new(&name).is_file()
    };
    let seen = Seen {
        known_hosts: own.known_hosts.as_ref().and_then(|file| fs::read_to_string(file).ok()),
        has_public_half: own.key.as_ref().is_some_and(beside),
    };
    View::of(identity, &seen, &folder(state_dir, &identity.name))
}

/// Writes files that changed: 0600 in 0700 folders, each complete from the moment it is there.
pub(super) fn write(files: &[DerivedFile]) -> io::Result<()> {
    for file in files.iter().filter(|file| !file.is_there()) {
        // Another process may be writing the same; the last one wins, with a whole file.
        let half = file.path.with_extension(format!("{}.new", std::process::id()));
        let written = file.write_to(&half).and_then(|()| fs::rename(&half, &file.path));
        if let Err(error) = written {
            // Best effort: the error below matters more than a leftover.
            let _ = fs::remove_file(&half);
            return Err(io::Error::new(error.kind(), format!("write {}: {error}", file.path.display())));
        }
    }
    Ok(())
}

impl DerivedFile {
    fn is_there(&self) -> bool {
        match &self.content {
            Content::Text(text) => fs::read(&self.path).is_ok_and(|old| old == text.as_bytes()),
            Content::LinkTo(target) => fs::read_link(&self.path).is_ok_and(|old| old == *target),
        }
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // What a process of the same number left behind when it was killed.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match &self.content {
            Content::Text(text) => {
                let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
                file.write_all(text.as_bytes())
            }
            Content::LinkTo(target) => symlink(target, path),
        }
    }
}

/// `<state folder>/ssh/<identity>`; the name cannot lead out of it.
fn folder(state_dir: &Path, identity: &str) -> PathBuf {
    let plain = |c: char| if c.is_alphanumeric() || "-_.@".contains(c) { c } else { '_' };
    let name: String = identity.chars().map(plain).collect();
    state_dir.join("ssh").join(if name.trim_matches('.').is_empty() { "_" } else { &name })
}
