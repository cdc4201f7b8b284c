//! What stock ssh can use of an identity: its files where ssh reads them, else files made of it.
//!
//! Pure. ssh reads a key, its public half, a certificate and `@cert-authority` lines,
//! each from a place of its own. Identity files hold all of them in one, where ssh
//! finds no certificate, and no public half of a PEM key, without which it would not
//! know that the two belong together. tsh up to v6 wrote authorities without their marker.

use super::block;
use crate::identity::{Credential, Identity};
use crate::known_hosts::{Dialect, KnownHosts, Line, Marker};
use ssh_key::{Algorithm, PublicKey};
use std::path::{Path, PathBuf};

/// The part of a block that belongs to an identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// `IdentityFile`, and nothing else is to be shown then.
    pub(super) key: Option<PathBuf>,
    /// `CertificateFile`.
    pub(super) certificate: Option<PathBuf>,
    /// `IdentityAgent`.
    pub(super) agent: Option<PathBuf>,
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
    pub(super) content: Content,
}

/// What a derived file holds. A private key is pointed to, never copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    LinkTo(PathBuf),
}

/// What the files of an identity look like from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The text of its own file of authorities, where it has one.
    pub(super) known_hosts: Option<String>,
    /// Whether the public half stands beside the key, as `<key>.pub`.
    pub(super) has_public_half: bool,
}

impl View {
    /// Looks at an identity; `folder` is where derived files go.
    pub(super) fn of(identity: &Identity, seen: &Seen, folder: &Path) -> Self {
        let mut view = Self::default();
        let own = &identity.ssh_files;
        let certificate = identity.credential.certificate();
        view.sha1_authority = certificate
            .is_some_and(|certificate| certificate.signature().algorithm() == Algorithm::Rsa { hash: None });
        let public_line = match &identity.credential {
            Credential::Key { key, .. } => key.public_key().to_openssh().ok(),
            Credential::Agent { .. } => None,
        };
        match (&own.key, public_line, certificate.and_then(|certificate| certificate.to_openssh().ok())) {
            (Some(key), Some(public), Some(certificate))
                if own.certificate.is_none() || !seen.has_public_half =>
            {
                view.derive(folder.join("key.pub"), Content::Text(public.trim_end().to_owned() + "\n"));
                let link = view.derive(folder.join("key"), Content::LinkTo(key.clone()));
                view.key = Some(link);
                let copy = || Content::Text(certificate.trim_end().to_owned() + "\n");
                let file = own
                    .certificate
                    .clone()
                    .unwrap_or_else(|| view.derive(folder.join("key-cert.pub"), copy()));
                view.certificate = Some(file);
            }
            (key, _, _) => {
                view.key.clone_from(key);
                view.certificate.clone_from(&own.certificate);
            }
        }
        view.agent.clone_from(&own.agent);
        view.known_hosts = match (&own.known_hosts, &seen.known_hosts) {
            (Some(file), Some(text)) if ssh_reads_all(text, &identity.authorities) => Some(file.clone()),
            _ if identity.authorities.is_empty() => None,
            _ => Some(view.derive(folder.join("known_hosts"), Content::Text(written(&identity.authorities)))),
        };
        view
    }

    /// Keyword and arguments for ssh_config, already quoted.
    pub(super) fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = Vec::new();
        let mut option = |keyword, file: &PathBuf| options.push((keyword, block::path(file)));
        self.key.iter().for_each(|key| option("IdentityFile", key));
        self.certificate.iter().for_each(|file| option("CertificateFile", file));
        if self.key.is_some() {
            options.push(("IdentitiesOnly", "yes".into()));
        }
        options.extend(self.agent.iter().map(|socket| ("IdentityAgent", block::path(socket))));
        options
    }

    fn derive(&mut self, path: PathBuf, content: Content) -> PathBuf {
        self.files.push(DerivedFile { path: path.clone(), content });
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
