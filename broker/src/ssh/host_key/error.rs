//! Why a server is not believed, in words for the one who called ssh.

use crate::identity::lifetime::span;
use crate::known_hosts::Origin;
use natssh_wire::{Failure, FailureKind};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg};
use std::fmt;

/// Why a server is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostKeyError {
    /// A line says that the key must not be believed any more.
    #[error("{} of {host} is revoked at {origin}: {key}", if *.is_authority { "the authority that signed the certificate" } else { "the host key" })]
    Revoked {
        /// The server.
        host: String,
        /// Whether it is the authority's key, or the server's own.
        is_authority: bool,
        /// That key.
        key: String,
        /// The line.
        origin: Origin,
    },
    /// Another key is known of this server: it was rebuilt, or somebody else answers.
    #[error("the host key of {host} has changed: it shows {shown}, and {origin} says {known}")]
    Changed {
        /// The server.
        host: String,
        /// The key that it shows, as [`describe`] puts it.
        shown: String,
        /// The key that is known.
        known: String,
        /// The line that holds it.
        origin: Origin,
        /// The name under which that line is found.
        entry: String,
    },
    /// Nothing is known of this server.
    #[error("the host key of {host}:{port} is not known: it shows {shown}")]
    Unknown {
        /// The server.
        host: String,
        /// Its port.
        port: u16,
        /// The key that it shows, as [`describe`] puts it.
        shown: String,
    },
    /// It shows a certificate that proves nothing here, and its key is not known either.
    #[error("{host} {fault} (its key is {key}, signed by {authority})")]
    Certificate {
        /// The server.
        host: String,
        /// Its key.
        key: String,
        /// Who signed it.
        authority: String,
        /// The Teleport cluster that it should belong to.
        cluster: Option<String>,
        /// What is wrong with the certificate.
        fault: Box<Fault>,
    },
}

/// What is wrong with a host certificate; reads on after the host's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It was made for a user.
    UserCertificate,
    /// No line trusts its authority for this host.
    UntrustedAuthority {
        /// The authorities that are trusted for this host.
        trusted: Vec<String>,
    },
    /// Its signature rests on SHA-1.
    Sha1,
    /// Its signature is not the authority's.
    Signature,
    /// It is past its end.
    Expired {
        /// By how much.
        seconds: u64,
    },
    /// Its beginning is still to come.
    NotYetValid {
        /// In how long.
        seconds: u64,
    },
    /// It names no host.
    NoPrincipals,
    /// It names others.
    OtherHost {
        /// Which.
        principals: Vec<String>,
    },
    /// It holds a condition that natssh does not know.
    CriticalOption {
        /// Which.
        option: String,
    },
    /// It says that its holder is something else in the cluster.
    OtherRole {
        /// What it says.
        role: String,
        /// What was wanted.
        wanted: &'static str,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserCertificate => f.write_str("shows a user's certificate instead of a host's"),
            Self::UntrustedAuthority { trusted } if trusted.is_empty() => {
                f.write_str("shows a certificate, and no authority is trusted for it")
            }
            Self::UntrustedAuthority { trusted } => {
                f.write_str("shows a certificate of another authority than the trusted ")?;
                list(f, trusted)
            }
            Self::Sha1 => f.write_str("shows a certificate that is signed with SHA-1"),
            Self::Signature => f.write_str("shows a certificate whose signature is wrong"),
            Self::Expired { seconds } => write!(f, "shows a certificate that expired {} ago", span(*seconds)),
            Self::NotYetValid { seconds } => {
                write!(f, "shows a certificate that is valid only in {}", span(*seconds))
            }
            Self::NoPrincipals => f.write_str("shows a certificate that names no host"),
            Self::OtherHost { principals } => {
                f.write_str("shows a certificate for ")?;
                list(f, principals)
            }
            Self::CriticalOption { option } => {
                write!(f, "shows a certificate with the unknown condition {option:?}")
            }
            Self::OtherRole { role, wanted } => {
                write!(f, "shows the certificate of a Teleport {role:?} and not of a {wanted}")
            }
        }
    }
}

impl HostKeyError {
    /// For the one who asked.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        let failure = Failure::new(FailureKind::HostKey, self.to_string());
        match self {
            Self::Revoked { origin, .. } => failure.hint(format!("ask who revoked it; the line is {origin}")),
            Self::Changed { origin, entry, .. } => failure
                .hint(format!("if the change is expected: ssh-keygen -R '{entry}' -f '{}'", origin.file)),
            Self::Unknown { host, port, .. } => {
                failure.hint(format!("compare and accept it once with: ssh -p {port} {host}"))
            }
            Self::Certificate { fault, cluster, .. } => match (&**fault, cluster) {
                (Fault::UntrustedAuthority { .. }, Some(cluster)) => failure.hint(format!(
                    "tsh login brings the authorities of {cluster}; tctl auth export --type=host prints them"
                )),
                (Fault::UntrustedAuthority { .. }, None) => {
                    failure.hint("add its @cert-authority line to known_hosts")
                }
                (Fault::NotYetValid { .. } | Fault::Expired { .. }, _) => {
                    failure.hint("compare the clocks: date")
                }
                (Fault::OtherHost { .. }, _) => failure.hint("dial it by a name that the certificate holds"),
                _ => failure,
            },
        }
    }
}

/// At most four, so that a sentence stays one.
fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (n, item) in items.iter().take(4).enumerate() {
        write!(f, "{}{item}", if n == 0 { "" } else { ", " })?;
    }
    if items.len() > 4 { write!(f, " and {} more", items.len() - 4) } else { Ok(()) }
}

/// A key as a person compares it: its kind, and its SHA-256 fingerprint.
#[must_use]
pub fn describe(key: &KeyData) -> String {
    format!("{} {}", kind(key), key.fingerprint(HashAlg::Sha256))
}

/// The kind of a key, in ssh-keygen's words.
#[must_use]
pub fn kind(key: &KeyData) -> &'static str {
    match key.algorithm() {
        Algorithm::Rsa { .. } => "RSA",
        Algorithm::Ed25519 => "ED25519",
        Algorithm::Ecdsa { .. } => "ECDSA",
        Algorithm::Dsa => "DSA",
        Algorithm::SkEd25519 => "ED25519-SK",
        Algorithm::SkEcdsaSha2NistP256 => "ECDSA-SK",
        _ => "key",
    }
}
