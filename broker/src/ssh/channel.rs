//! One channel of a connection: bytes both ways.

use super::inbox::{End, Inbox};
use super::shared::Shared;
use bytes::Bytes;
use russh::client::Msg;
use russh::{ChannelId, ChannelWriteHalf};
use std::sync::Arc;

/// A channel that carries bytes. Dropping it closes it.
pub struct Channel {
    id: ChannelId,
    inbox: Arc<Inbox>,
    write: Option<ChannelWriteHalf<Msg>>,
    shared: Arc<Shared>,
}

/// The channel or its connection is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

impl Channel {
    pub(super) fn new(
        id: ChannelId,
        inbox: Arc<Inbox>,
        write: ChannelWriteHalf<Msg>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { id, inbox, write: Some(write), shared }
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    pub(super) async fn offer_agent(&self) -> Result<(), russh::Error> {
        self.half().agent_forward(false).await
    }

    pub(super) async fn request_subsystem(&self, name: &str) -> Result<(), russh::Error> {
        self.half().request_subsystem(true, name).await
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
            sent = self.half().data_bytes(bytes) => sent.map_err(|_| Gone),
        }
    }

    /// Tells the node that no more bytes follow; reading goes on.
    ///
    /// # Errors
    /// The channel has ended.
    pub async fn finish_writing(&self) -> Result<(), Gone> {
        self.half().eof().await.map_err(|_| Gone)
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

    fn half(&self) -> &ChannelWriteHalf<Msg> {
        // Taken only by `drop`.
        self.write.as_ref().expect("a channel has its writer until it is dropped")
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let Some(write) = self.write.take() else { return };
        if !self.shared.forget(self.id) {
            return;
        }
        // Outside of a runtime there is no connection left to close it on.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { write.close().await });
        }
    }
}
