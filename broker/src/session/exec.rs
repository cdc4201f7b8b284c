//! One session channel: what is run on a node, its bytes, and how it ended.
//!
//! Two steps, because nothing may run twice. A channel that is only open has run nothing. Once [`Running::start`] has
//! handed the request over, only [`Event::Refused`] says that nothing ran; whatever else happens, it may have.

pub use crate::ssh::{Event, Gone};

use super::{Remote, Session};
use crate::ssh::CommandChannel;
use crate::target::{Run, Wishes};
use bytes::Bytes;
use natssh_wire::terminal::Size;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A program that has nothing more to do and whose input has ended ends within this.
const WINDING_DOWN: Duration = Duration::from_secs(5);

/// One session channel. Dropping it closes it; what runs on the node then loses its outputs, as with ssh.
pub struct Running {
    channel: CommandChannel,
    /// Lives as long as its channels.
    session: Arc<Session>,
}

impl Running {
    pub(super) fn new(channel: CommandChannel, session: Arc<Session>) -> Self {
        Self { channel, session }
    }

    /// Hands over the terminal, the environment and what is to be run, in ssh's order and without waiting for an
    /// answer: that is an [`Event`].
    ///
    /// # Errors
    /// The channel had ended before: nothing ran.
    pub async fn start(&self, wishes: &Wishes) -> Result<(), Gone> {
        if self.has_ended() {
            return Err(Gone);
        }
        if let Some(pty) = &wishes.terminal {
            self.channel.terminal(&pty.name, &pty.like).await?;
        }
        for (name, value) in &wishes.environment {
            // See `carries`.
            if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
                self.channel.set(name, value).await?;
            }
        }
        match &wishes.run {
            Run::Shell => self.channel.shell().await,
            Run::Command(command) => self.channel.exec(command).await,
            Run::Subsystem(name) => self.channel.subsystem(name).await,
        }
    }

    /// Sends a signal, by its name without `SIG`. Servers before OpenSSH 8.1 ignore it.
    ///
    /// # Errors
    /// The channel has ended.
    pub async fn signal(&self, name: &str) -> Result<(), Gone> {
        self.channel.signal(name).await
    }

    /// Tells the node that the terminal has this size now.
    ///
    /// # Errors
    /// The channel has ended.
    pub async fn resize(&self, size: Size) -> Result<(), Gone> {
        self.channel.resize(size).await
    }

    /// Exchanges the keys of the session anew; its other commands do not notice.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn rekey(&self) -> Result<(), Gone> {
        self.session.rekey().await.map_err(|()| Gone)
    }

    /// Lets what runs on the channel end by itself, so that the node counts it no more when the place is given back;
    /// whether it has.
    pub async fn wind_down(&self) -> bool {
        let ended = async {
            drop(self.finish_writing().await);
            loop {
                match self.next().await {
                    Event::Exit(_) | Event::Killed(_) | Event::Closed | Event::Cut(_) => return,
                    _ => {}
                }
            }
        };
        timeout(WINDING_DOWN, ended).await.is_ok()
    }

    /// Whether the channel has ended: nothing can be started on it any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.channel.has_ended()
    }
}

impl Remote for Running {
    async fn next(&self) -> Event {
        self.channel.next().await
    }

    async fn write(&self, bytes: Bytes) -> Result<(), Gone> {
        self.channel.write(bytes).await
    }

    async fn finish_writing(&self) -> Result<(), Gone> {
        self.channel.finish_writing().await
    }
}

/// Whether natssh can send this environment: the SSH library takes text alone, and ssh any bytes.
#[must_use]
pub fn carries(environment: &[(Vec<u8>, Vec<u8>)]) -> bool {
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    environment.iter().all(|(name, value)| is_text(name) && is_text(value))
}
