//! Why a server opened no channel.
//!
//! The library tells an opener the reason's code, and tells the server's words
//! only to a callback that does not say whose they are. Words are passed on
//! when they can be nobody else's.

use russh::ChannelOpenFailure;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Refusals this close together cannot be told apart, and the callback comes a little after the code.
const NEAR: Duration = Duration::from_millis(20);
/// Refusals that are remembered, far more than can come within [`NEAR`] of a person's patience.
const KEPT: usize = 1024;

/// The reason codes of RFC 4254, 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The server's configuration forbids it.
    Prohibited,
    /// The server could not connect to the target.
    ConnectFailed,
    /// The server does not know this kind of channel.
    UnknownKind,
    /// The server has no room for it.
    Shortage,
}

/// A channel that was not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedOpen {
    /// The reason.
    pub code: Code,
    /// The server's own words, when they are certainly about this channel.
    pub words: Option<String>,
}

impl From<ChannelOpenFailure> for Code {
    fn from(reason: ChannelOpenFailure) -> Self {
        match reason {
            ChannelOpenFailure::ConnectFailed => Self::ConnectFailed,
            ChannelOpenFailure::UnknownChannelType => Self::UnknownKind,
            ChannelOpenFailure::ResourceShortage => Self::Shortage,
            _ => Self::Prohibited,
        }
    }
}

/// For people: the server's words, or what the code means.
impl fmt::Display for RefusedOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.code {
            Code::Prohibited => "administratively prohibited",
            Code::ConnectFailed => "connect failed",
            Code::UnknownKind => "unknown channel type",
            Code::Shortage => "resource shortage",
        };
        match &self.words {
            Some(words) => f.write_str(words),
            None => f.write_str(meaning),
        }
    }
}

/// The refusals that the callback heard of lately.
#[derive(Debug, Default)]
pub(super) struct RefusedOpens(Mutex<VecDeque<(Instant, Code, String)>>);

impl RefusedOpens {
    /// The callback heard of one.
    pub(super) fn heard(&self, code: Code, words: &str) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push_back((Instant::now(), code, crate::text::one_line(words)));
        if heard.len() > KEPT {
            heard.pop_front();
        }
    }

    /// For an opener that was just told `code`.
    pub(super) async fn explain(&self, code: Code) -> RefusedOpen {
        let told = Instant::now();
        sleep(NEAR).await;
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut near = heard
            .iter()
            .filter(|(at, other, _)| *other == code && told <= *at + NEAR)
            .map(|(.., words)| words);
        let words = near.next().filter(|first| !first.is_empty() && near.all(|other| other == *first));
        RefusedOpen { code, words: words.cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn words_are_passed_on_when_they_can_be_nobody_elses() {
        let refused = RefusedOpens::default();
        refused.heard(Code::ConnectFailed, "Connection refused");
        refused.heard(Code::Prohibited, "open failed");
        assert_eq!(refused.explain(Code::ConnectFailed).await.to_string(), "Connection refused");
    }

    #[tokio::test(start_paused = true)]
    async fn words_that_may_be_a_neighbours_are_not() {
        let refused = RefusedOpens::default();
        refused.heard(Code::ConnectFailed, "Connection refused");
        refused.heard(Code::ConnectFailed, "No route to host");
        assert_eq!(refused.explain(Code::ConnectFailed).await.to_string(), "connect failed");
        assert_eq!(refused.explain(Code::Shortage).await.words, None);
    }

    #[tokio::test(start_paused = true)]
    async fn words_that_come_a_little_late_are_heard_and_old_ones_are_forgotten() {
        let refused = std::sync::Arc::new(RefusedOpens::default());
        refused.heard(Code::ConnectFailed, "No route to host");
        sleep(NEAR * 3).await;
        let explain = tokio::spawn({
            let refused = refused.clone();
            async move { refused.explain(Code::ConnectFailed).await }
        });
        sleep(NEAR / 4).await;
        refused.heard(Code::ConnectFailed, "Connection refused");
        assert_eq!(explain.await.unwrap().to_string(), "Connection refused");
    }
}
