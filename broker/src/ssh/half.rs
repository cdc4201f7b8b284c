//! The writing half of a channel.

use super::shared::Shared;
use russh::client::Msg;
use russh::{ChannelId, ChannelWriteHalf};
use std::ops::Deref;
use std::sync::Arc;

/// What a channel is written and closed by. Dropping it closes the channel.
pub(super) struct Half {
    id: ChannelId,
    write: Option<ChannelWriteHalf<Msg>>,
    shared: Arc<Shared>,
}

impl Half {
    pub(super) fn new(id: ChannelId, write: ChannelWriteHalf<Msg>, shared: Arc<Shared>) -> Self {
        Self { id, write: Some(write), shared }
    }

    /// The channel's name on its connection.
    pub(super) fn id(&self) -> ChannelId {
        self.id
    }
}

impl Deref for Half {
    type Target = ChannelWriteHalf<Msg>;

    fn deref(&self) -> &Self::Target {
        // Taken only by `drop`.
        self.write.as_ref().expect("a channel has its writer until it is dropped")
    }
}

impl Drop for Half {
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
