//! What the SSH library calls while a connection lives.
//!
//! Nothing here waits: each callback runs inside the connection's own loop,
//! and what it waits for, all channels of the connection wait for.

use super::agent::Offer;
use super::host_key::Presented;
use super::inbox::{Budget, End, Inbox, Kept};
use super::refused_open::RefusedOpens;
use natssh_wire::{Failure, FailureKind};
use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelOpenFailure};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Decides whether the server's key is the expected one.
pub type HostCheck = Box<dyn Fn(&Presented<'_>) -> Result<(), Failure> + Send>;

/// Begins the reason of a connection that the server ended with words.
pub(super) const BY_SERVER: &str = "the server ended the connection: ";

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why; lower case, no full stop.
    pub reason: Arc<str>,
    /// Channels that were open on it.
    pub channels: usize,
    /// How long the quietest of them had been silent, where the server closed in good order.
    pub silence: Option<Duration>,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// The server, in good order.
    ByServer,
    /// Nobody: it broke, or this side cut it.
    Broken,
}

/// What the callbacks and the connection's owner share.
pub(super) struct Shared {
    inboxes: Mutex<HashMap<ChannelId, Arc<Inbox>>>,
    budget: Arc<Budget>,
    /// How the connection ended, once it has.
    pub(super) ended: watch::Sender<Option<Ended>>,
    /// Why the server's key was refused: the library itself says only "unknown key".
    pub(super) refused: Mutex<Option<Failure>>,
    /// Channels that the server did not open.
    pub(super) refused_opens: RefusedOpens,
    /// The identification the server sent.
    pub(super) server: OnceLock<String>,
    /// Set by the first stream that offers the agent; until then the server may not ask for it.
    pub(super) agent_offered: AtomicBool,
    /// True when the server proved its key with SHA-1 RSA.
    pub(super) sha1: AtomicBool,
}

impl Shared {
    pub(super) fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            inboxes: Mutex::default(),
            budget,
            ended: watch::Sender::new(None),
            refused: Mutex::new(None),
            refused_opens: RefusedOpens::default(),
            server: OnceLock::new(),
            agent_offered: AtomicBool::new(false),
            sha1: AtomicBool::new(false),
        })
    }

    /// The inbox of a channel. It may be asked for by the opener or by the
    /// first bytes, whichever comes first: bytes can follow the confirmation at once.
    pub(super) fn inbox(&self, id: ChannelId) -> Arc<Inbox> {
        self.lock().entry(id).or_insert_with(|| Arc::new(Inbox::new(self.budget.clone()))).clone()
    }

    /// Channels that are open now.
    pub(super) fn channels(&self) -> usize {
        self.lock().len()
    }

    /// How long the quietest channel has been silent.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.lock().values().filter_map(|inbox| inbox.silence()).max()
    }

    /// Forgets a channel that this side has closed.
    pub(super) fn forget(&self, id: ChannelId) {
        self.lock().remove(&id);
    }

    fn finish(&self, reason: &str, how: How) {
        if self.ended.borrow().is_some() {
            return;
        }
        let reason: Arc<str> = reason.into();
        let inboxes = std::mem::take(&mut *self.lock());
        let silence =
            inboxes.values().filter_map(|inbox| inbox.silence()).max().filter(|_| how == How::ByServer);
        self.ended.send_replace(Some(Ended { reason: reason.clone(), channels: inboxes.len(), silence }));
        for inbox in inboxes.into_values() {
            inbox.end(End::Cut(reason.clone()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, Arc<Inbox>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The library's handler for one connection.
pub(super) struct Callbacks {
    pub(super) shared: Arc<Shared>,
    pub(super) check: HostCheck,
    /// What the server may ask of the user's key, once it is offered to it.
    pub(super) offer: Arc<Offer>,
}

/// The library drops its handler when the connection's task ends, also when that task panicked.
impl Drop for Callbacks {
    fn drop(&mut self) {
        self.shared.finish("the connection ended", How::Broken);
    }
}

impl Handler for Callbacks {
    type Error = russh::Error;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let presented = match presented {
            PublicKeyOrCertificate::PublicKey { key, .. } => Presented::Key(key),
            PublicKeyOrCertificate::Certificate(certificate) => Presented::Certificate(certificate),
        };
        match (self.check)(&presented) {
            Ok(()) => Ok(true),
            Err(failure) => {
                *self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                Ok(false)
            }
        }
    }

    async fn kex_done(
        &mut self,
        _secret: Option<&[u8]>,
        names: &russh::Names,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let server = crate::text::one_line(&String::from_utf8_lossy(session.remote_sshid()));
        drop(self.shared.server.set(server));
        self.shared.sha1.store(names.key == Algorithm::Rsa { hash: None }, Ordering::Relaxed);
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.shared.inbox(id);
        Ok(())
    }

    async fn channel_open_failure(
        &mut self,
        _id: ChannelId,
        reason: ChannelOpenFailure,
        description: &str,
        _language: &str,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.shared.refused_opens.heard(reason.into(), description);
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        if self.shared.inbox(id).push(data) == Kept::Overflowed {
            self.shared.forget(id);
            session.close(id)?;
        }
        Ok(())
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        _code: u32,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.shared.inbox(id).push_stderr(data);
        Ok(())
    }

    async fn channel_success(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.shared.inbox(id).reply(true);
        Ok(())
    }

    async fn channel_failure(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.shared.inbox(id).reply(false);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.shared.inbox(id).eof();
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.shared.inbox(id).end(End::Closed);
        self.shared.forget(id);
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if !self.shared.agent_offered.load(Ordering::Relaxed) {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        reply.accept().await;
        let offer = self.offer.clone();
        tokio::spawn(async move { offer.serve(channel.into_stream()).await });
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                let text = crate::text::one_line(&info.message);
                self.shared.finish(&format!("{BY_SERVER}{text}"), How::ByServer);
            }
            DisconnectReason::Error(error) => {
                let closed = matches!(&error, russh::Error::IO(io) if io.kind() == ErrorKind::UnexpectedEof);
                let how = if closed { How::ByServer } else { How::Broken };
                self.shared.finish(&describe(&error), how);
            }
        }
        Ok(())
    }
}

/// The library's errors in words that mean something to a person.
pub(super) fn describe(error: &russh::Error) -> String {
    use russh::Error as E;
    match error {
        E::Disconnect | E::HUP | E::SendError | E::RecvError => {
            "the connection was closed by the other side".into()
        }
        E::IO(io) if is_closed(io.kind()) => "the connection was closed by the other side".into(),
        E::IO(io) => io.to_string(),
        E::KeepaliveTimeout => "the server stopped answering".into(),
        E::NoCommonAlgo { kind, theirs, .. } => {
            format!("no common {kind:?} algorithm; the server offers {}", theirs.join(", "))
        }
        E::Version => "the server's first line is not SSH-2.0".into(),
        other => other.to_string(),
    }
}

/// A peer that closed is one state, whatever the system saw of it.
fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// A failure to get through the handshake.
pub(super) fn handshake_failure(peer: &str, shared: &Shared, error: &russh::Error) -> Failure {
    if let Some(failure) = shared.refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return failure;
    }
    let kind = match error {
        russh::Error::IO(io) if io.kind() == ErrorKind::InvalidData => FailureKind::Protocol,
        russh::Error::IO(_) | russh::Error::Disconnect | russh::Error::HUP => FailureKind::Unreachable,
        _ => FailureKind::Protocol,
    };
    Failure::new(kind, format!("{peer} broke off the SSH handshake: {}", describe(error)))
}
