//! One client's SSH connection: who logged in, and what is asked on its channels.
//!
//! Its callbacks must not wait: while one does, every channel of the connection
//! stands still. What takes time happens in a task for each channel.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime};

use russh::keys::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};

use super::algorithms;
use super::auth::admit;
use super::channels::Channels;
use super::listen::{Identity, Shared};
use super::request::Refusal;
use super::stream;
use super::tally::count;

/// The server's side of a connection.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    identity: Identity,
    channels: Arc<Channels>,
    keepalive_due: Instant,
}

impl Connection {
    /// A connection on which nobody has logged in yet.
    pub(crate) fn new(shared: Arc<Shared>, identity: Identity) -> Self {
        let interval = shared.policy.borrow().keepalive;
        Self {
            channels: Channels::new(Arc::clone(&shared), Arc::clone(&identity.cluster)),
            keepalive_due: Instant::now() + interval,
            identity,
            shared,
        }
    }

    /// What the watchman looks at.
    pub(crate) fn channels(&self) -> Arc<Channels> {
        Arc::clone(&self.channels)
    }

    /// Counts a refused key or certificate.
    fn deny(&self) -> Auth {
        count(&self.shared.tally.logins_refused);
        Auth::reject()
    }

    /// Says why on stderr, fails the request, closes the channel: Teleport's order.
    fn refuse(
        &self,
        channel: ChannelId,
        refusal: &Refusal,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        count(&self.shared.tally.refused);
        session.extended_data(channel, 1, format!("{refusal}\n").into_bytes())?;
        session.channel_failure(channel)?;
        session.close(channel)?;
        self.channels.remove(channel);
        Ok(())
    }

    /// Sends a keepalive for every open channel, when the interval has passed.
    /// The library lets go of its session only here, when the client says something.
    fn keepalive(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        let now = Instant::now();
        if now < self.keepalive_due {
            return Ok(());
        }
        self.keepalive_due = now + self.shared.policy.borrow().keepalive;
        for _ in 0..self.channels.len() {
            count(&self.shared.tally.keepalives);
            session.keepalive_request()?;
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.channels.clear();
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _login: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(match algorithms::takes(self.shared.face, offer.algorithm) {
            true => Auth::Accept,
            false => self.deny(),
        })
    }

    async fn auth_publickey(
        &mut self,
        login: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        tracing::info!(login, "refused a key without a certificate");
        Ok(self.deny())
    }

    async fn auth_openssh_certificate(
        &mut self,
        login: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        match admit(certificate, login, &self.identity.user_ca, SystemTime::now()) {
            Ok(user) => {
                tracing::info!(login, user = user.name, "logged in");
                count(&self.shared.tally.logins);
                self.channels.login(user);
                Ok(Auth::Accept)
            }
            Err(denial) => {
                tracing::info!(login, user = certificate.key_id(), "refused: {denial}");
                Ok(self.deny())
            }
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.add(channel);
        reply.accept().await;
        self.keepalive(session)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let id = channel.id();
        self.channels.add(channel);
        // Confirmed before anything is dialled: what fails, fails on the open channel.
        reply.accept().await;
        let (handle, channels) = (session.handle(), Arc::clone(&self.channels));
        let (host, port) = (host.to_owned(), port.to_string());
        self.channels.start(id, |outlet| tokio::spawn(stream::jump(channels, handle, outlet, host, port)));
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(unknown_channel("x11")).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(unknown_channel("forwarded-tcpip")).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(unknown_channel("direct-streamlocal@openssh.com")).await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let (handle, channels) = (session.handle(), Arc::clone(&self.channels));
        let name = name.to_owned();
        let started = self
            .channels
            .start(channel, |outlet| tokio::spawn(stream::subsystem(channels, handle, outlet, name)));
        match started {
            true => Ok(()),
            // One subsystem a channel.
            false => session.channel_failure(channel),
        }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn agent_request(
        &mut self,
        _channel: ChannelId,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        // Always granted: clients take a refusal for the end of the world.
        self.channels.agent_offered.store(true, Relaxed);
        Ok(true)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(channel, &Refusal::RequestType("exec"), session)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.refuse(channel, &Refusal::RequestType("shell"), session)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(channel, &Refusal::RequestType("pty-req"), session)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(channel, &Refusal::RequestType("x11-req"), session)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if !self.channels.feed(channel, data) {
            tracing::warn!("closed a channel whose node does not take what the client sends");
            session.close(channel)?;
            self.channels.remove(channel);
        }
        self.keepalive(session)
    }

    async fn channel_eof(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.channels.end_input(channel);
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(channel);
        self.keepalive(session)
    }

    async fn window_adjusted(
        &mut self,
        _channel: ChannelId,
        _window: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.keepalive(session)
    }
}

/// Teleport's words for a channel that it does not open.
fn unknown_channel(kind: &str) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: 3, reason: format!("unknown channel type: {kind}") }
}
