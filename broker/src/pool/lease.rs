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
    granted: Granted<S>,
}

/// What is given back.
enum Granted<S: Line> {
    /// A channel.
    Channel(S::Channel),
    /// A session's connection, for [`Held`].
    Connection,
    /// Nothing: the channel rests.
    Nothing,
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
        let granted = channel.map_or(Granted::Connection, Granted::Channel);
        Self { pool: pool.clone(), key: key.clone(), session, line, granted }
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

    /// Keeps the channel for whoever goes on with the conversation on it ([`Pool::rouse`]).
    ///
    /// # Errors
    /// There is no room for that, and the channel is to be closed.
    pub fn rest(mut self, talk: S::Talk) -> Result<(), Self> {
        let channel = match std::mem::replace(&mut self.granted, Granted::Nothing) {
            Granted::Channel(channel) if !S::is_closed(&channel) => channel,
            other => {
                self.granted = other;
                return Err(self);
            }
        };
        let mut unkept = Some(channel);
        self.pool.act(&self.key, |shelf, now| {
            let Some(kept) = shelf.kept.get_mut(&self.session) else { return ((), Vec::new()) };
            let (rests, commands) = shelf.ledger.rest(self.session, now);
            if rests {
                kept.resting = unkept.take().map(|channel| (channel, talk));
            }
            ((), commands)
        });
        match unkept {
            None => Ok(()),
            Some(channel) => {
                self.granted = Granted::Channel(channel);
                Err(self)
            }
        }
    }

    /// Has the session alone from now on; whether nobody else uses it.
    #[must_use]
    pub fn alone(&self) -> bool {
        self.pool.act(&self.key, |shelf, _| (shelf.ledger.leave_alone(self.session), Vec::new()))
    }

    /// A command has been handed over: now is the time to open the next channel.
    pub fn started(&self) {
        self.pool.act(&self.key, |shelf, now| ((), shelf.ledger.started(self.session, now)));
    }
}

impl<S: Line> Deref for Leased<S> {
    type Target = S::Channel;

    fn deref(&self) -> &S::Channel {
        match &self.granted {
            Granted::Channel(channel) => channel,
            // `Held` hides the one, and `rest` and `drop` end with the other.
            Granted::Connection | Granted::Nothing => {
                unreachable!("a lease has its channel until it is dropped")
            }
        }
    }
}

impl<S: Line> Drop for Leased<S> {
    fn drop(&mut self) {
        let (pool, key, session, line) =
            (self.pool.clone(), self.key.clone(), self.session, self.line.clone());
        let channel = match std::mem::replace(&mut self.granted, Granted::Nothing) {
            Granted::Channel(channel) => channel,
            Granted::Connection => {
                return pool.act(&key, |shelf, now| ((), shelf.ledger.let_go(session, now)));
            }
            Granted::Nothing => return,
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
