//! Whether a node is the one that was meant, by what the user's settings say: known_hosts files and
//! `StrictHostKeyChecking`, as in ssh's check_host_key (sshconnect.c).
//!
//! [`judge`] thinks; the rest reads files before the handshake, and writes a new key down after it.

use super::NotOpened;
use super::proof;
use super::remember::{self, Place};
use crate::failures::unix_now;
use crate::known_hosts::{Dialect, KnownHosts};
use crate::pattern::glob_matches;
use crate::ssh::HostCheck;
use crate::ssh::host_key::{self, Expected, HostKeyError, Names, Presented, Sha1, Verdict};
use crate::target::{Strict, Target, Trust};
use natssh_wire::{Failure, FailureKind};
use ssh_key::{Certificate, PublicKey};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};

/// What is believed of a node, and what came of it.
pub(super) struct Trusted {
    rules: Arc<Rules>,
    /// What the handshake showed, where there is something left to do about it.
    open: Arc<Mutex<Option<Open>>>,
    place: Option<Place>,
}

struct Rules {
    known: KnownHosts,
    names: Names,
    /// As ssh would name the host.
    host: String,
    strict: Strict,
    /// `CASignatureAlgorithms`; anything where it is empty.
    authorities: Vec<String>,
    /// `RequiredRSASize`.
    least_rsa: u32,
}

/// What is left to do when the node has shown its key.
enum Open {
    /// It has to be written down.
    Remember(PublicKey),
    /// ssh has to decide; why.
    RealSsh(String),
}

/// What is to be done about a key.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Believe,
    /// Nobody knows it yet, and that is enough.
    Remember(PublicKey),
    Refuse(Failure),
    RealSsh(String),
}

impl Trusted {
    /// Reads the known_hosts files. One that is not there holds nothing.
    pub(super) async fn read(target: &Target) -> Result<Self, NotOpened> {
        let trust = &target.trust;
        if trust.command.is_some() {
            // It is the caller's program, run in the caller's environment.
            return Err(NotOpened::RealSsh("KnownHostsCommand is ssh's to run".into()));
        }
        let (name, port) = name(target);
        let place = trust.user_files.first().map(|file| Place {
            file: file.clone(),
            hash: trust.hash,
            host: name.to_owned(),
            port,
        });
        let rules = Rules {
            known: known(trust).await,
            names: Names::new(name, port),
            host: name.to_owned(),
            strict: trust.strict,
            authorities: target.algorithms.authorities.clone(),
            least_rsa: target.algorithms.least_rsa,
        };
        Ok(Self { rules: Arc::new(rules), open: Arc::default(), place })
    }

    /// What to ask the node for.
    pub(super) fn expected(&self) -> Expected {
        host_key::expected(&self.rules.known, &self.rules.names)
    }

    /// For the handshake.
    pub(super) fn check(&self) -> HostCheck {
        let (rules, open) = (self.rules.clone(), self.open.clone());
        Box::new(move |presented| {
            let (left, result) = match judge(&rules, presented, unix_now()) {
                Judged::Believe => (None, Ok(())),
                Judged::Remember(key) => (Some(Open::Remember(key)), Ok(())),
                Judged::Refuse(failure) => (None, Err(failure)),
                Judged::RealSsh(why) => {
                    let failure = Failure::new(FailureKind::HostKey, why.clone());
                    (Some(Open::RealSsh(why)), Err(failure))
                }
            };
            *open.lock().unwrap_or_else(PoisonError::into_inner) = left;
            result
        })
    }

    /// Does what is left to do. What ssh would have told the user about it, if anything.
    pub(super) async fn settle(self) -> Result<Option<String>, NotOpened> {
        let left = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let key = match left {
            None => return Ok(None),
            Some(Open::RealSsh(why)) => return Err(NotOpened::RealSsh(why)),
            Some(Open::Remember(key)) => key,
        };
        let Some(place) = self.place else { return Ok(None) };
        let written = tokio::task::spawn_blocking(move || remember::remember(&place, &key)).await;
        match written {
            Ok(Ok(warning)) => Ok(warning),
            Ok(Err(failure)) => Err(NotOpened::Failed(failure)),
            Err(_) => Ok(None),
        }
    }
}

/// Under which name and port a node's key is known: an alias stands for both.
fn name(target: &Target) -> (&str, u16) {
    match &target.trust.alias {
        Some(alias) => (alias, 22),
        None => (&target.host, target.port),
    }
}

async fn known(trust: &Trust) -> KnownHosts {
    let mut known = KnownHosts::default();
    for path in trust.user_files.iter().chain(&trust.global_files) {
        match tokio::fs::read(path).await {
            Ok(bytes) => {
                // Comments may be in any encoding.
                let text = String::from_utf8_lossy(&bytes);
                known.extend(KnownHosts::parse(&text, &path.to_string_lossy(), Dialect::OpenSsh));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "known_hosts not read"),
        }
    }
    known
}

fn judge(rules: &Rules, presented: &Presented<'_>, now: u64) -> Judged {
    let verify = |presented| host_key::verify(&rules.known, &rules.names, presented, now, Sha1::Refused);
    let verdict = verify(*presented);
    // Like ssh: a certificate that does not serve still holds a key.
    let plain = match presented {
        Presented::Key(key) => (*key).clone(),
        Presented::Certificate(certificate) => PublicKey::from(certificate.public_key().clone()),
    };
    if let Some(bits) = proof::rsa_bits(plain.key_data()).filter(|bits| *bits < rules.least_rsa) {
        let text =
            format!("{} shows an RSA key of {bits} bits, which RequiredRSASize does not accept", rules.host);
        let hint = "ssh -G HOST | grep requiredrsasize";
        return Judged::Refuse(Failure::new(FailureKind::HostKey, text).hint(hint));
    }
    let failure = match (&verdict, presented) {
        (Ok(Verdict::Certificate { .. }), Presented::Certificate(certificate)) => {
            match unwanted_signature(rules, certificate) {
                None => return Judged::Believe,
                Some(failure) => failure,
            }
        }
        (Ok(_), _) => return Judged::Believe,
        (Err(error), _) => error.to_failure(),
    };
    match (verify(Presented::Key(&plain)), rules.strict) {
        (Ok(_), _) => Judged::Believe,
        (Err(HostKeyError::Unknown { .. }), Strict::AcceptNew | Strict::No) => Judged::Remember(plain),
        (Err(HostKeyError::Unknown { .. }), Strict::Ask) => {
            Judged::RealSsh(format!("the host key of {} is not known, and ssh asks", rules.host))
        }
        // It goes on, but types no password and forwards nothing.
        (Err(HostKeyError::Changed { .. }), Strict::No) => Judged::RealSsh(format!(
            "the host key of {} has changed, and StrictHostKeyChecking is off",
            rules.host
        )),
        (Err(_), _) => Judged::Refuse(failure),
    }
}

/// What is wrong with how a certificate is signed, if the user's settings do not accept that.
fn unwanted_signature(rules: &Rules, certificate: &Certificate) -> Option<Failure> {
    let algorithm = certificate.signature().algorithm();
    let accepted = rules.authorities.is_empty()
        || rules.authorities.iter().any(|pattern| glob_matches(pattern, algorithm.as_str()));
    let text = format!(
        "{} shows a certificate that is signed with {algorithm}, which CASignatureAlgorithms leaves out",
        rules.host
    );
    (!accepted).then(|| Failure::new(FailureKind::HostKey, text).hint("ssh -G HOST | grep casignature"))
}
