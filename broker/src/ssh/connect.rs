//! One authenticated SSH connection over any byte stream.

use super::agent::{Logins, Offer};
use super::ahead::Ahead;
use super::algorithms::{preferred, rsa_hashes};
use super::authenticate::{Admitted, authenticate};
use super::callbacks::{Callbacks, HostCheck};
use super::guard::{Cut, Guarded, WRITE_STALL};
use super::host_key::Expected;
use super::mailbox::Keeping;
use super::not_connected::NotConnected;
use super::offer::KeyOffer;
use super::shared::{Ended, Shared};
use super::words::{describe, handshake_failure};
use crate::target::Algorithms;
use natssh_wire::{Failure, FailureKind};
use russh::client::{self, Handle};
use russh::{Disconnect, SshId};
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// Larger than OpenSSH's 2 MiB, so that a long path is filled by one stream. The library grants anew what was used when
/// that is half of it, and a session through a proxy has two of them in a row: 256 MiB from a node 40 ms away take 3.0 s
/// with 8 MiB, 1.6 s with 16, and no less with 32.
const WINDOW: u32 = 16 << 20;

/// What is read from the system at a time. The library asks for the four bytes of each packet's length,
/// then for the packet, then whether there is more: with this, small packets cost one call and not three.
const READ_AHEAD: usize = 4 << 10;

/// What natssh says first on any connection: its identification (RFC 4253, 4.2).
pub const GREETING: &str = concat!("SSH-2.0-natssh_", env!("CARGO_PKG_VERSION"), "\r\n");

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

/// How long the goodbye may take before the byte stream is cut.
const GOODBYE: Duration = Duration::from_secs(1);

/// An authenticated connection.
pub struct Connection {
    pub(super) handle: Handle<Callbacks>,
    pub(super) shared: Arc<Shared>,
    pub(super) ahead: Arc<Ahead>,
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
            Ok(Err(error @ russh::Error::NoCommonAlgo { .. })) => {
                return Err(NotConnected::NothingCommon(describe(&error)));
            }
            Ok(Err(error)) => return failed(handshake_failure(&peer, &shared, &error)),
            Err(_) => return failed(unanswered(&peer, "the key exchange")),
        };
        let hashes = rsa_hashes(&hello.algorithms);
        let auth = authenticate(&mut handle, &shared, &hello.login, &hello.offers, &hashes);
        let lost = |why: &str| Failure::new(FailureKind::Unreachable, format!("{peer} {why}"));
        let shown = match timeout_at(deadline, auth).await {
            Ok(Admitted::Yes(shown)) => shown,
            Ok(Admitted::No(not)) => return Err(NotConnected::NotAdmitted(not)),
            Ok(Admitted::Lost(reason)) => {
                return failed(lost(&format!("broke off authentication: {reason}")));
            }
            Ok(Admitted::Closed) => return failed(lost("closed the connection during authentication")),
            Err(_) => return failed(unanswered(&peer, "authentication")),
        };
        let proof = shown.and_then(|shown| hello.offers.into_iter().nth(shown));
        Ok(Self { handle, shared, ahead: Arc::default(), cut: Mutex::new(Some(cut)), proof })
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

    /// Packets for which it was held, each for a second, because nobody took what they brought. The server was sent a
    /// sign of life after each of them.
    pub fn held(&self) -> u64 {
        self.shared.held.load(Ordering::Relaxed)
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

    /// Exchanges keys anew, as soon as no exchange is under way.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn rekey(&self) -> Result<(), ()> {
        self.handle.rekey_soon().await.map_err(drop)
    }

    /// Sends a global request that wants a reply.
    ///
    /// # Errors
    /// It was refused, or the connection ended.
    pub async fn ask(&self, request: &str) -> Result<Vec<u8>, ()> {
        let reply = self.handle.send_global_request(request, &[], true).await.map_err(drop)?;
        Ok(reply.map(|bytes| bytes.to_vec()).unwrap_or_default())
    }
}

fn unanswered(peer: &str, part: &str) -> Failure {
    Failure::new(FailureKind::Timeout, format!("{peer} did not answer during {part}"))
}

/// One configuration for all connections to servers of which nothing special is expected, as most are.
fn library_config(expected: &Expected, algorithms: &Algorithms) -> Result<Arc<client::Config>, &'static str> {
    static USUAL: OnceLock<Arc<client::Config>> = OnceLock::new();
    let usual = *expected == Expected::default() && *algorithms == Algorithms::default();
    if let Some(config) = USUAL.get().filter(|_| usual) {
        return Ok(config.clone());
    }
    let config = Arc::new(client::Config {
        client_id: SshId::Standard(Cow::Borrowed(GREETING.trim_ascii_end())),
        window_size: WINDOW,
        preferred: preferred(expected, algorithms)?,
        nodelay: true,
        ..client::Config::default()
    });
    Ok(if usual { USUAL.get_or_init(|| config).clone() } else { config })
}
