//! Does what the ledgers say. What is decided under the lock is done when it is open again.

use super::key::Key;
use super::ledger::{AHEAD_ON_TELEPORT, Command, Facts, On, SessionId};
use super::line::{Line, Opener};
use super::refusal::{Refused, Stamp, stamp};
use super::shelf::{Ahead, Answer, Claim, Kept, Missed, Shelf};
use super::{Leased, MOST_SESSIONS, Pool, State};
use crate::failures::{record, unix_now};
use crate::session::{Health, NotOpened};
use crate::ssh::{Ended, OpenError};
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// How Teleport's nodes identify themselves.
const TELEPORT: &str = "SSH-2.0-Teleport";

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
    /// Somebody has what they waited for.
    Hand(oneshot::Sender<Answer<S>>, Leased<S>),
    /// Or has not.
    Tell(oneshot::Sender<Answer<S>>, Missed),
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
                if place.on == On::New {
                    return Some(Deed::OpenFor(kept.session.clone(), claim));
                }
                match std::mem::replace(&mut kept.ahead, Ahead::None) {
                    Ahead::Open(channel) if !S::is_closed(&channel) => {
                        let line = kept.session.clone();
                        Some(Deed::Hand(claim.to, Leased::new(pool, &self.key, place.session, line, channel)))
                    }
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
                // Who has left gives it back by dropping it.
                Deed::Hand(to, leased) => drop(to.send(Ok(leased))),
                Deed::Tell(to, missed) => drop(to.send(Err(missed))),
                Deed::Close(kept) => {
                    drop(kept.ahead);
                    kept.session.close();
                }
            }
        }
    }

    async fn open(
        self: Arc<Self>,
        key: Arc<Key>,
        id: SessionId,
        opener: Arc<dyn Opener<S>>,
        deadline: Instant,
    ) {
        let before = {
            let key = key.clone();
            tokio::task::spawn_blocking(move || stamp(&key.target))
        };
        let begun = Instant::now();
        // A panic in there must not leave a session opening for ever.
        let opened = tokio::spawn(opener.open(deadline)).await.unwrap_or_else(|_| {
            let text = format!("opening a session to {} failed inside natssh", key.peer());
            Err(Failure::new(FailureKind::Internal, text).hint("natssh broker logs").into())
        });
        match opened {
            Ok(session) => {
                self.meter.opens.observe(begun.elapsed());
                self.opened(&key, id, session);
            }
            Err(why) => {
                self.meter.not_opened();
                self.not_opened(&key, id, why, before.await.unwrap_or_default());
            }
        }
    }

    fn opened(self: &Arc<Self>, key: &Arc<Key>, id: SessionId, session: S) {
        let session = Arc::new(session);
        let watched = (session.ended(), session.health(), session.private());
        let until = session.until().map(|until| Duration::from_secs(until.saturating_sub(unix_now())));
        let teleport = session.server().starts_with(TELEPORT);
        tracing::info!(peer = key.peer(), session = id, server = session.server(), "session opened");
        self.act(key, |shelf, now| {
            let facts = Facts {
                expires: until.and_then(|until| now.checked_add(until)),
                ahead_for: teleport.then_some(AHEAD_ON_TELEPORT),
            };
            (shelf.refused, shelf.why) = (None, None);
            shelf.kept.insert(id, Kept { session, opened_at: unix_now(), seen: now, ahead: Ahead::None });
            ((), shelf.ledger.opened(id, facts, now))
        });
        let (pool, key) = (Arc::downgrade(self), key.clone());
        tokio::spawn(async move {
            let (mut ended, mut health, mut private) = watched;
            loop {
                let news = news(&mut ended, &mut health, &mut private).await;
                let Some(pool) = pool.upgrade() else { return };
                match news {
                    News::Ended(reason) => return pool.lost(&key, id, &reason),
                    News::Answers(answers) => pool.answers(&key, id, answers),
                    News::Stalled(stalled) => {
                        pool.act(&key, |shelf, now| ((), shelf.ledger.stalled(id, stalled, now)));
                    }
                }
            }
        });
    }

    fn not_opened(self: &Arc<Self>, key: &Arc<Key>, id: SessionId, why: NotOpened, stamp: Stamp) {
        self.act(key, |shelf, now| {
            if let NotOpened::Failed(failure) = &why {
                tracing::debug!(peer = key.peer(), reason = failure.message, "session not opened");
                shelf.last_failure = Some(record(node(key).as_ref(), upstream(key), failure, unix_now()));
            }
            shelf.refused = Refused::after(shelf.refused.take(), stamp, &why, now);
            // With the time of the next attempt, where there is one.
            let refused = shelf.refused.as_ref().filter(|refused| refused.until() > now);
            shelf.why = Some(refused.map_or(why, |refused| refused.said().clone()));
            ((), shelf.ledger.not_opened(id, now))
        });
    }

    fn answers(self: &Arc<Self>, key: &Arc<Key>, id: SessionId, answers: bool) {
        let news = self.act(key, |shelf, now| shelf.ledger.answers(id, answers, now));
        if news && answers {
            tracing::info!(peer = key.peer(), session = id, "session answers again");
        } else if news {
            tracing::warn!(peer = key.peer(), session = id, "session does not answer");
        }
    }

    fn lost(self: &Arc<Self>, key: &Arc<Key>, id: SessionId, reason: &str) {
        let kept = self.act(key, |shelf, now| {
            let taken = shelf.ledger.entries().iter().find(|entry| entry.id == id).map(|entry| entry.taken);
            if let Some(running) = taken {
                tracing::info!(peer = key.peer(), session = id, running, reason, "session ended");
            }
            if let Some(running) = taken.filter(|running| *running > 0) {
                let commands = if running == 1 { "command" } else { "commands" };
                let text =
                    format!("a session to {} ended with {running} {commands} running: {reason}", key.peer());
                let failure = Failure::new(FailureKind::Cut, text).hint("natssh status");
                self.meter.cut(running.into());
                self.failures.record(node(key).as_ref(), upstream(key), &failure);
                shelf.last_failure = Some(record(node(key).as_ref(), upstream(key), &failure, unix_now()));
            }
            (shelf.kept.remove(&id), shelf.ledger.ended(id, now))
        });
        // Not under the lock.
        drop(kept);
    }

    /// A channel for somebody is open, or is not.
    fn hand(
        self: &Arc<Self>,
        key: &Arc<Key>,
        line: Arc<S>,
        claim: Claim<S>,
        opened: Result<S::Channel, OpenError>,
    ) {
        let Claim { place, to } = claim;
        let answer = match opened {
            Ok(channel) => Ok(Leased::new(self, key, place.session, line, channel)),
            Err(OpenError::NoChannel(said)) => {
                let refusal = self.act(key, |shelf, now| {
                    let (refusal, commands) = shelf.ledger.refused(place, now);
                    (Some(refusal), commands)
                });
                match refusal {
                    Some(refusal) => Err(Missed::Refused(refusal, said.to_string())),
                    None => Err(Missed::Lost(said.to_string())),
                }
            }
            Err(OpenError::Lost(reason) | OpenError::Refused(reason)) => {
                self.act(key, |shelf, now| ((), shelf.ledger.closed(place.session, false, now)));
                Err(Missed::Lost(reason))
            }
        };
        drop(to.send(answer));
    }

    async fn open_ahead(self: Arc<Self>, key: Arc<Key>, id: SessionId, session: Arc<S>, number: u64) {
        let opened = session.clone().channel().await;
        match self.put_ahead(&key, id, number, opened) {
            Arrived::Kept => {}
            Arrived::Claimed(claim, opened) => self.hand(&key, session, claim, opened),
            Arrived::Failed(OpenError::NoChannel(_)) => {
                self.act(&key, |shelf, now| ((), shelf.ledger.ahead_refused(id, now)));
            }
            Arrived::Failed(OpenError::Lost(_) | OpenError::Refused(_)) => self.ahead_closed(&key, id),
            Arrived::Unwanted(opened) => {
                drop(opened);
                session.caught_up().await;
                self.ahead_closed(&key, id);
            }
        }
    }

    /// Puts a channel that was opened ahead where it is wanted.
    fn put_ahead(
        &self,
        key: &Arc<Key>,
        id: SessionId,
        number: u64,
        opened: Result<S::Channel, OpenError>,
    ) -> Arrived<S> {
        let mut state = self.lock();
        let Some(shelf) = state.shelves.get_mut(key) else { return Arrived::Unwanted(opened) };
        if let Some(claim) = shelf.claims.remove(&number) {
            return Arrived::Claimed(claim, opened);
        }
        let slot = shelf.kept.get_mut(&id).map(|kept| &mut kept.ahead);
        let slot = slot.filter(|ahead| matches!(ahead, Ahead::Pending(pending) if *pending == number));
        match (slot, opened) {
            (Some(slot), Ok(channel)) => {
                *slot = Ahead::Open(channel);
                Arrived::Kept
            }
            (Some(slot), Err(error)) => {
                *slot = Ahead::None;
                Arrived::Failed(error)
            }
            (None, opened) => Arrived::Unwanted(opened),
        }
    }

    fn ahead_closed(self: &Arc<Self>, key: &Arc<Key>, id: SessionId) {
        self.act(key, |shelf, now| ((), shelf.ledger.ahead_closed(id, now)));
    }
}

/// What becomes of a channel that was opened ahead.
enum Arrived<S: Line> {
    /// It waits for whoever comes next.
    Kept,
    /// Somebody waits for it.
    Claimed(Claim<S>, Result<S::Channel, OpenError>),
    /// There is none.
    Failed(OpenError),
    /// It was given up while it was on its way.
    Unwanted(Result<S::Channel, OpenError>),
}

/// What is heard of a session.
enum News {
    Ended(Arc<str>),
    Answers(bool),
    Stalled(bool),
}

async fn news(
    ended: &mut watch::Receiver<Option<Ended>>,
    health: &mut watch::Receiver<Health>,
    private: &mut watch::Receiver<bool>,
) -> News {
    let over = || News::Ended("it was closed".into());
    tokio::select! {
        biased;
        gone = ended.wait_for(Option::is_some) => {
            let reason = gone.ok().and_then(|gone| gone.as_ref().map(|ended| ended.reason.clone()));
            reason.map_or_else(over, News::Ended)
        }
        heard = health.changed() => match heard {
            Ok(()) => News::Answers(*health.borrow_and_update() == Health::Good),
            Err(_) => over(),
        },
        heard = private.changed() => match heard {
            Ok(()) => News::Stalled(*private.borrow_and_update()),
            Err(_) => over(),
        },
    }
}

/// What somebody is told who comes too late.
pub(super) fn draining() -> Failure {
    Failure::new(FailureKind::Draining, "the broker is shutting down").hint("natssh broker start")
}

pub(super) fn node(key: &Key) -> Option<NodeAddr> {
    NodeAddr::new(&key.target.host, &key.target.port.to_string()).ok()
}

pub(super) fn upstream(key: &Key) -> Option<&str> {
    key.way.upstream()
}
