//! Where a channel's bytes go, by what the connection is for.
//!
//! A trunk carries streams, whose bytes wait in an [`Inbox`]; a session runs commands, and what they print waits in
//! [`Outputs`], as does what comes from a port that the node connected to. The callbacks treat both alike.

use super::inbox::{Budget, End, Inbox, Kept};
use super::outputs::{Outputs, Unread};
use natssh_wire::frame::Output;
use std::sync::Arc;
use std::time::Duration;

/// What becomes of bytes that a connection's channels leave unread.
#[derive(Clone)]
pub enum Keeping {
    /// Channels are streams with SSH inside, and share this memory.
    Streams(Arc<Budget>),
    /// Channels run commands, on one session.
    Commands(Arc<Unread>),
}

/// One channel's bytes.
#[derive(Clone)]
pub(super) enum Mailbox {
    /// A stream's.
    Stream(Arc<Inbox>),
    /// A command's.
    Command(Arc<Outputs>),
}

impl Keeping {
    pub(super) fn mailbox(&self) -> Mailbox {
        match self {
            Self::Streams(budget) => Mailbox::Stream(Arc::new(Inbox::new(budget.clone()))),
            Self::Commands(unread) => Mailbox::Command(Arc::new(Outputs::new(unread.clone()))),
        }
    }
}

impl Mailbox {
    /// The stream's inbox, if it is one.
    pub(super) fn inbox(self) -> Option<Arc<Inbox>> {
        match self {
            Self::Stream(inbox) => Some(inbox),
            Self::Command(_) => None,
        }
    }

    /// The command's outputs, if it is one.
    pub(super) fn outputs(self) -> Option<Arc<Outputs>> {
        match self {
            Self::Command(outputs) => Some(outputs),
            Self::Stream(_) => None,
        }
    }

    pub(super) fn reply(&self, accepted: bool) {
        match self {
            Self::Stream(inbox) => inbox.reply(accepted),
            Self::Command(outputs) => outputs.reply(accepted),
        }
    }

    pub(super) fn eof(&self) {
        match self {
            Self::Stream(inbox) => inbox.eof(),
            Self::Command(outputs) => outputs.eof(),
        }
    }

    pub(super) fn end(&self, end: End) {
        match self {
            Self::Stream(inbox) => inbox.end(end),
            Self::Command(outputs) => outputs.end(end),
        }
    }

    pub(super) fn ended(&self) -> bool {
        match self {
            Self::Stream(inbox) => inbox.ended().is_some(),
            Self::Command(outputs) => outputs.ended().is_some(),
        }
    }

    pub(super) fn silence(&self) -> Option<Duration> {
        match self {
            Self::Stream(inbox) => inbox.silence(),
            Self::Command(_) => None,
        }
    }

    /// Takes standard output. Returns at once but for a command's output that there is no place for.
    pub(super) async fn stdout(&self, data: &[u8]) -> Kept {
        match self {
            Self::Stream(inbox) => inbox.push(data),
            Self::Command(outputs) => outputs.take(Output::Stdout, data).await,
        }
    }

    /// Takes standard error; the same holds.
    pub(super) async fn stderr(&self, data: &[u8]) -> Kept {
        match self {
            Self::Stream(inbox) => {
                inbox.push_stderr(data);
                Kept::Yes
            }
            Self::Command(outputs) => outputs.take(Output::Stderr, data).await,
        }
    }
}
