//! What goes to a node before the way to it has been confirmed.
//!
//! Both sides of an SSH connection begin with a line that depends on nothing
//! (RFC 4253, 4.2). Sent behind the request for the stream, without waiting for
//! the answer, it makes the node begin the key exchange a round trip earlier;
//! where the answer is no, a line was sent for nothing.

use super::GREETING;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::SetOnce;

/// Bytes that may be sent as soon as the upstream has been asked for the stream.
#[derive(Debug, Clone, Default)]
pub enum Early {
    /// None: nothing is known of what will be said.
    #[default]
    Nothing,
    /// The greeting of an SSH connection of natssh's own.
    Greeting,
    /// What a client says that is given its stream as soon as the upstream has been asked.
    Client(Arc<Waiting>),
}

/// A client that does not wait for the verdict, but for the question to be on its way.
#[derive(Debug, Default)]
pub struct Waiting {
    asked: SetOnce<()>,
    said: SetOnce<Bytes>,
}

impl Waiting {
    /// Returns once the upstream has been asked.
    pub async fn asked(&self) {
        self.asked.wait().await;
    }

    /// Whether it has been.
    pub fn was_asked(&self) -> bool {
        self.asked.initialized()
    }

    /// The client has said this first.
    pub fn say(&self, bytes: Bytes) {
        // What it says later is carried when there is a stream.
        drop(self.said.set(bytes));
    }

    /// What it has said first, if it has.
    pub fn said(&self) -> Bytes {
        self.said.get().cloned().unwrap_or_default()
    }
}

impl Early {
    /// The upstream has been asked; it may be asked again.
    pub(super) fn asked(&self) {
        if let Self::Client(client) = self {
            drop(client.asked.set(()));
        }
    }

    /// What there is to send, once that is known.
    pub(super) async fn said(&self) -> Bytes {
        match self {
            Self::Nothing => std::future::pending().await,
            Self::Greeting => Bytes::from_static(GREETING.as_bytes()),
            Self::Client(client) => client.said.wait().await.clone(),
        }
    }
}
