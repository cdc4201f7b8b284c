//! One key as `IdentityFile` names it: whatever of it is there.
//!
//! The file may be private, with or without a passphrase, or only its public half, whose private one an agent holds.

use super::agent::{AgentKey, key_of};
use super::error::{FileFault, IdentityError};
use super::files::{Content, Files};
use super::keys::{certificate_beside, parse_key, read_certificate};
use super::{at_rest, private_key};
use ssh_key::public::KeyData;
use ssh_key::{Certificate, PrivateKey, PublicKey};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A key file.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it shows, if that can be told without its passphrase.
    pub public: Option<AgentKey>,
    /// The user's certificate beside it.
    pub certificate: Option<Certificate>,
    /// Its private half.
    pub private: Private,
}

/// A private half.
#[derive(Debug, Clone)]
pub enum Private {
    /// Read.
    Here(Arc<PrivateKey>),
    /// Not in the file.
    Absent,
    /// In the file, and of use to a person alone; why, in lower case.
    Locked(String),
    /// In the file, and of no use to ssh either; why, in lower case.
    Unusable(String),
}

impl KeyFile {
    /// Reads a key, and the certificate beside it where `beside` says so; nothing where there is no such file.
    /// Files that are just being rewritten are read again, for a second at most.
    #[must_use]
    pub fn read(path: &Path, beside: bool) -> Option<Self> {
        let read = |files: &mut Files| Self::read_once(files, path, beside);
        at_rest(read, |found| found.as_ref().is_some_and(Self::disagrees)).0
    }

    fn read_once(files: &mut Files, path: &Path, beside: bool) -> Option<Self> {
        let (mut public, private) = read_halves(files, path);
        if public.is_none() {
            public = read_public(files, &with_suffix(path, ".pub"));
        }
        let certificate = beside.then(|| certificate_in(files, &certificate_beside(path))).flatten();
        let nothing = public.is_none() && certificate.is_none() && matches!(private, Private::Absent);
        (!nothing).then(|| Self { path: path.into(), public, certificate, private })
    }

    /// Whether the certificate is for another key, as between two steps of who renews both.
    fn disagrees(&self) -> bool {
        match (&self.public, &self.certificate) {
            (Some(public), Some(certificate)) => public.key_data() != certificate.public_key(),
            _ => false,
        }
    }

    /// What can be shown of it: the key, then its certificate.
    pub fn shows(&self) -> impl Iterator<Item = AgentKey> {
        let certificate =
            self.certificate.clone().map(|certificate| AgentKey::Certificate(Box::new(certificate)));
        self.public.clone().into_iter().chain(certificate)
    }

    /// Whether its private half is of this key, as far as can be told.
    #[must_use]
    pub fn holds(&self, key: &KeyData) -> bool {
        match (&self.public, &self.certificate) {
            (Some(public), _) => public.key_data() == key,
            (None, Some(certificate)) => certificate.public_key() == key,
            (None, None) => false,
        }
    }
}

/// A user's certificate; nothing where there is none in the file.
#[must_use]
pub fn read_user_certificate(path: &Path) -> Option<Certificate> {
    certificate_in(&mut Files::default(), path)
}

fn certificate_in(files: &mut Files, path: &Path) -> Option<Certificate> {
    let read = read_certificate(files, path, "");
    let read = read.inspect_err(|error| tracing::debug!(%error, "a certificate is passed over"));
    let certificate = read.ok().flatten().filter(|certificate| certificate.cert_type().is_user());
    certificate.map(|certificate| *certificate)
}

fn read_halves(files: &mut Files, path: &Path) -> (Option<AgentKey>, Private) {
    let (bytes, exposed) = match files.read(path, Content::Secret) {
        Ok(None) => return (None, Private::Absent),
        Ok(Some(bytes)) => (bytes, None),
        Err(error @ IdentityError::Unusable { fault: FileFault::Exposed { .. }, .. }) => {
            // Its public half is no secret, and an agent may hold the other.
            match files.read(path, Content::Public) {
                Ok(Some(bytes)) => (bytes, Some(error.to_string())),
                _ => return (None, Private::Unusable(error.to_string())),
            }
        }
        Err(error) => return (None, Private::Unusable(error.to_string())),
    };
    if let Some(public) = parse_public(&String::from_utf8_lossy(&bytes)) {
        return (Some(public), Private::Absent);
    }
    let half = || {
        let text = std::str::from_utf8(&bytes).ok()?;
        private_key::public_half(text).map(|key| AgentKey::Key(Box::new(key)))
    };
    let fault = match parse_key(&bytes) {
        Ok(key) if exposed.is_none() => {
            let public = AgentKey::Key(Box::new(key.public_key().clone()));
            return (Some(public), Private::Here(Arc::new(key)));
        }
        Ok(key) => {
            let public = AgentKey::Key(Box::new(key.public_key().clone()));
            return (Some(public), Private::Unusable(exposed.unwrap_or_default()));
        }
        Err(fault) => fault,
    };
    let why = exposed.clone().unwrap_or_else(|| format!("{} {fault}", path.display()));
    let locked = exposed.is_none() && matches!(fault, FileFault::Encrypted | FileFault::Hardware);
    (half(), if locked { Private::Locked(why) } else { Private::Unusable(why) })
}

fn read_public(files: &mut Files, path: &Path) -> Option<AgentKey> {
    let bytes = files.read(path, Content::Public).ok().flatten()?;
    parse_public(&String::from_utf8_lossy(&bytes))
}

/// The first line that is a public key or a user's certificate. As in ssh (authfile.c, `sshkey_try_load_public`), what
/// comes after the beginning of a private key is none of it: an identity file of Teleport's holds certificates there.
fn parse_public(text: &str) -> Option<AgentKey> {
    let mut lines = text.lines().take_while(|line| !line.starts_with("-----BEGIN"));
    lines.find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (kind, base64) = (words.next()?, words.next()?);
        let line = format!("{kind} {base64}");
        let key = PublicKey::from_openssh(&line).ok().and_then(|key| key.to_bytes().ok());
        let certificate = || Certificate::from_openssh(&line).ok().and_then(|it| it.to_bytes().ok());
        key_of(&certificate().or(key)?)
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(suffix);
    path.into()
}
