//! The pool: sessions that are kept warm, and leased a command at a time.
//!
//! `Ledger` decides which session runs a command; this file does what it says. A lease is asked for with a
//! [`Target`] and with how to get there; whoever asks for the same gets the same sessions. One authentication
//! is made on a cold node, whoever waits for it, and it outlives the caller who asked first. Nothing has run
//! on a node before [`Leased::start`] has handed it over, so until then another session may be tried.

mod act;
mod channels;
mod key;
mod lease;
mod ledger;
mod line;
mod node;
mod opening;
mod refusal;
mod report;
mod resting;
mod shelf;
mod sweep;
#[cfg(test)]
mod tests;
mod without_sftp;

pub use key::Key;
pub use lease::{Held, Leased};
pub use ledger::Use;
pub use line::{Boxed, Counts, Line, Opener};
pub use node::{Node, ToNode};
pub use without_sftp::WithoutSftp;

use crate::failures::Failures;
use crate::metrics::SessionMeter;
use crate::session::NotOpened;
use crate::target::{Run, Target, Wishes};
use ledger::{KEEP, Refusal, WaiterId};
use natssh_wire::{Failure, FailureKind};
use shelf::{Answer, Missed, Shelf};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Sessions at a time; the one that has been unused for longest makes room.
const MOST_SESSIONS: usize = 2000;
/// Callers that wait for a session of one key; the one who would come next is told at once.
const MOST_WAITING: usize = 1024;
/// What was learned of a node is kept for so long after its last use.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// A lease is tried again so often where sessions were lost or useless: nothing ran.
const SECOND_TRIES: u32 = 1;

/// When sessions are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// With their last command.
    Unused,
    /// With all that runs on them.
    Now,
}

/// The sessions of one broker.
pub struct Pool<S: Line> {
    state: Mutex<State<S>>,
    failures: Arc<Failures>,
    /// What was counted.
    pub meter: Arc<SessionMeter>,
}

struct State<S: Line> {
    shelves: HashMap<Arc<Key>, Shelf<S>>,
    last_number: u64,
    draining: bool,
    /// Somebody looks at the clock.
    swept: bool,
}

impl<S: Line> Pool<S> {
    /// A pool without sessions; failures of sessions that were in use are told to `failures`.
    #[must_use]
    pub fn new(failures: Arc<Failures>) -> Arc<Self> {
        let state = State { shelves: HashMap::new(), last_number: 0, draining: false, swept: false };
        Arc::new(Self { state: Mutex::new(state), failures, meter: Arc::default() })
    }

    /// A channel on a session to `target`, opened by `opener` if need be.
    ///
    /// # Errors
    /// Why there is none, by `deadline`. Nothing has run.
    pub async fn lease(
        self: &Arc<Self>,
        target: &Target,
        wishes: &Wishes,
        opener: Arc<dyn Opener<S>>,
        deadline: Instant,
    ) -> Result<Leased<S>, NotOpened> {
        self.lease_for(use_of(wishes), target, wishes, opener, deadline).await
    }

    /// The same, where what is run does not tell how much of a session it wants.
    ///
    /// # Errors
    /// Why there is none, by `deadline`. Nothing has run.
    pub async fn lease_for(
        self: &Arc<Self>,
        how: Use,
        target: &Target,
        wishes: &Wishes,
        opener: Arc<dyn Opener<S>>,
        deadline: Instant,
    ) -> Result<Leased<S>, NotOpened> {
        // A lease has a channel: `hold` is for what wants none.
        let how = if how == Use::Connection { Use::Shared } else { how };
        self.obtain(how, target, wishes, opener, deadline).await
    }

    /// A session to `target`, opened by `opener` if need be, for what takes no session channel.
    ///
    /// # Errors
    /// Why there is none, by `deadline`.
    pub async fn hold(
        self: &Arc<Self>,
        target: &Target,
        wishes: &Wishes,
        opener: Arc<dyn Opener<S>>,
        deadline: Instant,
    ) -> Result<Held<S>, NotOpened> {
        self.obtain(Use::Connection, target, wishes, opener, deadline).await.map(Held)
    }

    async fn obtain(
        self: &Arc<Self>,
        how: Use,
        target: &Target,
        wishes: &Wishes,
        opener: Arc<dyn Opener<S>>,
        deadline: Instant,
    ) -> Result<Leased<S>, NotOpened> {
        let key = Arc::new(Key { target: target.clone(), way: opener.way() });
        self.look_at_files(&key).await;
        self.look_for_keys(&key).await;
        let begun = Instant::now();
        let (mut turn, mut answer) = self.join(&key, how, wishes.keep, opener, deadline)?;
        let mut tries = 0;
        loop {
            let Ok(answered) = timeout_at(deadline, answer).await else {
                return Err(self.too_late(&key).into());
            };
            let missed = match answered {
                Ok(Ok(leased)) => {
                    self.meter.leases.observe(begun.elapsed());
                    return Ok(leased);
                }
                Ok(Err(missed)) => missed,
                Err(_) => return Err(act::draining().into()),
            };
            let failure = match missed {
                Missed::NotOpened(why) => return Err(why),
                Missed::Refused(Refusal::Full, _) => None,
                Missed::Refused(Refusal::Useless, said) => Some(takes_nothing(&key, &said)),
                Missed::Lost(reason) => Some(ended_early(&key.target, &reason)),
            };
            if let Some(failure) = failure {
                if tries == SECOND_TRIES {
                    self.failures.record(act::node(&key).as_ref(), act::upstream(&key), &failure);
                    return Err(failure.into());
                }
                tries += 1;
            }
            answer = turn.again();
        }
    }

    /// Closes the sessions to a host, or all: the next command authenticates afresh, running ones finish, and
    /// refusals are forgotten. Says how many sessions that meant.
    pub fn close(self: &Arc<Self>, host: Option<&str>) -> usize {
        self.reset(|key| host.is_none_or(|host| key.is_of(host)), When::Unused)
    }

    /// How many sessions like those of `wanted` are open and not on their way out.
    #[must_use]
    pub fn open_sessions(&self, wanted: &Key) -> usize {
        let state = self.lock();
        let alike = state.shelves.values().filter(|shelf| shelf.key.is_like(wanted));
        alike.flat_map(|shelf| shelf.ledger.entries()).filter(|entry| entry.is_open()).count()
    }

    /// Closes the sessions like those of `wanted`: with their last command, so that the next one authenticates afresh,
    /// or at once. Refusals are forgotten. Says how many sessions that meant.
    pub fn close_like(self: &Arc<Self>, wanted: &Key, when: When) -> usize {
        self.reset(|key| key.is_like(wanted), when)
    }

    /// Closes the sessions whose way is another one now; `way` says which it is.
    pub fn reroute(self: &Arc<Self>, way: impl Fn(&Key) -> bool) {
        self.reset(|key| !way(key), When::Unused);
    }

    fn reset(self: &Arc<Self>, which: impl Fn(&Key) -> bool, when: When) -> usize {
        let keys: Vec<_> = self.lock().shelves.keys().filter(|key| which(key)).cloned().collect();
        let reset = |key: &Arc<Key>| {
            self.act(key, |shelf, now| {
                shelf.refused = None;
                match when {
                    When::Unused => shelf.ledger.reset(now),
                    When::Now => shelf.ledger.close(now),
                }
            })
        };
        keys.iter().map(reset).sum()
    }

    /// Takes no new commands; sessions close with their last one.
    pub fn drain(self: &Arc<Self>) {
        self.lock().draining = true;
        let keys: Vec<_> = self.lock().shelves.keys().cloned().collect();
        for key in keys {
            self.act(&key, |shelf, now| {
                shelf.why = Some(act::draining().into());
                ((), shelf.ledger.drain(now))
            });
        }
    }

    /// Gets in line for a place.
    fn join(
        self: &Arc<Self>,
        key: &Arc<Key>,
        how: Use,
        keep: Option<Duration>,
        opener: Arc<dyn Opener<S>>,
        deadline: Instant,
    ) -> Result<(Turn<S>, oneshot::Receiver<Answer<S>>), Failure> {
        let (to, answer) = oneshot::channel();
        let now = Instant::now();
        let mut state = self.lock();
        if state.draining {
            return Err(act::draining());
        }
        state.last_number += 1;
        let who = state.last_number;
        let shelf =
            state.shelves.entry(key.clone()).or_insert_with(|| Shelf::new(key.clone(), opener.clone(), now));
        if shelf.waiting.len() >= MOST_WAITING {
            let text = format!("{MOST_WAITING} callers wait for a session to {} already", key.peer());
            return Err(Failure::new(FailureKind::Busy, text).hint("natssh status"));
        }
        (shelf.opener, shelf.last_use) = (opener, now);
        shelf.deadline = in_time(deadline, now);
        shelf.waiting.insert(who, to);
        let commands = shelf.ledger.ask(who, how, keep.unwrap_or(KEEP), now);
        let deeds = state.carry_out(self, key, commands, now);
        drop(state);
        self.perform(key, deeds);
        self.keep_swept();
        Ok((Turn { pool: self.clone(), key: key.clone(), who, how }, answer))
    }

    fn too_late(&self, key: &Arc<Key>) -> Failure {
        let state = self.lock();
        let entries = state.shelves.get(key).map_or(&[][..], |shelf| shelf.ledger.entries());
        let taken = entries.iter().filter(|entry| entry.in_use() > 0).count();
        let (peer, sessions) = (key.peer(), if taken == 1 { "session" } else { "sessions" });
        let text = match taken {
            0 => format!("{peer} did not answer in time"),
            _ => format!("{taken} {sessions} to {peer} had no place in time, and no other could be opened"),
        };
        Failure::new(FailureKind::Timeout, text).hint("natssh status")
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody in line; dropping it leaves the line.
struct Turn<S: Line> {
    pool: Arc<Pool<S>>,
    key: Arc<Key>,
    who: WaiterId,
    how: Use,
}

impl<S: Line> Turn<S> {
    /// The place came to nothing, and the turn is kept.
    fn again(&mut self) -> oneshot::Receiver<Answer<S>> {
        let (to, answer) = oneshot::channel();
        self.pool.act(&self.key, |shelf, now| {
            shelf.waiting.insert(self.who, to);
            ((), shelf.ledger.ask_again(self.who, self.how, now))
        });
        answer
    }
}

impl<S: Line> Drop for Turn<S> {
    fn drop(&mut self) {
        let left = self.pool.lock().shelves.get_mut(&self.key).and_then(|shelf| {
            shelf.ledger.withdraw(self.who);
            shelf.waiting.remove(&self.who)
        });
        drop(left);
    }
}

/// Bulk wants a session to itself: it would slow down all others on the same connection. With a terminal it is no bulk.
fn use_of(wishes: &Wishes) -> Use {
    let bulk: [&[u8]; 4] = [b"scp ", b"rsync --server ", b"git-upload-pack ", b"git-receive-pack "];
    match &wishes.run {
        _ if wishes.terminal.is_some() => Use::Terminal,
        Run::Subsystem(name) if name == "sftp" => Use::Alone,
        Run::Command(command) if bulk.iter().any(|start| command.starts_with(start)) => Use::Alone,
        _ => Use::Shared,
    }
}

/// Who opens a session answers a little before the caller's time is over, so that the reason is heard.
fn in_time(deadline: Instant, now: Instant) -> Instant {
    let patience = deadline.saturating_duration_since(now);
    now + patience.saturating_sub((patience / 10).min(Duration::from_millis(200)))
}

fn takes_nothing(key: &Key, said: &str) -> Failure {
    let text = format!("{} opens no session channel: {said}", key.peer());
    Failure::new(FailureKind::Denied, text).hint("ask who runs the node about MaxSessions in its sshd_config")
}

fn ended_early(target: &Target, reason: &str) -> Failure {
    let text = format!("the session to {} ended before the command was sent: {reason}", target.peer());
    Failure::new(FailureKind::Unreachable, text).hint(format!("natssh why {}", target.host))
}

/// What is said of channels that ended again and again before anything was sent.
#[must_use]
pub fn lost(target: &Target) -> Failure {
    ended_early(target, "the node closed the channel")
}
