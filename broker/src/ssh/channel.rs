//! One channel of a connection: bytes both ways.

use super::half::Half;
use super::inbox::{End, Inbox};
use bytes::Bytes;
use std::sync::Arc;

/// A channel that carries bytes. Dropping it closes it.
pub struct Channel {
    inbox: Arc<Inbox>,
    half: Half,
}

/// The channel or its connection is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

impl Channel {
    pub(super) fn new(inbox: Arc<Inbox>, half: Half) -> Self {
        Self { inbox, half }
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    pub(super) async fn offer_agent(&self) -> Result<(), russh::Error> {
        self.half.agent_forward(false).await
    }

    pub(super) async fn request_subsystem(&self, name: &str) -> Result<(), russh::Error> {
        self.half.request_subsystem(true, name).await
    }

    /// The next bytes from the node; none once there will be no more. One reader only.
    pub async fn read(&self) -> Option<Bytes> {
        self.inbox.read().await
    }

    /// Sends bytes to the node. Waits while the node's window is shut.
    ///
    /// # Errors
    /// The channel has ended.
    pub async fn write(&self, bytes: Bytes) -> Result<(), Gone> {
        self.inbox.sent();
        tokio::select! {
            // The library's writer never learns that its channel was closed.
            biased;
            _ = self.inbox.closed() => Err(Gone),
            sent = self.half.data_bytes(bytes) => sent.map_err(|_| Gone),
        }
    }

    /// Tells the node that no more bytes follow; reading goes on.
    ///
    /// # Errors
    /// The channel has ended.
    pub async fn finish_writing(&self) -> Result<(), Gone> {
        self.half.eof().await.map_err(|_| Gone)
    }

    /// Why the channel ended, once it has.
    pub fn ended(&self) -> Option<End> {
        self.inbox.ended()
    }

    /// Waits until the channel has ended.
    pub async fn closed(&self) -> End {
        self.inbox.closed().await
    }

    /// What the server wrote beside the bytes: a reason, if it gave one.
    pub fn stderr(&self) -> String {
        self.inbox.stderr()
    }
}
