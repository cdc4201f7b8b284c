//! Is this the server that was meant?
//!
//! Pure: known hosts, the names the server may answer to, what it showed, and
//! the time. The SSH library has only proved that the server holds the key;
//! everything else about it is decided here, as ssh(1) does in sshconnect.c:
//! a certificate first, its plain key next, and nothing unknown is believed.
//!
//! docs/host-keys.md lists where it means to differ from ssh, and a test compares.

#[cfg(test)]
mod differential;
mod error;
#[cfg(test)]
mod tests;

pub use error::{Fault, HostKeyError, describe, kind};

use crate::known_hosts::{KnownHosts, Line, Marker, Origin};
use crate::pattern::glob_matches;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Certificate, Fingerprint, HashAlg, PublicKey};
use std::collections::BTreeSet;

/// What the server showed.
#[derive(Debug, Clone, Copy)]
pub enum Presented<'a> {
    /// A plain key.
    Key(&'a PublicKey),
    /// A certificate, which holds a key.
    Certificate(&'a Certificate),
}

/// Whether an authority's SHA-1 signature on a certificate counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sha1 {
    /// It does not.
    #[default]
    Refused,
    /// It does: for Teleport of 2021 and before, on its own upstream alone.
    Allowed,
}

/// The names that a server may answer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    hosts: Vec<String>,
    clusters: Vec<String>,
    role: Option<&'static str>,
    port: u16,
}

/// How the server was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// By a certificate of a trusted authority.
    Certificate {
        /// The authority.
        authority: Fingerprint,
        /// The line that trusts it.
        origin: Origin,
    },
    /// By its key.
    Key {
        /// The line that holds it.
        origin: Origin,
    },
}

/// What a server can be recognised by: what to ask it for in the key exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// An authority is trusted for it.
    pub certificate: bool,
    /// The kinds of plain keys that are known of it, in the order of the lines.
    pub keys: Vec<Algorithm>,
}

impl Names {
    /// The name and port that are dialled.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { hosts: vec![host.to_ascii_lowercase()], clusters: Vec::new(), role: None, port }
    }

    /// Another name for the same server.
    #[must_use]
    pub fn or(mut self, host: &str) -> Self {
        self.hosts.push(host.to_ascii_lowercase());
        self
    }

    /// The Teleport cluster that the server belongs to: an authority of the
    /// cluster is one of the server, under whatever name that was dialled.
    ///
    /// Teleport writes `@cert-authority <proxy>,<cluster>,*.<cluster>` or only
    /// `*.<cluster>`, and proxies are reached by addresses that are in neither.
    #[must_use]
    pub fn in_cluster(mut self, cluster: &str) -> Self {
        self.clusters.push(cluster.to_ascii_lowercase());
        self
    }

    /// What a Teleport certificate must say its holder is (`Proxy`), when it says anything.
    ///
    /// Every node's certificate names `localhost` and whatever host name the
    /// node chose, so by names alone any node could pass for the proxy.
    #[must_use]
    pub fn with_teleport_role(mut self, role: &'static str) -> Self {
        self.role = Some(role);
        self
    }

    /// The keys known of the server: those of `[host]:port`, and of the bare host only where there are none.
    fn keys<'a>(&self, known: &'a KnownHosts) -> Vec<&'a Line> {
        let mut found = Vec::new();
        for host in &self.hosts {
            let exact = marked(known, host, self.port, Marker::Key);
            found.extend(if exact.is_empty() { marked(known, host, 22, Marker::Key) } else { exact });
        }
        found
    }

    /// The authorities or revocations that concern the server, under every form of every name.
    fn all<'a>(&self, known: &'a KnownHosts, marker: Marker) -> Vec<&'a Line> {
        let mut found = Vec::new();
        for host in &self.hosts {
            found.extend(marked(known, host, self.port, marker));
            found.extend(marked(known, host, 22, marker));
        }
        for cluster in &self.clusters {
            found.extend(marked(known, cluster, 22, marker));
            // `*.<cluster>` is written for the hosts below the cluster, of which this is one.
            found.extend(marked(known, &format!("{}.{cluster}", self.hosts[0]), 22, marker));
        }
        found
    }

    /// As a person names it.
    fn display(&self) -> String {
        let host = &self.hosts[0];
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }
}

fn marked<'a>(known: &'a KnownHosts, host: &str, port: u16, marker: Marker) -> Vec<&'a Line> {
    known.matching(host, port).filter(|line| line.marker == marker).collect()
}

/// What the known hosts hold about a server.
#[must_use]
pub fn expected(known: &KnownHosts, names: &Names) -> Expected {
    let mut keys: Vec<Algorithm> = Vec::new();
    for line in names.keys(known) {
        let algorithm = line.key.algorithm();
        if !keys.contains(&algorithm) {
            keys.push(algorithm);
        }
    }
    Expected { certificate: !names.all(known, Marker::Authority).is_empty(), keys }
}

/// Decides whether the server is one that `names` may mean; `now` is in seconds since 1970.
///
/// # Errors
/// Why it cannot be believed.
pub fn verify(
    known: &KnownHosts,
    names: &Names,
    presented: Presented<'_>,
    now: u64,
    sha1: Sha1,
) -> Result<Verdict, HostKeyError> {
    match presented {
        Presented::Key(key) => {
            refuse_revoked(known, names, key.key_data(), None)?;
            verify_key(known, names, key.key_data())
        }
        Presented::Certificate(certificate) => {
            let key = certificate.public_key();
            refuse_revoked(known, names, key, Some(certificate.signature_key()))?;
            let fault = match verify_certificate(known, names, certificate, now, sha1) {
                Ok(verdict) => return Ok(verdict),
                Err(fault) => fault,
            };
            // Like ssh: a certificate that does not serve still holds a key that may be known.
            match verify_key(known, names, key) {
                Ok(verdict) => Ok(verdict),
                Err(changed @ HostKeyError::Changed { .. })
                    if matches!(fault, Fault::UntrustedAuthority { .. }) =>
                {
                    Err(changed)
                }
                Err(_) => Err(HostKeyError::Certificate {
                    host: names.display(),
                    key: describe(key),
                    authority: describe(certificate.signature_key()),
                    cluster: names.clusters.first().cloned(),
                    fault: Box::new(fault),
                }),
            }
        }
    }
}

fn refuse_revoked(
    known: &KnownHosts,
    names: &Names,
    key: &KeyData,
    authority: Option<&KeyData>,
) -> Result<(), HostKeyError> {
    for line in names.all(known, Marker::Revoked) {
        if line.key == *key || authority.is_some_and(|authority| line.key == *authority) {
            return Err(HostKeyError::Revoked {
                host: names.display(),
                is_authority: line.key != *key,
                key: describe(&line.key),
                origin: line.origin.clone(),
            });
        }
    }
    Ok(())
}

fn verify_key(known: &KnownHosts, names: &Names, key: &KeyData) -> Result<Verdict, HostKeyError> {
    let lines = names.keys(known);
    if let Some(line) = lines.iter().find(|line| line.key == *key) {
        return Ok(Verdict::Key { origin: line.origin.clone() });
    }
    // Of several other keys, the one of the same kind tells a person most.
    let same_kind = lines.iter().find(|line| line.key.algorithm() == key.algorithm());
    match same_kind.or(lines.first()) {
        Some(line) => Err(HostKeyError::Changed {
            host: names.display(),
            shown: describe(key),
            known: describe(&line.key),
            origin: line.origin.clone(),
            entry: entry_of(line, names),
        }),
        None => Err(HostKeyError::Unknown {
            host: names.hosts[0].clone(),
            port: names.port,
            shown: describe(key),
        }),
    }
}

/// The name under which `ssh-keygen -R` finds the line.
fn entry_of(line: &Line, names: &Names) -> String {
    let entry = |host: &String, port| {
        Some(crate::known_hosts::lookup_name(host, port)).filter(|name| line.hosts.matches(name))
    };
    let mut forms = names.hosts.iter().flat_map(|host| [entry(host, names.port), entry(host, 22)]).flatten();
    forms.next().unwrap_or_else(|| names.hosts[0].clone())
}

fn verify_certificate(
    known: &KnownHosts,
    names: &Names,
    certificate: &Certificate,
    now: u64,
    sha1: Sha1,
) -> Result<Verdict, Fault> {
    if !certificate.cert_type().is_host() {
        return Err(Fault::UserCertificate);
    }
    let authority = certificate.signature_key();
    let trusted = names.all(known, Marker::Authority);
    let Some(line) = trusted.iter().find(|line| line.key == *authority) else {
        let others: BTreeSet<String> = trusted.iter().map(|line| describe(&line.key)).collect();
        return Err(Fault::UntrustedAuthority { trusted: others.into_iter().collect() });
    };
    if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) && sha1 == Sha1::Refused {
        return Err(Fault::Sha1);
    }
    certificate.verify_signature().map_err(|_| Fault::Signature)?;
    if now < certificate.valid_after() {
        return Err(Fault::NotYetValid { seconds: certificate.valid_after() - now });
    }
    if now >= certificate.valid_before() {
        return Err(Fault::Expired { seconds: now - certificate.valid_before() });
    }
    let principals = certificate.valid_principals();
    if principals.is_empty() {
        return Err(Fault::NoPrincipals);
    }
    if !principals
        .iter()
        .any(|principal| names.hosts.iter().any(|host| glob_matches(&principal.to_ascii_lowercase(), host)))
    {
        return Err(Fault::OtherHost { principals: principals.to_vec() });
    }
    // No critical option is defined for hosts, and one that is not understood forbids.
    if let Some(option) = certificate.critical_options().keys().next() {
        return Err(Fault::CriticalOption { option: option.clone() });
    }
    let role = certificate.extensions().get("x-teleport-role");
    if let (Some(wanted), Some(role)) = (names.role, role)
        && role != wanted
    {
        return Err(Fault::OtherRole { role: role.clone(), wanted });
    }
    Ok(Verdict::Certificate {
        authority: authority.fingerprint(HashAlg::Sha256),
        origin: line.origin.clone(),
    })
}
