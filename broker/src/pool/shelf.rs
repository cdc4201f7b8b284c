//! The sessions of one key: the ledger, and what it keeps books of.

use super::Leased;
use super::key::Key;
use super::ledger::{Ledger, Place, Refusal, SessionId, WaiterId};
use super::line::{Line, Opener};
use super::refusal::Refused;
use crate::session::NotOpened;
use natssh_wire::status::FailureRecord;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What becomes of a wish for a place.
pub(super) type Answer<S> = Result<Leased<S>, Missed>;

/// Why there is none.
#[derive(Debug)]
pub(super) enum Missed {
    /// No session could be opened.
    NotOpened(NotOpened),
    /// The node gave no channel; what it said.
    Refused(Refusal, String),
    /// The session ended before there was one; why.
    Lost(String),
}

/// A session as the pool keeps it.
pub(super) struct Kept<S: Line> {
    /// The session.
    pub session: Arc<S>,
    /// In seconds since 1970.
    pub opened_at: u64,
    /// When the key that opened it was last seen where it belongs.
    pub seen: Instant,
    /// The channel opened ahead of need.
    pub ahead: Ahead<S>,
    /// The channel that rests, and how far its conversation has come.
    pub resting: Option<(S::Channel, S::Talk)>,
}

/// A channel opened ahead of need.
pub(super) enum Ahead<S: Line> {
    /// There is none.
    None,
    /// Its confirmation is under way; its number.
    Pending(u64),
    /// It is open.
    Open(S::Channel),
}

/// Who is to have a channel, and the place it takes.
pub(super) struct Claim<S: Line> {
    pub place: Place,
    pub to: oneshot::Sender<Answer<S>>,
}

/// The sessions of one key.
pub(super) struct Shelf<S: Line> {
    pub key: Arc<Key>,
    pub ledger: Ledger,
    pub kept: HashMap<SessionId, Kept<S>>,
    pub waiting: HashMap<WaiterId, oneshot::Sender<Answer<S>>>,
    /// Those who were granted a channel ahead while its confirmation was under way, by its number.
    pub claims: HashMap<u64, Claim<S>>,
    /// That of who came last: it knows the configuration in force.
    pub opener: Arc<dyn Opener<S>>,
    /// When who came last must have an answer.
    pub deadline: Instant,
    pub refused: Option<Refused>,
    /// Why the last session was not opened, for those who waited for it.
    pub why: Option<NotOpened>,
    pub last_failure: Option<FailureRecord>,
    pub last_use: Instant,
}

impl<S: Line> Shelf<S> {
    pub(super) fn new(key: Arc<Key>, opener: Arc<dyn Opener<S>>, now: Instant) -> Self {
        Self {
            key,
            ledger: Ledger::default(),
            kept: HashMap::new(),
            waiting: HashMap::new(),
            claims: HashMap::new(),
            opener,
            deadline: now,
            refused: None,
            why: None,
            last_failure: None,
            last_use: now,
        }
    }

    /// Nobody would miss it. What was learned of the node is kept for a while.
    pub(super) fn is_forgotten(&self, now: Instant, after: Duration) -> bool {
        let refused = self.refused.as_ref().is_some_and(|refused| !refused.is_forgotten(now));
        let empty = self.ledger.entries().is_empty() && self.waiting.is_empty();
        empty && !refused && now.saturating_duration_since(self.last_use) >= after
    }
}
