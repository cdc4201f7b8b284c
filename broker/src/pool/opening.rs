//! The life of a session: opened, watched, ended.

use super::Pool;
use super::act::{node, upstream};
use super::key::Key;
use super::ledger::{AHEAD_ON_TELEPORT, Facts, SessionId};
use super::line::{Line, Opener};
use super::refusal::{Refused, Stamp, stamp};
use super::shelf::{Ahead, Kept};
use crate::failures::{record, unix_now};
use crate::session::{Ended, Health, NotOpened};
use natssh_wire::{Failure, FailureKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How Teleport's nodes identify themselves.
const TELEPORT: &str = "SSH-2.0-Teleport";

impl<S: Line> Pool<S> {
    /// Opens a session, for whoever waits for it by then.
    pub(super) async fn open(
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
        let one_terminal = teleport && session.sha1();
        tracing::info!(peer = key.peer(), session = id, server = session.server(), "session opened");
        self.act(key, |shelf, now| {
            let facts = Facts {
                expires: until.and_then(|until| now.checked_add(until)),
                ahead_for: teleport.then_some(AHEAD_ON_TELEPORT),
                one_terminal,
            };
            (shelf.refused, shelf.why) = (None, None);
            let kept = Kept { session, opened_at: unix_now(), seen: now, ahead: Ahead::None, resting: None };
            shelf.kept.insert(id, kept);
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
            let taken =
                shelf.ledger.entries().iter().find(|entry| entry.id == id).map(|entry| entry.in_use());
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
