//! Proving who one is: keys are shown to the server one after the other, as ssh does it.
//!
//! Each costs the server one attempt (`MaxAuthTries`, 6 by default), and a key that it accepts is signed with only
//! then. How many are shown is the caller's to say.

use super::callbacks::{BY_SERVER, Callbacks};
use super::offer::KeyOffer;
use super::shared::Shared;
use super::signer::Signer;
use russh::client::{AuthResult, Handle};
use russh::keys::{Algorithm, HashAlg};
use russh::{AgentAuthError, MethodKind, MethodSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// How long the end of a connection may take to be told after its last answer.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What the server said to all keys.
pub(super) enum Admitted {
    /// This one was enough; or none was needed.
    Yes(Option<usize>),
    /// None was.
    No(NotAdmitted),
    /// Nothing: the connection ended under the question.
    Lost(Arc<str>),
    /// The same, before the question was put.
    Closed,
}

/// A server that let nobody in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotAdmitted {
    /// Keys that were shown.
    pub shown: usize,
    /// The ways that the server leaves open, by the names of RFC 4252.
    pub methods: Vec<&'static str>,
    /// It accepted a key, and wants more.
    pub wants_more: bool,
    /// A key that it would have accepted did not sign; why, in lower case.
    pub unsigned: Option<String>,
    /// It ended the connection; with what words.
    pub cut_off: Option<String>,
}

impl NotAdmitted {
    /// The ways that are left beside keys: passwords, tickets, a host's own key.
    pub fn other_ways(&self) -> impl Iterator<Item = &'static str> {
        self.methods.iter().copied().filter(|method| !["publickey", "none"].contains(method))
    }
}

/// Shows one key after the other; with none to show, asks what else the server would take.
pub(super) async fn authenticate(
    handle: &mut Handle<Callbacks>,
    shared: &Shared,
    login: &str,
    offers: &[KeyOffer],
    hashes: &[HashAlg],
) -> Admitted {
    let mut not = NotAdmitted::default();
    if offers.is_empty() {
        return match handle.authenticate_none(login).await {
            Ok(answer) => heard(answer, None, &mut not, shared).await.unwrap_or(Admitted::No(not)),
            Err(_) => Admitted::Closed,
        };
    }
    let sha1 = shared.sha1.load(Ordering::Relaxed);
    for (n, offer) in offers.iter().enumerate() {
        let hash = match offer.key.algorithm() {
            Algorithm::Rsa { .. } => rsa_hash(handle, sha1, hashes).await,
            _ => None,
        };
        not.shown += 1;
        match show(handle, login, offer, hash).await {
            Ok(answer) => {
                if let Some(end) = heard(answer, Some(n), &mut not, shared).await {
                    return end;
                }
            }
            Err(AgentAuthError::Send(_)) => return Admitted::Closed,
            // As ssh does: the next one may sign.
            Err(AgentAuthError::Key(error)) => {
                let why = match &offer.signer {
                    Signer::Locked(why) => why.clone(),
                    _ => format!("a key would not sign: {error}"),
                };
                not.unsigned.get_or_insert(why);
            }
        }
    }
    Admitted::No(not)
}

async fn show(
    handle: &mut Handle<Callbacks>,
    login: &str,
    offer: &KeyOffer,
    hash: Option<HashAlg>,
) -> Result<AuthResult, AgentAuthError> {
    let (mut signer, key) = (offer.signer.clone(), offer.key.clone());
    match offer.certificate.clone() {
        Some(certificate) => {
            handle.authenticate_certificate_with(login, certificate, hash, &mut signer).await
        }
        None => handle.authenticate_publickey_with(login, key, hash, &mut signer).await,
    }
}

/// Takes note of an answer to the key that was shown; something where it was the last.
async fn heard(
    answer: AuthResult,
    shown: Option<usize>,
    not: &mut NotAdmitted,
    shared: &Shared,
) -> Option<Admitted> {
    match answer {
        AuthResult::Success => Some(Admitted::Yes(shown)),
        AuthResult::Failure { partial_success: true, remaining_methods } => {
            not.methods = names(&remaining_methods);
            not.wants_more = true;
            Some(Admitted::No(std::mem::take(not)))
        }
        AuthResult::Failure { remaining_methods, .. } if remaining_methods.is_empty() => {
            // The library says this for the end of the connection, too. A path that broke must not pass for a server
            // that refuses: those are asked no more for a while.
            let reason = ended(shared).await?;
            if !reason.starts_with(BY_SERVER) {
                return Some(Admitted::Lost(reason));
            }
            // A server that ends it with a word refuses: "Too many authentication failures".
            not.cut_off = Some(reason[BY_SERVER.len()..].to_owned());
            Some(Admitted::No(std::mem::take(not)))
        }
        AuthResult::Failure { remaining_methods, .. } => {
            not.methods = names(&remaining_methods);
            None
        }
    }
}

fn names(methods: &MethodSet) -> Vec<&'static str> {
    methods.iter().map(|method: &MethodKind| <&'static str>::from(method)).collect()
}

/// Why the connection ended, if it did: that is told on the way out of its task, which has answered already.
async fn ended(shared: &Shared) -> Option<Arc<str>> {
    let mut ended = shared.ended.subscribe();
    let ended = timeout(LAST_WORDS, ended.wait_for(Option::is_some)).await.ok()?.ok()?;
    Some(ended.as_ref()?.reason.clone())
}

/// The hash to sign with under an RSA key, among those that `wanted` has; any where it has none.
///
/// A server that proves its own key with SHA-1 announces nothing better, and asking the library would wait a second
/// for the announcement.
async fn rsa_hash(handle: &Handle<Callbacks>, sha1: bool, wanted: &[HashAlg]) -> Option<HashAlg> {
    if sha1 && wanted.is_empty() {
        return None;
    }
    let newest = Some(wanted.first().copied().unwrap_or(HashAlg::Sha512));
    match handle.best_supported_rsa_hash().await.ok().flatten() {
        Some(Some(hash)) if wanted.is_empty() || wanted.contains(&hash) => Some(hash),
        Some(None) if wanted.is_empty() => None,
        _ => newest,
    }
}
