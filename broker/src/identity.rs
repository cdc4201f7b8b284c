//! Identities: immutable snapshots of keys, certificates and the host authorities that come with them.
//!
//! [`Identity::load`] reads one from wherever the user keeps it; [`watch`] reads
//! it again when that place changes. Reading blocks: async callers put it on a
//! blocking thread. A snapshot itself never changes and is cheap to clone.

pub mod agent;
mod directory;
mod error;
mod file;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod key_file;
mod keys;
pub mod lifetime;
mod notice;
mod private_key;
pub mod tsh;
pub mod watch;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod torn_tests;

pub use agent::AgentKey;
pub use error::{AgentFault, FileFault, IdentityError};
pub use key_file::{KeyFile, Private, read_user_certificate};
pub use lifetime::Validity;
pub use watch::{Snapshot, Watched};

use crate::known_hosts::KnownHosts;
use files::Files;
use lifetime::{Lifetime, span};
use ssh_key::{Certificate, HashAlg, PrivateKey};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// Where an identity comes from; every path is absolute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A profile of `tsh login`.
    Tsh {
        /// The folder, usually `~/.tsh`.
        home: PathBuf,
        /// The profile's name, which is the proxy's host name; none for the current one.
        proxy: Option<String>,
        /// Whose certificate, when the profile has one a cluster; none for the profile's own.
        cluster: Option<String>,
    },
    /// An identity file: `tsh login --out`, `tctl auth sign`.
    File(PathBuf),
    /// A folder that tbot fills.
    Directory(PathBuf),
    /// An OpenSSH key, and the certificate beside it.
    Keys {
        /// The private key.
        key: PathBuf,
        /// The certificate; none for `<key>-cert.pub`, if there is one.
        certificate: Option<PathBuf>,
    },
    /// An ssh agent's socket: the caller's `SSH_AUTH_SOCK`; none where the caller has none.
    Agent(Option<PathBuf>),
}

/// One identity at one moment.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Counts up each time it changes in meaning.
    pub generation: u64,
    /// Whom the certificate names: its key id, with Teleport the user's name.
    pub user: Option<String>,
    /// The Teleport cluster that the certificate leads to.
    pub cluster: Option<String>,
    /// The logins that the certificate allows, without those that Teleport uses for itself.
    pub principals: Vec<String>,
    /// How long the certificate is good for.
    pub lifetime: Lifetime,
    /// What it authenticates with.
    pub credential: Credential,
    /// The host authorities and keys that it brings.
    pub authorities: Arc<KnownHosts>,
    /// The authorities that it brings for TLS: of these is a proxy's certificate where TLS leads to it.
    pub tls_authorities: Arc<[CertificateDer<'static>]>,
    /// Where stock ssh finds the same.
    pub ssh_files: SshFiles,
    /// How to get a new one, as something to type.
    pub renew: String,
}

/// What an identity authenticates with.
#[derive(Clone)]
pub enum Credential {
    /// A private key at hand.
    Key {
        /// The key, wiped from memory with its last user.
        key: Arc<PrivateKey>,
        /// Its certificate.
        certificate: Option<Box<Certificate>>,
    },
    /// Keys in an agent, the one to show first.
    Agent {
        /// The agent's socket.
        socket: PathBuf,
        /// Certificates first.
        keys: Vec<AgentKey>,
    },
}

/// Where stock ssh finds an identity, for `IdentityFile`, `CertificateFile`, `UserKnownHostsFile` and `IdentityAgent`.
///
/// A certificate inside an identity file is in none: ssh reads none from there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshFiles {
    /// The private key.
    pub key: Option<PathBuf>,
    /// The certificate.
    pub certificate: Option<PathBuf>,
    /// The host authorities.
    pub known_hosts: Option<PathBuf>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
}

/// An identity without its secrets: it may outlive a logout.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    public: Vec<AgentKey>,
    authorities: Arc<KnownHosts>,
    tls_authorities: Arc<[CertificateDer<'static>]>,
    ssh_files: SshFiles,
}

/// What the readers find, whatever the source.
struct Found {
    credential: Credential,
    authorities: KnownHosts,
    tls_authorities: Vec<CertificateDer<'static>>,
    ssh_files: SshFiles,
    renew: String,
}

/// How often files are looked at again that were seen half-written, empty or changing: a second in all, for writers on a
/// busy machine; well within what a dial may take.
const HALF_WRITTEN: usize = 25;
/// The same for files that do not fit together, as between two steps of a login, or for good: 200 ms in all.
const AT_ODDS: usize = 5;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(40);
/// What counts as just rewritten.
const RECENT: Duration = Duration::from_secs(2);

impl Identity {
    /// Reads an identity. Files that tsh or tbot are just rewriting are read again, for a second at most.
    ///
    /// # Errors
    /// What a person has to do something about. An expired certificate is no error here, see [`check`](Self::check).
    pub fn load(name: &str, source: &Source, generation: u64) -> Result<Self, IdentityError> {
        let mut identity = Self::load_noting(name, source).0?;
        identity.generation = generation;
        Ok(identity)
    }

    /// The same, with what the files looked like.
    fn load_noting(name: &str, source: &Source) -> (Result<Self, IdentityError>, Files) {
        let find = |files: &mut Files| source.find(files);
        let (found, files) = at_rest(find, |found| found.as_ref().is_err_and(IdentityError::may_be_torn));
        (found.map(|found| Self::from_found(name, found)), files)
    }

    fn from_found(name: &str, found: Found) -> Self {
        let certificate = found.credential.certificate();
        let principals = certificate.map_or_else(Vec::new, |certificate| {
            let mut logins: Vec<String> = Vec::new();
            for principal in certificate.valid_principals() {
                // `-teleport-internal-join`, and from v9 on `-teleport-nologin-<uuid>`: no logins, whatever the list says.
                if !principal.starts_with("-teleport-") && !logins.contains(principal) {
                    logins.push(principal.clone());
                }
            }
            logins
        });
        let user = certificate.map(|certificate| certificate.key_id().to_owned());
        let user = user.filter(|user| !user.is_empty());
        let cluster =
            certificate.and_then(|certificate| certificate.extensions().get("teleport-route-to-cluster"));
        let cluster = cluster.filter(|cluster| !cluster.is_empty()).cloned();
        let lifetime = certificate.map(Lifetime::of_certificate).unwrap_or_default();
        Self {
            name: name.into(),
            generation: 0,
            user,
            cluster,
            principals,
            lifetime,
            credential: found.credential,
            authorities: Arc::new(found.authorities),
            tls_authorities: found.tls_authorities.into(),
            ssh_files: found.ssh_files,
            renew: found.renew,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn validity(&self, now: u64) -> Validity {
        self.lifetime.at(now)
    }

    /// Whether it may be used now.
    ///
    /// # Errors
    /// `Expired` or `NotYetValid`.
    pub fn check(&self, now: u64) -> Result<(), IdentityError> {
        match self.validity(now) {
            Validity::Valid | Validity::Expiring { .. } => Ok(()),
            Validity::Expired { since } => {
                Err(IdentityError::Expired { whose: self.whose(), since, renew: self.renew.clone() })
            }
            Validity::NotYetValid { starts_in } => {
                Err(IdentityError::NotYetValid { whose: self.whose(), starts_in })
            }
        }
    }

    /// The login to authenticate with: the one that is wanted, else the first that the certificate allows.
    ///
    /// A plain key allows any; a certificate those that it lists.
    ///
    /// # Errors
    /// `Login`, when the one that is wanted is not allowed or there is none to choose from.
    pub fn login<'a>(&'a self, wanted: Option<&'a str>) -> Result<&'a str, IdentityError> {
        let any = self.credential.certificate().is_none();
        match wanted {
            Some(wanted) if any || self.principals.iter().any(|principal| principal == wanted) => {
                Some(wanted)
            }
            Some(_) => None,
            None => self.principals.first().map(String::as_str),
        }
        .ok_or_else(|| IdentityError::Login {
            whose: self.whose(),
            wanted: wanted.map(str::to_owned),
            allowed: self.principals.clone(),
        })
    }

    /// What has to differ for another snapshot to count as a change.
    fn meaning(&self) -> Meaning {
        let public = match &self.credential {
            Credential::Key { certificate: Some(certificate), .. } => {
                vec![AgentKey::Certificate(certificate.clone())]
            }
            Credential::Key { key, certificate: None } => {
                vec![AgentKey::Key(Box::new(key.public_key().clone()))]
            }
            // Whatever else the agent holds is not shown, and may come and go.
            Credential::Agent { keys, .. } => keys.first().cloned().into_iter().collect(),
        };
        Meaning {
            public,
            authorities: self.authorities.clone(),
            tls_authorities: self.tls_authorities.clone(),
            ssh_files: self.ssh_files.clone(),
        }
    }

    /// A certificate near its end, in a sentence; nothing where there is nothing to say.
    #[must_use]
    pub fn warning(&self, now: u64) -> Option<String> {
        match self.validity(now) {
            Validity::Expiring { left } => {
                Some(format!("the certificate of {} expires in {}", self.whose(), span(left)))
            }
            _ => None,
        }
    }

    fn whose(&self) -> String {
        self.user.clone().unwrap_or_else(|| self.name.to_string())
    }
}

/// Reads files, and reads them again while they look as if somebody were rewriting them.
fn at_rest<T>(read: impl Fn(&mut Files) -> T, is_odd: impl Fn(&T) -> bool) -> (T, Files) {
    for looks in 0.. {
        let mut files = Files::default();
        let found = read(&mut files);
        let more = match files.torn() {
            true => HALF_WRITTEN,
            false if is_odd(&found) => AT_ODDS,
            false => 0,
        };
        if looks >= more || !files.changed_within(RECENT) {
            return (found, files);
        }
        std::thread::sleep(PAUSE);
    }
    unreachable!("the last look returns")
}

impl Source {
    fn find(&self, files: &mut Files) -> Result<Found, IdentityError> {
        match self {
            Self::Tsh { home, proxy, cluster } => {
                tsh::find(files, home, proxy.as_deref(), cluster.as_deref())
            }
            Self::File(path) => file::find(files, path),
            Self::Directory(path) => directory::find(files, path),
            Self::Keys { key, certificate } => keys::find(files, key, certificate.as_deref()),
            Self::Agent(socket) => agent::find(socket.as_deref()),
        }
    }
}

impl Source {
    /// The word for it, which is also its key in the configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tsh { .. } => "tsh",
            Self::File(_) => "file",
            Self::Directory(_) => "directory",
            Self::Keys { .. } => "key",
            Self::Agent(_) => "agent",
        }
    }

    /// The same, where this process is the caller whose agent is meant.
    #[must_use]
    pub fn for_this_process(&self) -> Self {
        let agent = || std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
        match self {
            Self::Agent(None) => Self::Agent(agent()),
            other => other.clone(),
        }
    }
}

/// For a person: `tsh profile example.com`, `identity file /path`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tsh { home, proxy: None, .. } => write!(f, "current tsh profile in {}", home.display()),
            Self::Tsh { proxy: Some(proxy), .. } => write!(f, "tsh profile {proxy}"),
            Self::File(path) => write!(f, "identity file {}", path.display()),
            Self::Directory(path) => write!(f, "tbot output {}", path.display()),
            Self::Keys { key, .. } => write!(f, "key {}", key.display()),
            Self::Agent(Some(socket)) => write!(f, "ssh agent {}", socket.display()),
            Self::Agent(None) => f.write_str("ssh agent of the caller"),
        }
    }
}

impl Credential {
    /// The certificate that it shows. Of an agent's keys it shows the first: servers count attempts.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Key { certificate, .. } => certificate.as_deref(),
            Self::Agent { keys, .. } => keys.first().and_then(AgentKey::certificate),
        }
    }
}

/// Fingerprints only.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { key, certificate } => f
                .debug_struct("Key")
                .field("key", &key.fingerprint(HashAlg::Sha256).to_string())
                .field("certificate", &certificate.as_ref().map(|certificate| certificate.key_id()))
                .finish(),
            Self::Agent { socket, keys } => {
                f.debug_struct("Agent").field("socket", socket).field("keys", &keys.len()).finish()
            }
        }
    }
}
