//! One authenticated SSH connection over any byte stream.

use super::agent::{Logins, Offer};
use super::callbacks::{Callbacks, Ended, HostCheck, Shared, describe, handshake_failure};
use super::channel::Channel;
use super::guard::{Cut, Guarded, WRITE_STALL};
use super::host_key::Expected;
use super::inbox::Budget;
use super::refused_open::RefusedOpen;
use super::signer::Signer;
use crate::identity::{AgentKey, Credential};
use natssh_wire::{Failure, FailureKind, NodeAddr};
use russh::client::{self, AuthResult, Handle, Msg};
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey};
use russh::{AgentAuthError, Disconnect, Preferred, SshId, cipher};
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
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
    /// How many of its keys may be tried, one after the other; at least one is.
    pub attempts: usize,
    /// What the server can be recognised by: asked for first in the key exchange.
    pub expected: Expected,
    /// Decides on the server's key.
    pub check: HostCheck,
    /// Logins that a recording proxy may use the identity for.
    pub agent_logins: Logins,
    /// Memory for what channels leave unread.
    pub budget: Arc<Budget>,
}

/// How long the end of a connection may take to be told after its last answer.
const LAST_WORDS: Duration = Duration::from_millis(100);
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
        let offers = Proof::all_of(&hello.credential);
        let Some(Proof { key, certificate }) = offers.first() else {
            return Err(Failure::new(FailureKind::Identity, "the agent holds no key").hint("ssh-add -l"));
        };
        let offer = Arc::new(Offer {
            signer: signer.clone(),
            certificate: certificate.clone(),
            key: key.clone(),
            logins: hello.agent_logins,
            peer: peer.clone(),
        });
        let callbacks = Callbacks { shared: shared.clone(), check: hello.check, offer };
        let shake = client::connect_stream(library_config(&hello.expected), stream, callbacks);
        let mut handle = match timeout_at(deadline, shake).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(error)) => return Err(handshake_failure(&peer, &shared, &error)),
            Err(_) => return Err(unanswered(&peer, "the key exchange")),
        };
        let login = hello.login;
        let offers = &offers[..hello.attempts.clamp(1, offers.len())];
        let auth = authenticate(&mut handle, &shared, &login, offers, &signer);
        match timeout_at(deadline, auth).await {
            Ok(Ok(Admitted::Yes)) => {}
            Ok(Ok(Admitted::No)) => {
                let text = format!("{peer} refused {login:?} with this identity");
                return Err(Failure::new(FailureKind::Denied, text));
            }
            Ok(Ok(Admitted::WantsMore)) => {
                let text = format!("{peer} wants more of {login:?} than a key, and natssh has nothing more");
                return Err(Failure::new(FailureKind::Denied, text));
            }
            Ok(Ok(Admitted::Lost(reason))) => {
                let text = format!("{peer} broke off authentication: {reason}");
                return Err(Failure::new(FailureKind::Unreachable, text));
            }
            Ok(Err(error)) => return Err(auth_failure(&peer, &error)),
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
        let (connection, name) = (self.clone(), name.to_owned());
        see_through(|mut caller| async move {
            let opened = connection.open_subsystem(&name, agent, &mut caller).await;
            drop(caller.send(opened));
        })
        .await
    }

    /// Asks the server to connect to `target` and opens a channel to it (RFC 4254, 7.2;
    /// `direct-streamlocal` is in OpenSSH's PROTOCOL, 2.4).
    /// If the caller stops waiting, the channel is closed, also when its confirmation comes late.
    ///
    /// # Errors
    /// See [`OpenError`]; never `Refused`.
    pub async fn direct(self: &Arc<Self>, target: Target) -> Result<Channel, OpenError> {
        let connection = self.clone();
        see_through(|caller| async move { drop(caller.send(connection.open_direct(target).await)) }).await
    }

    async fn open_direct(&self, target: Target) -> Result<Channel, OpenError> {
        let opened = match target {
            // The originator is for the server's log alone.
            Target::Tcp(node) => {
                let port = u32::from(node.port);
                self.handle.channel_open_direct_tcpip(node.host, port, "127.0.0.1", 0).await
            }
            Target::Socket(path) => self.handle.channel_open_direct_streamlocal(path).await,
        };
        self.channel(opened).await
    }

    async fn open_subsystem(
        &self,
        name: &str,
        agent: bool,
        caller: &mut oneshot::Sender<Result<Channel, OpenError>>,
    ) -> Result<Channel, OpenError> {
        let channel = self.channel(self.handle.channel_open_session().await).await?;
        let lost = |error: russh::Error| self.lost(&error);
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

    /// What the library opened, as a channel of ours.
    async fn channel(&self, opened: Result<russh::Channel<Msg>, russh::Error>) -> Result<Channel, OpenError> {
        let opened = match opened {
            Ok(opened) => opened,
            Err(russh::Error::ChannelOpenFailure(reason)) => {
                return Err(OpenError::NoChannel(self.shared.refused_opens.explain(reason.into()).await));
            }
            Err(other) => return Err(self.lost(&other)),
        };
        let id = opened.id();
        let inbox = self.shared.inbox(id);
        let (read, write) = opened.split();
        // With this half alive, the library would wait for its reader before it calls back.
        drop(read);
        Ok(Channel::new(id, inbox, write, self.shared.clone()))
    }

    fn lost(&self, error: &russh::Error) -> OpenError {
        match &*self.shared.ended.borrow() {
            Some(ended) => OpenError::Lost(ended.reason.to_string()),
            None => OpenError::Lost(describe(error)),
        }
    }
}

/// Runs an opening in a task that outlives an impatient caller: dropping the
/// library's future would leak the channel.
async fn see_through<T: Send + 'static, F>(
    open: impl FnOnce(oneshot::Sender<Result<T, OpenError>>) -> F,
) -> Result<T, OpenError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(open(sender));
    receiver.await.unwrap_or(Err(OpenError::Lost("the connection ended".into())))
}

/// What a server is asked to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host and port, resolved and dialled by the server.
    Tcp(NodeAddr),
    /// A unix socket on the server.
    Socket(String),
}

/// Why a stream was not opened. Nothing has run on the node.
#[derive(Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The server said no; the text it gave, which may be empty.
    Refused(String),
    /// The server gave no channel at all.
    NoChannel(RefusedOpen),
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

/// One public key to be tried, with the certificate to show for it.
struct Proof {
    key: PublicKey,
    certificate: Option<Certificate>,
}

impl Proof {
    /// In the order in which to try them: a certificate before its bare key, an agent's keys as it lists them.
    fn all_of(credential: &Credential) -> Vec<Self> {
        match credential {
            Credential::Key { key, certificate } => {
                let with = |certificate| Self { key: key.public_key().clone(), certificate };
                let certified = certificate.as_deref().cloned().map(|certificate| with(Some(certificate)));
                certified.into_iter().chain([with(None)]).collect()
            }
            Credential::Agent { keys, .. } => {
                let proof = |held: &AgentKey| match held {
                    AgentKey::Certificate(certificate) => Self {
                        key: PublicKey::from(certificate.public_key().clone()),
                        certificate: Some((**certificate).clone()),
                    },
                    AgentKey::Key(key) => Self { key: (**key).clone(), certificate: None },
                };
                keys.iter().map(proof).collect()
            }
        }
    }
}

/// What the server said to all keys.
enum Admitted {
    Yes,
    No,
    /// The key was right, and not enough.
    WantsMore,
    /// Nothing: the connection ended under the question.
    Lost(Arc<str>),
}

/// Tries one key after the other. Servers count attempts, and ban: the caller chose how many.
async fn authenticate(
    handle: &mut Handle<Callbacks>,
    shared: &Shared,
    login: &str,
    offers: &[Proof],
    signer: &Signer,
) -> Result<Admitted, AgentAuthError> {
    let sha1 = shared.sha1.load(Ordering::Relaxed);
    for Proof { key, certificate } in offers {
        let hash = match key.algorithm() {
            Algorithm::Rsa { .. } => rsa_hash(handle, sha1).await,
            _ => None,
        };
        let (mut signer, key) = (signer.clone(), key.clone());
        let answer = match certificate.clone() {
            Some(certificate) => {
                handle.authenticate_certificate_with(login, certificate, hash, &mut signer).await?
            }
            None => handle.authenticate_publickey_with(login, key, hash, &mut signer).await?,
        };
        match answer {
            AuthResult::Success => return Ok(Admitted::Yes),
            AuthResult::Failure { partial_success: true, .. } => return Ok(Admitted::WantsMore),
            AuthResult::Failure { remaining_methods, .. } if remaining_methods.is_empty() => {
                if let Some(reason) = lost(shared).await {
                    return Ok(Admitted::Lost(reason));
                }
            }
            AuthResult::Failure { .. } => {}
        }
    }
    Ok(Admitted::No)
}

/// Why the connection ended without a word of the server's, if it did. The library calls that a refusal without
/// further methods, and a path that broke must not pass for a server that refuses: those are asked no more for a while.
async fn lost(shared: &Shared) -> Option<Arc<str>> {
    let mut ended = shared.ended.subscribe();
    // It is told on the way out of the connection's task, which has answered already.
    let ended = timeout(LAST_WORDS, ended.wait_for(Option::is_some)).await.ok()?.ok()?;
    let reason = ended.as_ref()?.reason.clone();
    // A server that ends it with a word may well have refused: "Too many authentication failures".
    (!reason.starts_with(super::callbacks::BY_SERVER)).then_some(reason)
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

/// One configuration for all connections to servers of which nothing special is expected, as most are.
fn library_config(expected: &Expected) -> Arc<client::Config> {
    static USUAL: OnceLock<Arc<client::Config>> = OnceLock::new();
    let make = |expected: &Expected| {
        Arc::new(client::Config {
            client_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-natssh_", env!("CARGO_PKG_VERSION")))),
            window_size: WINDOW,
            preferred: preferred(expected),
            nodelay: true,
            ..client::Config::default()
        })
    };
    if *expected == Expected::default() {
        USUAL.get_or_init(|| make(expected)).clone()
    } else {
        make(expected)
    }
}

/// The kinds of key that are expected come first, as in ssh (sshconnect2.c, order_hostkeyalgs): the server
/// has several, and shows the one that is asked for. Certificates come before keys where an authority is
/// known or nothing is, and SHA-1 RSA last: it is taken only from a server that has nothing else. AES-GCM
/// first, as machines have it in hardware.
fn preferred(expected: &Expected) -> Preferred {
    let rsa = |hash| Algorithm::Rsa { hash };
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let mut keys = vec![
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        rsa(Some(HashAlg::Sha512)),
        rsa(Some(HashAlg::Sha256)),
        rsa(None),
    ];
    let mut certificates = keys.clone();
    let is_known = |kind: &Algorithm| match kind {
        // A known RSA key says nothing of the hash to sign with.
        Algorithm::Rsa { .. } => expected.keys.iter().any(|known| matches!(known, Algorithm::Rsa { .. })),
        other => expected.keys.contains(other),
    };
    keys.sort_by_key(|kind| !is_known(kind));
    if !expected.certificate && !expected.keys.is_empty() {
        // Only a certificate's bare key could be recognised.
        certificates.retain(is_known);
    }
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
