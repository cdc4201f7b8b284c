//! One authenticated SSH connection over any byte stream.

use super::agent::{Logins, Offer};
use super::algorithms::{preferred, rsa_hashes};
use super::authenticate::{Admitted, NotAdmitted, authenticate};
use super::callbacks::{Callbacks, Ended, HostCheck, Shared, describe, handshake_failure};
use super::channel::Channel;
use super::command::CommandChannel;
use super::guard::{Cut, Guarded, WRITE_STALL};
use super::host_key::Expected;
use super::mailbox::{Keeping, Mailbox};
use super::offer::KeyOffer;
use super::refused_open::RefusedOpen;
use crate::target::Algorithms;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use russh::client::{self, Handle, Msg};
use russh::{ChannelId, ChannelWriteHalf, Disconnect, SshId};
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// Larger than OpenSSH's 2 MiB, so that a long path is filled by one stream.
const WINDOW: u32 = 8 << 20;

/// What is read from the system at a time. The library asks for the four bytes of each packet's length,
/// then for the packet, then whether there is more: with this, small packets cost one call and not three.
const READ_AHEAD: usize = 16 << 10;

/// With whom to connect, as whom, and what to trust.
pub struct Hello {
    /// The server, for messages: `proxy teleport.example.com:3023`.
    pub peer: String,
    /// The SSH user name.
    pub login: String,
    /// Prove it: shown one after the other.
    pub offers: Vec<KeyOffer>,
    /// Algorithm lists of the user's.
    pub algorithms: Algorithms,
    /// What the server can be recognised by: asked for first in the key exchange.
    pub expected: Expected,
    /// Decides on the server's key.
    pub check: HostCheck,
    /// Logins that a recording proxy may use the identity for.
    pub agent_logins: Logins,
    /// What becomes of bytes that its channels leave unread.
    pub keeping: Keeping,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NotConnected {
    /// The handshake failed.
    Failed(Failure),
    /// The server let nobody in.
    NotAdmitted(NotAdmitted),
    /// The library has no algorithm of this list of the user's.
    NoAlgorithm(&'static str),
}

/// How long the goodbye may take before the byte stream is cut.
const GOODBYE: Duration = Duration::from_secs(1);

/// An authenticated connection.
pub struct Connection {
    handle: Handle<Callbacks>,
    shared: Arc<Shared>,
    /// Dropping it cuts the byte stream below, and with it the connection.
    cut: Mutex<Option<Cut>>,
    /// The key that was accepted.
    proof: Option<KeyOffer>,
}

impl Connection {
    /// Shakes hands over `stream`, which was dialled by the caller.
    ///
    /// # Errors
    /// A `Timeout` names the part of the handshake that was not answered by `deadline`.
    pub async fn open<S>(stream: S, hello: Hello, deadline: Instant) -> Result<Self, NotConnected>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = hello.peer;
        let config = library_config(&hello.expected, &hello.algorithms).map_err(NotConnected::NoAlgorithm)?;
        let (stream, cut) = Guarded::new(stream, WRITE_STALL);
        let stream = BufReader::with_capacity(READ_AHEAD, stream);
        let shared = Shared::new(hello.keeping);
        // A recording proxy is offered the key that is shown first, and no other.
        let offer = hello.offers.first().map(|first| {
            Arc::new(Offer {
                signer: first.signer.clone(),
                certificate: first.certificate.clone(),
                key: first.key.clone(),
                logins: hello.agent_logins,
                peer: peer.clone(),
            })
        });
        let callbacks = Callbacks { shared: shared.clone(), check: hello.check, offer };
        let shake = client::connect_stream(config, stream, callbacks);
        let failed = |failure| Err(NotConnected::Failed(failure));
        let mut handle = match timeout_at(deadline, shake).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(error)) => return failed(handshake_failure(&peer, &shared, &error)),
            Err(_) => return failed(unanswered(&peer, "the key exchange")),
        };
        let proof;
        let hashes = rsa_hashes(&hello.algorithms);
        let auth = authenticate(&mut handle, &shared, &hello.login, &hello.offers, &hashes);
        let lost = |why: &str| Failure::new(FailureKind::Unreachable, format!("{peer} {why}"));
        match timeout_at(deadline, auth).await {
            Ok(Admitted::Yes(shown)) => proof = shown.and_then(|shown| hello.offers.into_iter().nth(shown)),
            Ok(Admitted::No(not)) => return Err(NotConnected::NotAdmitted(not)),
            Ok(Admitted::Lost(reason)) => {
                return failed(lost(&format!("broke off authentication: {reason}")));
            }
            Ok(Admitted::Closed) => return failed(lost("closed the connection during authentication")),
            Err(_) => return failed(unanswered(&peer, "authentication")),
        }
        Ok(Self { handle, shared, cut: Mutex::new(Some(cut)), proof })
    }

    /// True when the server proved its key with SHA-1 RSA: Teleport up to v8.
    pub fn sha1(&self) -> bool {
        self.shared.sha1.load(Ordering::Relaxed)
    }

    /// The identification the server sent.
    pub fn server(&self) -> &str {
        self.shared.server.get().map_or("", String::as_str)
    }

    /// The key that was accepted; none where the server wanted none.
    pub fn proof(&self) -> Option<&KeyOffer> {
        self.proof.as_ref()
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
        // Outside of a runtime there is nobody to say it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let connection = self.clone();
        runtime.spawn(async move {
            let goodbye = connection.handle.disconnect(Disconnect::ByApplication, "", "");
            drop(timeout(GOODBYE, goodbye).await);
            drop(timeout(GOODBYE, connection.ended().wait_for(Option::is_some)).await);
            drop(cut);
        });
    }

    /// Packets that came for its channels: any number but the last one is a sign of life.
    pub fn arrivals(&self) -> u64 {
        self.shared.arrivals.load(Ordering::Relaxed)
    }

    /// Ends the connection for a reason of this side's, which its channels are told.
    pub fn give_up(&self, reason: &str) {
        self.shared.give_up(reason);
        drop(self.cut.lock().unwrap_or_else(PoisonError::into_inner).take());
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

    /// Opens a session channel, on which nothing runs yet.
    /// If the caller stops waiting, the channel is closed, also when its confirmation comes late.
    ///
    /// # Errors
    /// See [`OpenError`]; never `Refused`.
    pub async fn command(self: &Arc<Self>) -> Result<CommandChannel, OpenError> {
        let connection = self.clone();
        see_through(|caller| async move { drop(caller.send(connection.open_command().await)) }).await
    }

    async fn open_command(&self) -> Result<CommandChannel, OpenError> {
        let (id, mailbox, write) = self.claim(self.handle.channel_open_session().await).await?;
        let outputs = mailbox.outputs().ok_or_else(unfit)?;
        Ok(CommandChannel::new(id, outputs, write, self.shared.clone()))
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
        let (id, mailbox, write) = self.claim(opened).await?;
        let inbox = mailbox.inbox().ok_or_else(unfit)?;
        Ok(Channel::new(id, inbox, write, self.shared.clone()))
    }

    /// The parts of a channel that the library opened.
    async fn claim(
        &self,
        opened: Result<russh::Channel<Msg>, russh::Error>,
    ) -> Result<(ChannelId, Mailbox, ChannelWriteHalf<Msg>), OpenError> {
        let opened = match opened {
            Ok(opened) => opened,
            Err(russh::Error::ChannelOpenFailure(reason)) => {
                return Err(OpenError::NoChannel(self.shared.refused_opens.explain(reason.into()).await));
            }
            Err(other) => return Err(self.lost(&other)),
        };
        let id = opened.id();
        let (read, write) = opened.split();
        // With this half alive, the library would wait for its reader before it calls back.
        drop(read);
        match self.shared.claim(id) {
            Some(mailbox) => Ok((id, mailbox, write)),
            None => Err(self.lost(&russh::Error::Disconnect)),
        }
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

/// A connection keeps bytes for one kind of channel.
fn unfit() -> OpenError {
    OpenError::Lost("the connection is for another kind of channel".into())
}

fn unanswered(peer: &str, part: &str) -> Failure {
    Failure::new(FailureKind::Timeout, format!("{peer} did not answer during {part}"))
}

impl NotConnected {
    /// For who asked: `peer` is the server, `login` whom it was asked to let in.
    #[must_use]
    pub fn to_failure(self, peer: &str, login: &str) -> Failure {
        let not = match self {
            Self::Failed(failure) => return failure,
            Self::NoAlgorithm(list) => {
                return Failure::new(FailureKind::Protocol, format!("{peer}: natssh has nothing of {list}"));
            }
            Self::NotAdmitted(not) => not,
        };
        if not.wants_more {
            let text = format!("{peer} wants more of {login:?} than a key, and natssh has nothing more");
            return Failure::new(FailureKind::Denied, text);
        }
        if let Some(why) = not.unsigned {
            let text = format!("nothing was signed for {peer}: {why}");
            return Failure::new(FailureKind::Identity, text).hint("ssh-add -l");
        }
        Failure::new(FailureKind::Denied, format!("{peer} refused {login:?} with this identity"))
    }
}

/// One configuration for all connections to servers of which nothing special is expected, as most are.
fn library_config(expected: &Expected, algorithms: &Algorithms) -> Result<Arc<client::Config>, &'static str> {
    static USUAL: OnceLock<Arc<client::Config>> = OnceLock::new();
    let usual = *expected == Expected::default() && *algorithms == Algorithms::default();
    if let Some(config) = USUAL.get().filter(|_| usual) {
        return Ok(config.clone());
    }
    let config = Arc::new(client::Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-natssh_", env!("CARGO_PKG_VERSION")))),
        window_size: WINDOW,
        preferred: preferred(expected, algorithms)?,
        nodelay: true,
        ..client::Config::default()
    });
    Ok(if usual { USUAL.get_or_init(|| config).clone() } else { config })
}
