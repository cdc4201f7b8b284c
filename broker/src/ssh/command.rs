//! A channel of a session, with bytes both ways: a session channel (RFC 4254, 6) for one command, or a port that the
//! server connected to.

use super::channel::Gone;
use super::half::Half;
use super::outputs::{Event, Outputs};
use bytes::Bytes;
use natssh_wire::terminal::{Size, Terminal};
use russh::Sig;
use std::sync::Arc;

/// A channel of a session. Dropping it closes it.
pub struct CommandChannel {
    outputs: Arc<Outputs>,
    half: Half,
}

impl CommandChannel {
    pub(super) fn new(outputs: Arc<Outputs>, half: Half) -> Self {
        Self { outputs, half }
    }

    /// Whether the channel has ended: a request would not be sent any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.outputs.ended().is_some()
    }

    /// Sets a variable of what is run next. Servers take few, and do not say which.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn set(&self, name: &str, value: &str) -> Result<(), Gone> {
        self.half.set_env(false, name, value).await.map_err(|_| Gone)
    }

    /// Asks for a terminal for what is run next. Whether the server gives one is an event.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn terminal(&self, name: &str, like: &Terminal) -> Result<(), Gone> {
        self.outputs.asking_terminal();
        let Size { columns, rows, width, height } = like.size;
        // Opcodes that the library does not know are no mode of anybody's.
        let known = |(opcode, value): &(u8, u32)| Some((russh::Pty::from_u8(*opcode)?, *value));
        let modes: Vec<_> = like.modes.iter().filter_map(known).collect();
        let asked = self.half.request_pty(true, name, columns, rows, width, height, &modes).await;
        asked.map_err(|_| Gone)
    }

    /// The terminal has this size now.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn resize(&self, size: Size) -> Result<(), Gone> {
        let Size { columns, rows, width, height } = size;
        self.half.window_change(columns, rows, width, height).await.map_err(|_| Gone)
    }

    /// Asks for a command line to be run by the login shell.
    ///
    /// # Errors
    /// The connection is gone: it was not asked.
    pub async fn exec(&self, command: &[u8]) -> Result<(), Gone> {
        self.outputs.starting();
        self.half.exec(true, command).await.map_err(|_| Gone)
    }

    /// Asks for the login shell.
    ///
    /// # Errors
    /// The connection is gone: it was not asked.
    pub async fn shell(&self) -> Result<(), Gone> {
        self.outputs.starting();
        self.half.request_shell(true).await.map_err(|_| Gone)
    }

    /// Asks for a subsystem.
    ///
    /// # Errors
    /// The connection is gone: it was not asked.
    pub async fn subsystem(&self, name: &str) -> Result<(), Gone> {
        self.outputs.starting();
        self.half.request_subsystem(true, name).await.map_err(|_| Gone)
    }

    /// What happens next. One reader only; it may stop waiting at any time, and nothing is lost.
    pub async fn next(&self) -> Event {
        self.outputs.next().await
    }

    /// Sends bytes to the command. Waits while the node's window is shut.
    ///
    /// # Errors
    /// The channel has ended.
    pub async fn write(&self, bytes: Bytes) -> Result<(), Gone> {
        self.outputs.sent(bytes.len());
        tokio::select! {
            // The library's writer never learns that its channel was closed.
            biased;
            _ = self.outputs.closed() => Err(Gone),
            sent = self.half.data_bytes(bytes) => sent.map_err(|_| Gone),
        }
    }

    /// Tells the command that no more bytes follow; reading goes on.
    ///
    /// # Errors
    /// The channel has ended.
    pub async fn finish_writing(&self) -> Result<(), Gone> {
        self.half.eof().await.map_err(|_| Gone)
    }

    /// Sends a signal, by its name without `SIG`.
    ///
    /// # Errors
    /// The channel has ended.
    pub async fn signal(&self, name: &str) -> Result<(), Gone> {
        self.half.signal(Sig::Custom(name.to_owned())).await.map_err(|_| Gone)
    }
}

impl Drop for CommandChannel {
    fn drop(&mut self) {
        self.outputs.abandon();
    }
}

/// A signal's name, without `SIG`, as the server wrote it.
pub(super) fn signal_name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        // The library's names are the protocol's (RFC 4254, 6.10).
        known => format!("{known:?}"),
    }
}
