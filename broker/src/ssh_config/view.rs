//! What stock ssh can use of an identity: its files where ssh reads them, else files made of it.
//!
//! Pure. ssh reads a key, a certificate and `@cert-authority` lines, each from a
//! place of its own. Identity files hold all three in one, of which ssh finds only
//! the key, and tsh up to v6 wrote authorities without their marker.

use super::block;
use crate::identity::{Credential, Identity};
use crate::known_hosts::{Dialect, KnownHosts, Line, Marker};
use ssh_key::{Algorithm, PublicKey};
use std::path::{Path, PathBuf};

/// The part of a block that belongs to an identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Keyword and arguments, already quoted.
    pub(super) options: Vec<(&'static str, String)>,
    /// Its host authorities in a file that ssh reads.
    pub(super) known_hosts: Option<PathBuf>,
    /// The files to write first.
    pub(super) files: Vec<DerivedFile>,
    /// Whether its authority signs certificates with SHA-1 (Teleport before v5).
    pub(super) sha1_authority: bool,
}

/// A file that stock ssh needs and that nobody else writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DerivedFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl View {
    /// Looks at an identity. `known_hosts` is the text of its own file of authorities, where it has one;
    /// `folder` is where derived files go.
    pub(super) fn of(identity: &Identity, known_hosts: Option<&str>, folder: &Path) -> Self {
        let mut view = Self::default();
        let own = &identity.ssh_files;
        if let Some(key) = &own.key {
            view.options.push(("IdentityFile", block::path(key)));
        }
        let certificates = identity.credential.certificates();
        let in_agent = matches!(identity.credential, Credential::Agent { .. });
        if let Some(certificate) = certificates.first() {
            view.sha1_authority = certificate.signature().algorithm() == Algorithm::Rsa { hash: None };
            let file = match (&own.certificate, certificate.to_openssh()) {
                (Some(file), _) => Some(file.clone()),
                (None, Ok(text)) if !in_agent => Some(view.derive(folder.join("cert.pub"), text + "\n")),
                (None, _) => None,
            };
            view.options.extend(file.map(|file| ("CertificateFile", block::path(&file))));
        }
        if own.key.is_some() {
            view.options.push(("IdentitiesOnly", "yes".into()));
        }
        if let Some(socket) = &own.agent {
            view.options.push(("IdentityAgent", block::path(socket)));
        }
        view.known_hosts = match &own.known_hosts {
            Some(file) if known_hosts.is_some_and(|text| ssh_reads_all(text, &identity.authorities)) => {
                Some(file.clone())
            }
            _ if identity.authorities.is_empty() => None,
            _ => Some(view.derive(folder.join("known_hosts"), written(&identity.authorities))),
        };
        view
    }

    fn derive(&mut self, path: PathBuf, text: String) -> PathBuf {
        self.files.push(DerivedFile { path: path.clone(), text });
        path
    }
}

/// Whether ssh takes from this text every authority that natssh takes.
fn ssh_reads_all(text: &str, authorities: &KnownHosts) -> bool {
    let by_ssh = KnownHosts::parse(text, "", Dialect::OpenSsh);
    let is_authority = |line: &&Line| line.marker == Marker::Authority;
    authorities
        .lines()
        .iter()
        .filter(is_authority)
        .all(|line| by_ssh.lines().iter().filter(is_authority).any(|read| read.key == line.key))
}

fn written(authorities: &KnownHosts) -> String {
    let line = |line: &Line| {
        let marker = match line.marker {
            Marker::Key => "",
            Marker::Authority => "@cert-authority ",
            Marker::Revoked => "@revoked ",
        };
        let key = PublicKey::from(line.key.clone()).to_openssh().ok()?;
        Some(format!("{marker}{} {key}\n", line.hosts))
    };
    authorities.lines().iter().filter_map(line).collect()
}
