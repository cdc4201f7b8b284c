//! Does what the ledgers say. What is decided under the lock is done when it is open again.

use super::key::Key;
use super::ledger::{Command, On, SessionId};
use super::line::{Line, Opener};
use super::shelf::{Ahead, Answer, Claim, Kept, Missed, Shelf};
use super::{Leased, MOST_SESSIONS, Pool, State};
use crate::session::NotOpened;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What is to be done without the lock.
pub(super) enum Deed<S: Line> {
    /// Authenticate a session.
    Open(SessionId, Arc<dyn Opener<S>>, Instant),
    /// Open a channel for somebody.
    OpenFor(Arc<S>, Claim<S>),
    /// Open a channel for whoever comes next; its number.
    OpenAhead(SessionId, Arc<S>, u64),
    /// Close a channel that nobody came for.
    GiveUp(SessionId, Arc<S>, S::Channel),
    /// Close the channel that rested.
    GiveUpResting(SessionId, S::Channel),
    /// Somebody has what they waited for.
    Hand(oneshot::Sender<Answer<S>>, Leased<S>),
    /// Or has not.
    Tell(oneshot::Sender<Answer<S>>, Missed),
    /// Ask the node anything.
    CatchUp(SessionId, Arc<S>, u64),
    /// Close a session.
    Close(Kept<S>),
}

impl<S: Line> State<S> {
    /// Turns commands into deeds; those that cannot be carried out go back to the ledger at once.
    pub(super) fn carry_out(
        &mut self,
        pool: &Arc<Pool<S>>,
        key: &Arc<Key>,
        commands: Vec<Command>,
        now: Instant,
    ) -> Vec<Deed<S>> {
        let mut deeds = Vec::new();
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            if let Command::Open(id) = command {
                let allowed = self.make_room(&mut deeds).and_then(|()| self.may_ask(key, now));
                let Some(shelf) = self.shelves.get_mut(key) else { continue };
                match allowed {
                    Ok(()) => deeds.push(Deed::Open(id, shelf.opener.clone(), shelf.deadline)),
                    Err(why) => {
                        shelf.why = Some(why);
                        commands.extend(shelf.ledger.not_opened(id, now));
                    }
                }
                continue;
            }
            self.last_number += 1;
            let number = self.last_number;
            let Some(shelf) = self.shelves.get_mut(key) else { continue };
            deeds.extend(shelf.deed(pool, command, number));
        }
        deeds
    }

    /// Whether the node has not just refused the same.
    fn may_ask(&mut self, key: &Arc<Key>, now: Instant) -> Result<(), NotOpened> {
        let shelf = self.shelves.get_mut(key);
        shelf.and_then(|shelf| shelf.refused.as_mut()).map_or(Ok(()), |refused| refused.ask(now))
    }

    /// Closes the session that has been unused for longest, where there are too many.
    fn make_room(&mut self, deeds: &mut Vec<Deed<S>>) -> Result<(), NotOpened> {
        let all = self.shelves.values().map(|shelf| shelf.ledger.entries().len()).sum::<usize>();
        // The new one is in the books already.
        if all <= MOST_SESSIONS {
            return Ok(());
        }
        let unused = self.shelves.iter().flat_map(|(key, shelf)| {
            let entries = shelf.ledger.entries().iter();
            entries.filter_map(move |entry| Some((entry.unused_since()?, key, entry.id)))
        });
        let Some((_, key, id)) = unused.min_by_key(|(since, ..)| *since) else {
            let text = format!("the broker has {MOST_SESSIONS} sessions open, and all are in use");
            return Err(Failure::new(FailureKind::Busy, text).hint("natssh status").into());
        };
        let key = key.clone();
        if let Some(shelf) = self.shelves.get_mut(&key)
            && shelf.ledger.evict(id)
        {
            tracing::debug!(peer = key.peer(), "session closed to make room");
            deeds.extend(shelf.kept.remove(&id).map(Deed::Close));
        }
        Ok(())
    }
}

impl<S: Line> Shelf<S> {
    fn deed(&mut self, pool: &Arc<Pool<S>>, command: Command, number: u64) -> Option<Deed<S>> {
        match command {
            Command::Open(_) => None,
            Command::Grant(who, place) => {
                let to = self.waiting.remove(&who)?;
                let kept = self.kept.get_mut(&place.session)?;
                let claim = Claim { place, to };
                let hand = |to, channel| {
                    let line = kept.session.clone();
                    Some(Deed::Hand(to, Leased::new(pool, &self.key, place.session, line, channel)))
                };
                match place.on {
                    On::New => return Some(Deed::OpenFor(kept.session.clone(), claim)),
                    On::Nothing => return hand(claim.to, None),
                    On::Ahead => {}
                }
                match std::mem::replace(&mut kept.ahead, Ahead::None) {
                    Ahead::Open(channel) if !S::is_closed(&channel) => hand(claim.to, Some(channel)),
                    Ahead::Pending(number) => {
                        self.claims.insert(number, claim);
                        None
                    }
                    // The node has closed it since: another one takes its place.
                    Ahead::Open(_) | Ahead::None => Some(Deed::OpenFor(kept.session.clone(), claim)),
                }
            }
            Command::OpenAhead(id) => {
                let kept = self.kept.get_mut(&id)?;
                kept.ahead = Ahead::Pending(number);
                Some(Deed::OpenAhead(id, kept.session.clone(), number))
            }
            Command::GiveUpAhead(id) => {
                let kept = self.kept.get_mut(&id)?;
                match std::mem::replace(&mut kept.ahead, Ahead::None) {
                    Ahead::Open(channel) => Some(Deed::GiveUp(id, kept.session.clone(), channel)),
                    // Whoever opens it sees that nobody wants it any more.
                    Ahead::Pending(_) | Ahead::None => None,
                }
            }
            Command::GiveUpResting(id) => {
                let (channel, _) = self.kept.get_mut(&id)?.resting.take()?;
                Some(Deed::GiveUpResting(id, channel))
            }
            Command::CatchUp(id, closed) => {
                Some(Deed::CatchUp(id, self.kept.get(&id)?.session.clone(), closed))
            }
            Command::Close(id) => self.kept.remove(&id).map(Deed::Close),
            Command::Fail(who) => {
                let why = self.why.clone().unwrap_or_else(|| draining().into());
                Some(Deed::Tell(self.waiting.remove(&who)?, Missed::NotOpened(why)))
            }
        }
    }
}

impl<S: Line> Pool<S> {
    /// Tells the ledger of `key` something, and does what it says.
    pub(super) fn act<R: Default>(
        self: &Arc<Self>,
        key: &Arc<Key>,
        tell: impl FnOnce(&mut Shelf<S>, Instant) -> (R, Vec<Command>),
    ) -> R {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(shelf) = state.shelves.get_mut(key) else { return R::default() };
        let (result, commands) = tell(shelf, now);
        let deeds = state.carry_out(self, key, commands, now);
        drop(state);
        self.perform(key, deeds);
        result
    }

    pub(super) fn perform(self: &Arc<Self>, key: &Arc<Key>, deeds: Vec<Deed<S>>) {
        for deed in deeds {
            let (pool, key) = (self.clone(), key.clone());
            match deed {
                Deed::Open(id, opener, deadline) => drop(tokio::spawn(pool.open(key, id, opener, deadline))),
                Deed::OpenFor(session, claim) => drop(tokio::spawn(async move {
                    let opened = session.clone().channel().await;
                    pool.hand(&key, session, claim, opened);
                })),
                Deed::OpenAhead(id, session, number) => {
                    drop(tokio::spawn(pool.open_ahead(key, id, session, number)));
                }
                Deed::GiveUp(id, session, channel) => drop(tokio::spawn(async move {
                    drop(channel);
                    session.caught_up().await;
                    pool.ahead_closed(&key, id);
                })),
                Deed::GiveUpResting(id, channel) => drop(tokio::spawn(async move {
                    let left_behind = !S::wind_down(channel).await;
                    pool.act(&key, |shelf, now| ((), shelf.ledger.rested(id, left_behind, now)));
                })),
                // Who has left gives it back by dropping it.
                Deed::Hand(to, leased) => drop(to.send(Ok(leased))),
                Deed::Tell(to, missed) => drop(to.send(Err(missed))),
                Deed::CatchUp(id, session, closed) => drop(tokio::spawn(async move {
                    session.caught_up().await;
                    pool.act(&key, |shelf, now| ((), shelf.ledger.caught_up(id, closed, now)));
                })),
                Deed::Close(kept) => {
                    drop((kept.ahead, kept.resting));
                    kept.session.close();
                }
            }
        }
    }
}

/// What somebody is told who comes too late.
pub(super) fn draining() -> Failure {
    Failure::new(FailureKind::Draining, "the broker is shutting down").hint("natssh broker start")
}

pub(super) fn node(key: &Key) -> Option<NodeAddr> {
    key.target.address().ok()
}

pub(super) fn upstream(key: &Key) -> Option<&str> {
    key.way.upstream()
}
