//! One authenticated SSH connection over any byte stream.

use super::agent::{Logins, Offer};
use super::callbacks::{Callbacks, Ended, HostCheck, Shared, describe, handshake_failure};
use super::channel::Channel;
use super::guard::{Cut, Guarded, WRITE_STALL};
use super::inbox::Budget;
use super::signer::Signer;
use crate::identity::{AgentKey, Credential};
use natssh_wire::{Failure, FailureKind};
use russh::client::{self, AuthResult, Handle};
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey};
use russh::{AgentAuthError, Disconnect, Preferred, SshId, cipher};
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// Larger than OpenSSH's 2 MiB, so that a long path is filled by one stream.
const WINDOW: u32 = 8 << 20;

/// With whom to connect, as whom, and what to trust.
pub struct Hello {
    /// The server, for messages: `proxy teleport.example.com:3023`.
    pub peer: String,
    /// The SSH user name.
    pub login: String,
    /// Proves it.
    pub credential: Credential,
    /// Decides on the server's key.
    pub check: HostCheck,
    /// Logins that a recording proxy may use the identity for.
    pub agent_logins: Logins,
    /// Memory for what channels leave unread.
    pub budget: Arc<Budget>,
}

/// How long the goodbye may take before the byte stream is cut.
const GOODBYE: Duration = Duration::from_secs(1);

/// An authenticated connection.
pub struct Connection {
    handle: Handle<Callbacks>,
    shared: Arc<Shared>,
    /// Dropping it cuts the byte stream below, and with it the connection.
    cut: Mutex<Option<Cut>>,
}

impl Connection {
    /// Shakes hands over `stream`, which was dialled by the caller.
    ///
    /// # Errors
    /// `Timeout` names the part of the handshake that was not answered by `deadline`.
    pub async fn open<S>(stream: S, hello: Hello, deadline: Instant) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = hello.peer;
        let (stream, cut) = Guarded::new(stream, WRITE_STALL);
        let shared = Shared::new(hello.budget);
        let signer = Signer::new(&hello.credential);
        let (key, certificate) = public_parts(&hello.credential).ok_or_else(|| {
            Failure::new(FailureKind::Identity, "the agent holds no key").hint("ssh-add -l")
        })?;
        let offer = Arc::new(Offer {
            signer: signer.clone(),
            certificate: certificate.clone(),
            key: key.clone(),
            logins: hello.agent_logins,
            peer: peer.clone(),
        });
        let callbacks = Callbacks { shared: shared.clone(), check: hello.check, offer };
        let shake = client::connect_stream(library_config(), stream, callbacks);
        let mut handle = match timeout_at(deadline, shake).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(error)) => return Err(handshake_failure(&peer, &shared, &error)),
            Err(_) => return Err(unanswered(&peer, "the key exchange")),
        };
        let login = hello.login;
        let sha1 = shared.sha1.load(Ordering::Relaxed);
        let auth = authenticate(&mut handle, &login, key, certificate, signer, sha1);
        match timeout_at(deadline, auth).await {
            Ok(Ok(AuthResult::Success)) => {}
            Ok(Ok(AuthResult::Failure { .. })) => {
                return Err(Failure::new(
                    FailureKind::Denied,
                    format!("{peer} refused {login:?} with this identity"),
                ));
            }
            Ok(Err(error)) => {
                return Err(auth_failure(&peer, &error));
            }
            Err(_) => return Err(unanswered(&peer, "authentication")),
        }
        Ok(Self { handle, shared, cut: Mutex::new(Some(cut)) })
    }

    /// True when the server proved its key with SHA-1 RSA: Teleport up to v8.
    pub fn sha1(&self) -> bool {
        self.shared.sha1.load(Ordering::Relaxed)
    }

    /// The identification the server sent.
    pub fn server(&self) -> &str {
        self.shared.server.get().map_or("", String::as_str)
    }

    /// How the connection ended, once it has.
    pub fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.shared.ended.subscribe()
    }

    /// Channels that are open now.
    pub fn channels(&self) -> usize {
        self.shared.channels()
    }

    /// How long the quietest channel has been silent; none while no channel has carried a byte.
    pub fn silence(&self) -> Option<Duration> {
        self.shared.silence()
    }

    /// Ends the connection, channels and all: with a goodbye if it is heard in
    /// time, and without one if not.
    pub fn close(self: &Arc<Self>) {
        let Some(cut) = self.cut.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let connection = self.clone();
        tokio::spawn(async move {
            let goodbye = connection.handle.disconnect(Disconnect::ByApplication, "", "");
            drop(timeout(GOODBYE, goodbye).await);
            drop(timeout(GOODBYE, connection.ended().wait_for(Option::is_some)).await);
            drop(cut);
        });
    }

    /// One round trip.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn ping(&self) -> Result<Duration, ()> {
        let begun = Instant::now();
        self.handle.send_ping().await.map_err(drop)?;
        // The library also returns when the connection ends under it.
        if self.shared.ended.borrow().is_some() { Err(()) } else { Ok(begun.elapsed()) }
    }

    /// Sends a global request that wants a reply.
    ///
    /// # Errors
    /// It was refused, or the connection ended.
    pub async fn ask(&self, request: &str) -> Result<Vec<u8>, ()> {
        let reply = self.handle.send_global_request(request, &[], true).await.map_err(drop)?;
        Ok(reply.map(|bytes| bytes.to_vec()).unwrap_or_default())
    }

    /// Opens a session channel with a subsystem on it; `agent` offers the agent first.
    /// If the caller stops waiting, the channel is closed, also when its confirmation comes late.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn subsystem(self: &Arc<Self>, name: &str, agent: bool) -> Result<Channel, OpenError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (connection, name) = (self.clone(), name.to_owned());
        // Dropping the library's future would leak the channel: the task sees it through.
        tokio::spawn(async move {
            let mut sender = sender;
            let opened = connection.open_subsystem(&name, agent, &mut sender).await;
            drop(sender.send(opened));
        });
        receiver.await.unwrap_or(Err(OpenError::Lost("the connection ended".into())))
    }

    async fn open_subsystem(
        &self,
        name: &str,
        agent: bool,
        caller: &mut tokio::sync::oneshot::Sender<Result<Channel, OpenError>>,
    ) -> Result<Channel, OpenError> {
        let lost = |error: russh::Error| match &*self.shared.ended.borrow() {
            Some(ended) => OpenError::Lost(ended.reason.to_string()),
            None => OpenError::Lost(describe(&error)),
        };
        let opened = self.handle.channel_open_session().await.map_err(|error| match error {
            russh::Error::ChannelOpenFailure(reason) => OpenError::NoChannel(format!("{reason:?}")),
            other => lost(other),
        })?;
        let id = opened.id();
        let inbox = self.shared.inbox(id);
        let (read, write) = opened.split();
        // With this half alive, the library would wait for its reader before it calls back.
        drop(read);
        let channel = Channel::new(id, inbox, write, self.shared.clone());
        if agent {
            self.shared.agent_offered.store(true, Ordering::Relaxed);
            channel.offer_agent().await.map_err(lost)?;
        }
        channel.request_subsystem(name).await.map_err(lost)?;
        let answer = tokio::select! {
            answer = channel.inbox().answered() => answer,
            () = caller.closed() => return Err(OpenError::Lost("nobody waits for it any more".into())),
        };
        match answer {
            Ok(true) => Ok(channel),
            Ok(false) => Err(OpenError::Refused(channel.inbox().stderr())),
            Err(_) => match &*self.shared.ended.borrow() {
                Some(ended) => Err(OpenError::Lost(ended.reason.to_string())),
                None => Err(OpenError::Refused(channel.inbox().stderr())),
            },
        }
    }
}

/// Why a stream was not opened. Nothing has run on the node.
#[derive(Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The server said no; the text it gave, which may be empty.
    Refused(String),
    /// The server gave no channel at all.
    NoChannel(String),
    /// The connection ended under it.
    Lost(String),
}

/// The connection, or the key, failed in the middle of it.
fn auth_failure(peer: &str, error: &AgentAuthError) -> Failure {
    match error {
        AgentAuthError::Send(_) => Failure::new(
            FailureKind::Unreachable,
            format!("{peer} closed the connection during authentication"),
        ),
        AgentAuthError::Key(error) => {
            Failure::new(FailureKind::Identity, format!("the key would not sign for {peer}: {error}"))
                .hint("ssh-add -l")
        }
    }
}

fn unanswered(peer: &str, part: &str) -> Failure {
    Failure::new(FailureKind::Timeout, format!("{peer} did not answer during {part}"))
}

/// The key and certificate to offer: of an agent's, the first certificate, else its first key.
fn public_parts(credential: &Credential) -> Option<(PublicKey, Option<Certificate>)> {
    match credential {
        Credential::Key { key, certificate } => {
            Some((key.public_key().clone(), certificate.as_deref().cloned()))
        }
        Credential::Agent { keys, .. } => keys.first().map(|offered| match offered {
            AgentKey::Certificate(certificate) => {
                (PublicKey::from(certificate.public_key().clone()), Some((**certificate).clone()))
            }
            AgentKey::Key(key) => ((**key).clone(), None),
        }),
    }
}

/// One attempt with the one identity: servers count attempts, and ban.
async fn authenticate(
    handle: &mut Handle<Callbacks>,
    login: &str,
    key: PublicKey,
    certificate: Option<Certificate>,
    mut signer: Signer,
    sha1: bool,
) -> Result<AuthResult, AgentAuthError> {
    let hash = match key.algorithm() {
        Algorithm::Rsa { .. } => rsa_hash(handle, sha1).await,
        _ => None,
    };
    match certificate {
        Some(certificate) => {
            handle.authenticate_certificate_with(login, certificate, hash, &mut signer).await
        }
        None => handle.authenticate_publickey_with(login, key, hash, &mut signer).await,
    }
}

/// A server that proves its own key with SHA-1 announces nothing better, and
/// asking the library would wait a second for the announcement.
async fn rsa_hash(handle: &Handle<Callbacks>, sha1: bool) -> Option<HashAlg> {
    let newest = Some(HashAlg::Sha512);
    if sha1 {
        return None;
    }
    handle.best_supported_rsa_hash().await.ok().flatten().unwrap_or(newest)
}

fn library_config() -> Arc<client::Config> {
    static CONFIG: OnceLock<Arc<client::Config>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            Arc::new(client::Config {
                client_id: SshId::Standard(Cow::Borrowed(concat!(
                    "SSH-2.0-natssh_",
                    env!("CARGO_PKG_VERSION")
                ))),
                window_size: WINDOW,
                preferred: preferred(),
                nodelay: true,
                ..client::Config::default()
            })
        })
        .clone()
}

/// Certificates before keys, and SHA-1 RSA last: it is taken only from a
/// server that has nothing else. AES-GCM first, as machines have it in hardware.
fn preferred() -> Preferred {
    let rsa = |hash| Algorithm::Rsa { hash };
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let mut keys = vec![
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        rsa(Some(HashAlg::Sha512)),
        rsa(Some(HashAlg::Sha256)),
    ];
    let mut certificates = keys.clone();
    certificates.push(rsa(None));
    keys.push(rsa(None));
    Preferred {
        key: keys.into(),
        host_key_certificates: certificates.into(),
        cipher: vec![
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
            cipher::AES_192_CTR,
            cipher::AES_128_CTR,
        ]
        .into(),
        ..Preferred::DEFAULT
    }
}
