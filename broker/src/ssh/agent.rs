//! The agent that a recording proxy may ask, and nobody else.
//!
//! A proxy that records sessions ends the user's SSH session itself and
//! authenticates to the node with the user's agent. What it gets is not that
//! agent but this one: it knows one identity and signs nothing but a userauth
//! request (RFC 4252, section 7) for a login that the user asked for.
//! The protocol is that of draft-ietf-sshm-ssh-agent.

use super::signer::Signer;
use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_encoding::{Decode, Encode};
use russh::keys::{Certificate, HashAlg, PublicKey};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// A userauth request with a certificate is below 16 KiB; OpenSSH's agent takes 256.
const MESSAGE_LIMIT: usize = 64 << 10;
/// The proxy dials the node as soon as it has the agent.
const IDLE: Duration = Duration::from_secs(60);

/// Logins that streams of a connection asked for. The agent channel does not
/// say which stream it serves, so it may sign for any of them.
#[derive(Debug, Clone, Default)]
pub struct Logins(Arc<Mutex<BTreeSet<String>>>);

impl Logins {
    /// Allows one more login.
    pub fn allow(&self, login: &str) {
        self.lock().insert(login.to_owned());
    }

    fn allowed(&self, login: &str) -> bool {
        self.lock().contains(login)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is offered: the keys, and the logins they may be used for.
pub(super) struct Offer {
    pub(super) signer: Signer,
    pub(super) certificate: Option<Certificate>,
    pub(super) key: PublicKey,
    pub(super) logins: Logins,
    /// Who is asking, for the log.
    pub(super) peer: String,
}

impl Offer {
    /// Answers on one agent channel until it ends or falls silent.
    pub(super) async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        loop {
            let Ok(Ok(length)) = timeout(IDLE, stream.read_u32()).await else { return };
            let length = length as usize;
            if length == 0 || length > MESSAGE_LIMIT {
                return;
            }
            let mut message = vec![0; length];
            let Ok(Ok(_)) = timeout(IDLE, stream.read_exact(&mut message)).await else { return };
            let answer = self.answer(&message).await.unwrap_or_else(|| vec![FAILURE]);
            let mut framed = Vec::with_capacity(answer.len() + 4);
            if answer.encode(&mut framed).is_err() {
                return;
            }
            let Ok(Ok(())) = timeout(IDLE, stream.write_all(&framed)).await else { return };
        }
    }

    async fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        match message.split_first()? {
            (&REQUEST_IDENTITIES, _) => self.identities(),
            (&SIGN_REQUEST, request) => self.sign(request).await,
            _ => None,
        }
    }

    /// The certificate, then the bare key for peers that skip agents with certificates only.
    fn identities(&self) -> Option<Vec<u8>> {
        let blobs: Vec<Vec<u8>> =
            self.certificate_blob().into_iter().chain([self.key.to_bytes().ok()?]).collect();
        let mut answer = vec![IDENTITIES_ANSWER];
        u32::try_from(blobs.len()).ok()?.encode(&mut answer).ok()?;
        for blob in blobs {
            blob.encode(&mut answer).ok()?;
            "natssh".encode(&mut answer).ok()?;
        }
        Some(answer)
    }

    async fn sign(&self, mut request: &[u8]) -> Option<Vec<u8>> {
        let reader = &mut request;
        let blob = Vec::<u8>::decode(reader).ok()?;
        let data = Vec::<u8>::decode(reader).ok()?;
        let flags = u32::decode(reader).ok()?;
        let login = userauth_login(&data, &blob)?;
        if !self.logins.allowed(&login) {
            tracing::warn!(peer = self.peer, login, "the agent refused to sign for another login");
            return None;
        }
        let key = if self.certificate_blob().as_ref() == Some(&blob) {
            AgentIdentity::Certificate { certificate: self.certificate.clone()?, comment: String::new() }
        } else if self.key.to_bytes().ok()? == blob {
            AgentIdentity::PublicKey { key: self.key.clone(), comment: String::new() }
        } else {
            return None;
        };
        let hash = match flags {
            f if f & RSA_SHA2_512 != 0 => Some(HashAlg::Sha512),
            f if f & RSA_SHA2_256 != 0 => Some(HashAlg::Sha256),
            _ => None,
        };
        let signature = self.signer.sign(&key, hash, &data).await.ok()?;
        tracing::info!(peer = self.peer, login, "the agent signed a userauth request");
        let mut answer = vec![SIGN_RESPONSE];
        signature.encode(&mut answer).ok()?;
        Some(answer)
    }

    fn certificate_blob(&self) -> Option<Vec<u8>> {
        self.certificate.as_ref().and_then(|certificate| certificate.to_bytes().ok())
    }
}

/// The login of a publickey userauth request made with the key `blob`, if `data` is one and nothing else.
fn userauth_login(mut data: &[u8], blob: &[u8]) -> Option<String> {
    const USERAUTH_REQUEST: u8 = 50;
    let reader = &mut data;
    let session = Vec::<u8>::decode(reader).ok()?;
    // Session ids are hashes: 20 bytes (SHA-1) to 64 (SHA-512).
    if !(20..=64).contains(&session.len()) || u8::decode(reader).ok()? != USERAUTH_REQUEST {
        return None;
    }
    let login = String::decode(reader).ok()?;
    let service = String::decode(reader).ok()?;
    let method = String::decode(reader).ok()?;
    let signed = u8::decode(reader).ok()?;
    let _algorithm = String::decode(reader).ok()?;
    let key = Vec::<u8>::decode(reader).ok()?;
    let whole = reader.is_empty();
    (service == "ssh-connection" && method == "publickey" && signed == 1 && key == blob && whole)
        .then_some(login)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use russh::keys::{Algorithm, PrivateKey};

    fn userauth(login: &str, method: &str, key: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        [7u8; 32].as_slice().encode(&mut data).unwrap();
        50u8.encode(&mut data).unwrap();
        for text in [login, "ssh-connection", method] {
            text.encode(&mut data).unwrap();
        }
        1u8.encode(&mut data).unwrap();
        "ssh-ed25519".encode(&mut data).unwrap();
        key.encode(&mut data).unwrap();
        data
    }

    fn offer() -> Offer {
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let logins = Logins::default();
        logins.allow("root");
        Offer {
            key: key.public_key().clone(),
            signer: Signer::Key(Arc::new(key)),
            certificate: None,
            logins,
            peer: "proxy".into(),
        }
    }

    async fn ask(offer: &Offer, data: &[u8]) -> Option<Vec<u8>> {
        let mut request = vec![SIGN_REQUEST];
        offer.key.to_bytes().unwrap().encode(&mut request).unwrap();
        data.encode(&mut request).unwrap();
        0u32.encode(&mut request).unwrap();
        offer.answer(&request).await
    }

    #[tokio::test]
    async fn it_signs_a_userauth_request_for_the_expected_login_only() {
        let offer = offer();
        let blob = offer.key.to_bytes().unwrap();
        assert!(ask(&offer, &userauth("root", "publickey", &blob)).await.is_some());
        assert_eq!(ask(&offer, &userauth("admin", "publickey", &blob)).await, None);
        assert_eq!(ask(&offer, &userauth("root", "hostbased", &blob)).await, None);
        assert_eq!(ask(&offer, &userauth("root", "publickey", b"another key")).await, None);
        assert_eq!(ask(&offer, b"a git commit").await, None);
        let mut longer = userauth("root", "publickey", &blob);
        longer.push(0);
        assert_eq!(ask(&offer, &longer).await, None);
    }

    #[tokio::test]
    async fn it_lists_its_key_over_the_channel_and_leaves_at_its_end() {
        let (mut near, far) = tokio::io::duplex(4096);
        let server = tokio::spawn(async move { offer().serve(far).await });
        near.write_all(&[0, 0, 0, 1, REQUEST_IDENTITIES]).await.unwrap();
        let length = near.read_u32().await.unwrap() as usize;
        let mut answer = vec![0; length];
        near.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..5], [IDENTITIES_ANSWER, 0, 0, 0, 1]);
        drop(near);
        server.await.unwrap();
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_sign_or_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(userauth_login(&bytes, b"key"), None);
        }
    }
}
