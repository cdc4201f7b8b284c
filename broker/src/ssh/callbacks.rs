//! What the SSH library calls while a connection lives.
//!
//! Each callback runs inside the connection's own loop, and what it waits for, all channels of the connection wait
//! for. So nothing here waits, but for one thing: a command's output that there is no place for, see
//! [`Outputs::take`](super::outputs::Outputs::take).

use super::agent::Offer;
use super::host_key::Presented;
use super::inbox::Kept;
use super::mailbox::Mailbox;
use super::outputs::Exit;
use super::shared::{How, Shared};
use super::words::describe;
use natssh_wire::Failure;
use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelOpenFailure, Sig};
use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Decides whether the server's key is the expected one.
pub type HostCheck = Box<dyn Fn(&Presented<'_>) -> Result<(), Failure> + Send>;

/// Begins the reason of a connection that the server ended with words.
pub(super) const BY_SERVER: &str = "the server ended the connection: ";

/// The kind of extended data that there is (RFC 4254, 5.2).
const STDERR: u32 = 1;

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
            // A server that counts silence (ClientAliveInterval) has asked behind megabytes of output. It is told
            // without being asked for an answer: an sshd's waits until all its output is taken, and it leaves when
            // that takes its time (serverloop.c, server_input_global_request; packet.c, ssh_packet_write_wait).
            Kept::Late => {
                self.shared.held.fetch_add(1, Ordering::Relaxed);
                session.send_global_request(None, "keepalive@openssh.com", &[])
            }
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
