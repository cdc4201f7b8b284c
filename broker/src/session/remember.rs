//! Writing a node's key down, as ssh does for `accept-new`: one line in the user's first known_hosts file.
//!
//! Format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"; OpenSSH's hostfile.c, add_host_to_hostfile. Sessions that open at
//! the same time write one line between them.

use crate::known_hosts::{Dialect, KnownHosts, Marker, lookup_name};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use natssh_wire::{Failure, FailureKind};
use rand::RngCore as _;
use rustix::fs::FlockOperation;
use sha1::Sha1;
use ssh_key::PublicKey;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long another writer is waited for. A line is written without its consent then: it goes in one piece.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// Where a key is written, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The first of `UserKnownHostsFile`.
    pub(super) file: PathBuf,
    /// `HashKnownHosts`.
    pub(super) hash: bool,
    /// The node, as it is looked up.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
}

/// Writes a key down; ssh's words about it.
///
/// # Errors
/// Somebody else has just written another key for the same node.
pub(super) fn remember(place: &Place, key: &PublicKey) -> Result<Option<String>, Failure> {
    let name = lookup_name(&place.host, place.port);
    match write(place, &name, key) {
        Ok(Written::Added) => {
            let kind = crate::ssh::host_key::kind(key.key_data());
            Ok(Some(format!("Warning: Permanently added '{name}' ({kind}) to the list of known hosts.")))
        }
        Ok(Written::Known) => Ok(None),
        Ok(Written::Other) => {
            let text = format!("{} showed two different keys to two sessions at once", place.host);
            let hint = format!("ssh-keygen -F '{name}' -f '{}'", place.file.display());
            Err(Failure::new(FailureKind::HostKey, text).hint(hint))
        }
        Err(error) => Ok(Some(format!(
            "Failed to add the host to the list of known hosts ({}): {error}",
            place.file.display()
        ))),
    }
}

enum Written {
    Added,
    /// By another session, meanwhile.
    Known,
    /// Another key was, meanwhile.
    Other,
}

fn write(place: &Place, name: &str, key: &PublicKey) -> io::Result<Written> {
    make_folder(&place.file)?;
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&place.file)?;
    let is_regular = file.metadata()?.is_file();
    let mut text = Vec::new();
    if is_regular {
        lock(&file);
        file.read_to_end(&mut text)?;
    }
    let known = KnownHosts::parse(&String::from_utf8_lossy(&text), "", Dialect::OpenSsh);
    let mut others =
        known.matching(&place.host, place.port).filter(|line| line.marker == Marker::Key).peekable();
    if others.peek().is_some() {
        let same = others.any(|line| line.key == *key.key_data());
        return Ok(if same { Written::Known } else { Written::Other });
    }
    let mut line = String::new();
    if text.last().is_some_and(|byte| *byte != b'\n') {
        line.push('\n');
    }
    line += &entry(name, key, place.hash.then(salt))?;
    // In one piece, at the end, whoever else writes.
    file.write_all(line.as_bytes())?;
    Ok(Written::Added)
}

/// The line, hashed where there is salt.
fn entry(name: &str, key: &PublicKey, salt: Option<[u8; 20]>) -> io::Result<String> {
    let name = match salt {
        None => name.to_owned(),
        Some(salt) => {
            // A key of any length fits HMAC, so this is never an error.
            let mac = Hmac::<Sha1>::new_from_slice(&salt).map_err(io::Error::other)?;
            let hash = mac.chain_update(name).finalize().into_bytes();
            format!("|1|{}|{}", BASE64.encode(salt), BASE64.encode(hash))
        }
    };
    let blob = key.to_bytes().map_err(io::Error::other)?;
    Ok(format!("{name} {} {}\n", key.algorithm(), BASE64.encode(blob)))
}

fn salt() -> [u8; 20] {
    let mut salt = [0; 20];
    rand::rng().fill_bytes(&mut salt);
    salt
}

/// `~/.ssh`, where that is missing; no other folder, like ssh.
fn make_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) if folder.ends_with(".ssh") && !folder.exists() => {
            let made = DirBuilder::new().mode(0o700).create(folder);
            made.or_else(|error| if fs::metadata(folder).is_ok() { Ok(()) } else { Err(error) })
        }
        _ => Ok(()),
    }
}

/// Until the file is closed.
fn lock(file: &File) {
    let begun = Instant::now();
    while rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_err()
        && begun.elapsed() < PATIENCE
    {
        std::thread::sleep(PAUSE);
    }
}
