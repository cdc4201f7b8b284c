//! A channel that somebody was granted, or a session without one.

use super::Pool;
use super::key::Key;
use super::ledger::SessionId;
use super::line::Line;
use std::ops::Deref;
use std::sync::Arc;

/// A channel of a session, on which nothing runs yet. Dropping it closes it and gives its place back.
pub struct Leased<S: Line> {
    pool: Arc<Pool<S>>,
    key: Arc<Key>,
    session: SessionId,
    line: Arc<S>,
    /// None for [`Held`].
    channel: Option<S::Channel>,
}

/// A session that takes nothing from `MaxSessions`: for a forwarded port, or to be kept. Dropping it gives it back.
pub struct Held<S: Line>(pub(super) Leased<S>);

impl<S: Line> Held<S> {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &Arc<S> {
        &self.0.line
    }
}

impl<S: Line> Leased<S> {
    pub(super) fn new(
        pool: &Arc<Pool<S>>,
        key: &Arc<Key>,
        session: SessionId,
        line: Arc<S>,
        channel: Option<S::Channel>,
    ) -> Self {
        Self { pool: pool.clone(), key: key.clone(), session, line, channel }
    }

    /// The session that it is a channel of.
    #[must_use]
    pub fn session(&self) -> &Arc<S> {
        &self.line
    }

    /// Who is whom on it.
    #[must_use]
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// A command has been handed over: now is the time to open the next channel.
    pub fn started(&self) {
        self.pool.act(&self.key, |shelf, now| ((), shelf.ledger.started(self.session, now)));
    }
}

impl<S: Line> Deref for Leased<S> {
    type Target = S::Channel;

    fn deref(&self) -> &S::Channel {
        // Taken only by `drop`, and `Held` hides a lease that has none.
        self.channel.as_ref().expect("a lease has its channel until it is dropped")
    }
}

impl<S: Line> Drop for Leased<S> {
    fn drop(&mut self) {
        let (pool, key, session, line) =
            (self.pool.clone(), self.key.clone(), self.session, self.line.clone());
        let Some(channel) = self.channel.take() else {
            return pool.act(&key, |shelf, now| ((), shelf.ledger.let_go(session, now)));
        };
        let closed = S::is_closed(&channel);
        drop(channel);
        if line.ended().borrow().is_some() {
            // Whoever watches over it strikes it out, with the commands that were on it.
            return;
        }
        let give_back = move |left_behind: bool| {
            pool.act(&key, |shelf, now| ((), shelf.ledger.closed(session, left_behind, now)));
        };
        if closed {
            give_back(false);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // It counts until the node has heard of it; and what ran may go on running there.
            runtime.spawn(async move {
                line.caught_up().await;
                give_back(true);
            });
        }
    }
}
