//! One authenticated connection to one node, and the commands that run on it.
//!
//! The pool opens sessions over whatever stream a route gives, and leases channels of them. Who one is, and whom one
//! trusts, is in the [`Target`]: `proof` makes keys to show of it and `trust` judges the node's key, both as ssh
//! does. What only a person can do, or natssh does not, is answered with [`NotOpened::RealSsh`].

pub mod alive;
pub mod exec;
mod forward;
mod handshake;
mod proof;
mod remember;
mod remote;
#[cfg(test)]
pub(crate) mod tests;
pub mod transfer;
mod trust;

pub use crate::ssh::{Ended, OpenError, Stores};
pub use alive::{Alive, Health};
pub use exec::{Event, Gone, Running};
pub use forward::Port;
pub use handshake::{NotOpened, connect_hop};
pub use proof::Proved;
pub use remote::Remote;

use crate::ssh::{Connection, Keeping, Unread};
use crate::target::Target;
use handshake::connect;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

/// An authenticated connection to one node.
pub struct Session {
    connection: Arc<Connection>,
    unread: Arc<Unread>,
    pulse: Arc<alive::Pulse>,
    warning: Option<String>,
}

impl Session {
    /// Shakes hands with the node at the other end of `stream`, and proves who one is.
    ///
    /// # Errors
    /// See [`NotOpened`]; nothing takes longer than until `deadline`.
    pub async fn open<S>(
        stream: S,
        target: &Target,
        stores: &Arc<Stores>,
        alive: Alive,
        deadline: Instant,
    ) -> Result<Self, NotOpened>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let unread = Unread::new(stores.clone());
        let (connection, warning) =
            connect(stream, target, Keeping::Commands(unread.clone()), deadline).await?;
        let connection = Arc::new(connection);
        let pulse = alive::watch(&connection, alive);
        Ok(Self { connection, unread, pulse, warning })
    }

    /// Opens a channel, on which nothing runs yet: it may be done ahead of need.
    /// If the caller stops waiting, the channel is closed, also when its confirmation comes late.
    ///
    /// # Errors
    /// `NoChannel` where the node gives no more (`MaxSessions`), `Lost` where the session has ended; never `Refused`.
    pub async fn channel(self: &Arc<Self>) -> Result<Running, OpenError> {
        Ok(Running::new(self.connection.command().await?, self.clone()))
    }

    /// By what the node let one in; none where it wanted nothing.
    #[must_use]
    pub fn proof(&self) -> Option<Proved> {
        self.connection.proof().map(Proved::of)
    }

    /// How the session ended, once it has.
    #[must_use]
    pub fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.connection.ended()
    }

    /// Whether the node answers.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.pulse.health()
    }

    /// Whether somebody's output is so far behind that nothing new should run beside it.
    #[must_use]
    pub fn private(&self) -> watch::Receiver<bool> {
        self.unread.private()
    }

    /// The same, now.
    #[must_use]
    pub fn is_private(&self) -> bool {
        *self.unread.private().borrow()
    }

    /// One round trip.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn ping(&self) -> Result<Duration, ()> {
        self.connection.ping().await
    }

    /// Exchanges keys anew.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn rekey(&self) -> Result<(), ()> {
        self.connection.rekey().await
    }

    /// The last round trip that was measured, if one was.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.pulse.round_trip()
    }

    /// Bytes of all commands' input so far, and of their output.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        self.unread.bytes()
    }

    /// Channels that are open now, used or not.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.connection.channels()
    }

    /// What ssh would have told at the opening: `Warning: Permanently added …`.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The identification that the node sent.
    #[must_use]
    pub fn server(&self) -> &str {
        self.connection.server()
    }

    /// Whether the node proved its key with SHA-1 RSA: Teleport up to v8.
    #[must_use]
    pub fn sha1(&self) -> bool {
        self.connection.sha1()
    }

    /// Ends the session, with all that runs on it.
    pub fn close(self: &Arc<Self>) {
        self.connection.close();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.close();
    }
}
