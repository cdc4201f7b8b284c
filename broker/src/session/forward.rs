//! A port that a node connected to (RFC 4254, 7.2), its bytes both ways.

use super::{Event, Gone, OpenError, Remote, Session};
use crate::ssh::CommandChannel;
use bytes::Bytes;
use natssh_wire::NodeAddr;
use std::sync::Arc;

/// A connection of a node's to somewhere else. Dropping it closes it.
pub struct Port {
    channel: CommandChannel,
    /// Lives as long as its channels.
    _session: Arc<Session>,
}

impl Session {
    /// Has the node connect to `node`, as the node knows it. If the caller stops waiting, the channel is closed, also
    /// when its confirmation comes late. sshd does not count it in `MaxSessions`.
    ///
    /// # Errors
    /// `NoChannel` with the node's reason, `Lost` where the session has ended; never `Refused`.
    pub async fn port(self: &Arc<Self>, node: NodeAddr) -> Result<Port, OpenError> {
        Ok(Port { channel: self.connection.port(node).await?, _session: self.clone() })
    }
}

impl Remote for Port {
    /// Bytes, the end of these, and an `Exit(0)` when the channel has closed.
    async fn next(&self) -> Event {
        match self.channel.next().await {
            Event::Closed => Event::Exit(0),
            other => other,
        }
    }

    async fn write(&self, bytes: Bytes) -> Result<(), Gone> {
        self.channel.write(bytes).await
    }

    async fn finish_writing(&self) -> Result<(), Gone> {
        self.channel.finish_writing().await
    }
}
