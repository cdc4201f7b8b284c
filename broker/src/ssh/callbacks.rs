//! What the SSH library calls while a connection lives.
//!
//! Each callback runs inside the connection's own loop, and what it waits for, all channels of the connection wait
//! for. So nothing here waits, but for one thing: a command's output that there is no place for, see
//! [`Outputs::take`](super::outputs::Outputs::take).

use super::agent::Offer;
use super::host_key::Presented;
use super::inbox::{End, Kept};
use super::mailbox::{Keeping, Mailbox};
use super::outputs::Exit;
use super::refused_open::RefusedOpens;
use natssh_wire::{Failure, FailureKind};
use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelOpenFailure, Sig};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Decides whether the server's key is the expected one.
pub type HostCheck = Box<dyn Fn(&Presented<'_>) -> Result<(), Failure> + Send>;

/// Begins the reason of a connection that the server ended with words.
pub(super) const BY_SERVER: &str = "the server ended the connection: ";

/// The kind of extended data that there is (RFC 4254, 5.2).
const STDERR: u32 = 1;

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

/// One channel.
struct Entry {
    mailbox: Mailbox,
    /// Whether its opener has it: bytes, and even its end, can come before.
    claimed: bool,
}

impl Entry {
    fn new(keeping: &Keeping) -> Self {
        Self { mailbox: keeping.mailbox(), claimed: false }
    }
}

/// What the callbacks and the connection's owner share.
pub(super) struct Shared {
    channels: Mutex<HashMap<ChannelId, Entry>>,
    keeping: Keeping,
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
    /// Packets that came for its channels: signs of life.
    pub(super) arrivals: AtomicU64,
}

impl Shared {
    pub(super) fn new(keeping: Keeping) -> Arc<Self> {
        Arc::new(Self {
            channels: Mutex::default(),
            keeping,
            ended: watch::Sender::new(None),
            refused: Mutex::new(None),
            refused_opens: RefusedOpens::default(),
            server: OnceLock::new(),
            agent_offered: AtomicBool::new(false),
            sha1: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
        })
    }

    /// The server has confirmed a channel: bytes can follow at once.
    fn confirmed(&self, id: ChannelId) {
        self.lock().entry(id).or_insert_with(|| Entry::new(&self.keeping));
    }

    /// Where the bytes of a channel go; nowhere once this side has closed it.
    fn mailbox(&self, id: ChannelId) -> Option<Mailbox> {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        self.lock().get(&id).map(|entry| entry.mailbox.clone())
    }

    /// Hands a channel to its opener; none once the connection has ended.
    pub(super) fn claim(&self, id: ChannelId) -> Option<Mailbox> {
        let mut channels = self.lock();
        // The opener hears of the confirmation a little before the callback does.
        let entry = channels.entry(id).or_insert_with(|| Entry::new(&self.keeping));
        entry.claimed = true;
        let mailbox = entry.mailbox.clone();
        let over = self.ended.borrow().is_some();
        if over || mailbox.ended() {
            channels.remove(&id);
        }
        (!over || mailbox.ended()).then_some(mailbox)
    }

    /// The server has closed a channel.
    fn closed(&self, id: ChannelId) {
        let mut channels = self.lock();
        let Some(entry) = channels.get(&id) else { return };
        entry.mailbox.end(End::Closed);
        if entry.claimed {
            channels.remove(&id);
        }
    }

    /// Channels that are open now.
    pub(super) fn channels(&self) -> usize {
        self.lock().len()
    }

    /// How long the quietest channel has been silent.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.lock().values().filter_map(|entry| entry.mailbox.silence()).max()
    }

    /// Forgets a channel that this side has closed.
    pub(super) fn forget(&self, id: ChannelId) {
        self.lock().remove(&id);
    }

    /// This side ends the connection.
    pub(super) fn give_up(&self, reason: &str) {
        self.finish(reason, How::Broken);
    }

    fn finish(&self, reason: &str, how: How) {
        if self.ended.borrow().is_some() {
            return;
        }
        let reason: Arc<str> = reason.into();
        // Told under the lock: nobody claims a channel in between.
        let mut open = self.lock();
        let channels: Vec<Mailbox> = open.drain().map(|(_, entry)| entry.mailbox).collect();
        let silence = channels.iter().filter_map(Mailbox::silence).max().filter(|_| how == How::ByServer);
        self.ended.send_replace(Some(Ended { reason: reason.clone(), channels: channels.len(), silence }));
        drop(open);
        for mailbox in channels {
            mailbox.end(End::Cut(reason.clone()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, Entry>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The library's handler for one connection.
pub(super) struct Callbacks {
    pub(super) shared: Arc<Shared>,
    pub(super) check: HostCheck,
    /// What the server may ask of the user's key, once it is offered to it.
    pub(super) offer: Option<Arc<Offer>>,
}

impl Callbacks {
    fn settle(&self, id: ChannelId, kept: Kept, session: &mut Session) -> Result<(), russh::Error> {
        match kept {
            Kept::Yes => Ok(()),
            // A server that counts silence (ClientAliveInterval) has asked behind megabytes of output.
            Kept::Late => session.send_keepalive(true),
            Kept::Overflowed => {
                self.shared.forget(id);
                session.close(id)
            }
        }
    }
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
        self.shared.confirmed(id);
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
        let Some(mailbox) = self.shared.mailbox(id) else { return Ok(()) };
        let kept = mailbox.stdout(data).await;
        self.settle(id, kept, session)
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        code: u32,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(mailbox) = self.shared.mailbox(id).filter(|_| code == STDERR) else { return Ok(()) };
        let kept = mailbox.stderr(data).await;
        self.settle(id, kept, session)
    }

    async fn exit_status(
        &mut self,
        id: ChannelId,
        status: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(outputs) = self.shared.mailbox(id).and_then(Mailbox::outputs) {
            outputs.exited(Exit::Status(status));
        }
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        id: ChannelId,
        signal: Sig,
        _core_dumped: bool,
        _message: &str,
        _language: &str,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(outputs) = self.shared.mailbox(id).and_then(Mailbox::outputs) {
            outputs.exited(Exit::Signal(super::command::signal_name(&signal)));
        }
        Ok(())
    }

    async fn channel_success(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        if let Some(mailbox) = self.shared.mailbox(id) {
            mailbox.reply(true);
        }
        Ok(())
    }

    async fn channel_failure(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        if let Some(mailbox) = self.shared.mailbox(id) {
            mailbox.reply(false);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        if let Some(mailbox) = self.shared.mailbox(id) {
            mailbox.eof();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.shared.closed(id);
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let offered = self.shared.agent_offered.load(Ordering::Relaxed);
        let Some(offer) = self.offer.clone().filter(|_| offered) else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        reply.accept().await;
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
