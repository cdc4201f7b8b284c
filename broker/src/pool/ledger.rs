//! Which session of a node runs the next command. No I/O; the caller supplies the time.
//!
//! One ledger books the sessions of one key: all that were authenticated as the same person towards the
//! same node by the same way. It is told what happened and answers with [`Command`]s. A session takes as
//! many channels as sshd's `MaxSessions` lets it, counted until each is *closed*; the limit is not
//! announced and is learned from refusals. On a cold node one session is opened, whoever waits for it;
//! further ones while all are full. Each session has one channel opened ahead of need, so that a command
//! costs one round trip and not two. A channel whose program can serve the next of its kind may rest on the
//! session until then; it takes a place and stands in nobody's way.

mod entry;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

pub(super) use entry::{Entry, Health, SessionId};

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// sshd's `MaxSessions`, unless somebody has set another.
pub(super) const CHANNELS: u32 = 10;
/// Sessions of one node that are authenticated at a time, once one was: as many as admission lets through.
const OPENING: usize = 8;
/// After a session that could not be opened beside others, so long none is.
const PAUSE: Duration = Duration::from_secs(2);
/// A session beside another is closed when it has been unused for so long.
pub(super) const SPARE_IDLE: Duration = Duration::from_secs(60);
/// The last session of a node is kept unused for so long, where the user set no `ControlPersist`.
pub(super) const KEEP: Duration = Duration::from_secs(600);
/// A session takes nothing new after so long: what a long-lived connection accumulates goes with it.
pub(super) const MAX_AGE: Duration = Duration::from_secs(12 * 3600);
/// How long a channel opened ahead may stand unused where the node is Teleport's: a cluster may cut the
/// whole connection for one silent channel (`client_idle_timeout`), and does not say so.
pub(super) const AHEAD_ON_TELEPORT: Duration = Duration::from_secs(5);

/// A channel with a program that waits for the next of its kind is kept for so long: from one file of a play to the next.
pub(super) const RESTS: Duration = Duration::from_secs(30);
/// Such a channel is closed within this, or another session is opened for who waits for its place.
pub(super) const MAKING_ROOM: Duration = Duration::from_secs(1);

/// Names who waits; given by the caller, never twice.
pub(super) type WaiterId = u64;

/// How a session is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// Beside others.
    Shared,
    /// Beside others, with a terminal, of which not every session carries more than one.
    Terminal,
    /// Alone, where that can be had: bulk would slow its neighbours.
    Alone,
    /// The connection itself, for a forwarded port or for nothing at all: `MaxSessions` does not count these.
    Connection,
}

/// Which channel a command runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// One that is to be opened now.
    New,
    /// The one that was opened ahead of need; its confirmation may still be under way.
    Ahead,
    /// None: [`Use::Connection`] takes no place.
    Nothing,
}

/// A place on a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The session.
    pub session: SessionId,
    /// The channel.
    pub on: On,
    /// How many others the session had when this one was asked for: what a refusal teaches.
    pub others: u32,
    /// How many of its channels had been closed by then: an answer says that the node has let go of these.
    pub closed: u64,
}

/// What the caller is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Authenticate a session; answered by [`Ledger::opened`] or [`Ledger::not_opened`].
    Open(SessionId),
    /// Who waited has a place; ends with [`Ledger::refused`] or [`Ledger::closed`], and one on [`On::Nothing`] with
    /// [`Ledger::let_go`].
    Grant(WaiterId, Place),
    /// Open a channel ahead of need; ends with [`Ledger::ahead_refused`] or [`Ledger::ahead_closed`], unless
    /// it is granted.
    OpenAhead(SessionId),
    /// Close the channel opened ahead; ends with [`Ledger::ahead_closed`].
    GiveUpAhead(SessionId),
    /// Close the channel that rests; ends with [`Ledger::rested`].
    GiveUpResting(SessionId),
    /// Ask the node anything; answered by [`Ledger::caught_up`] with that number.
    CatchUp(SessionId, u64),
    /// Close the session, which is out of the books.
    Close(SessionId),
    /// Who waited waits no more: no session could be opened.
    Fail(WaiterId),
}

/// What the refusal of a channel means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The session is full.
    Full,
    /// The session takes no channel at all.
    Useless,
}

/// What is known of a session that was just authenticated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// It takes nothing new from then on: the end of the certificate that opened it.
    pub expires: Option<Instant>,
    /// How long a channel opened ahead may stand unused; none: as long as the session.
    pub ahead_for: Option<Duration>,
    /// It carries one terminal in its life. Up to about Teleport 9 a node tells whoever had a terminal that it has
    /// ended, by a global request that wants no reply (`lib/srv/sess.go`, `leaveSession`), and russh 0.65.1 replies
    /// (`client/encrypted.rs`). Go's library keeps one reply that nobody waits for; at the second it reads no more of
    /// the connection, for ever (`x/crypto/ssh/mux.go`, `handleGlobalPacket`).
    pub one_terminal: bool,
}

/// The sessions of one key, and who waits for them.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
    waiting: VecDeque<(WaiterId, Use)>,
    last: SessionId,
    /// Channels a session is believed to take.
    limit: u32,
    keep: Duration,
    /// Counts up when everything is to be authenticated afresh.
    generation: u64,
    not_before: Option<Instant>,
    /// It takes nobody any more.
    drained: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            waiting: VecDeque::new(),
            last: 0,
            limit: CHANNELS,
            keep: KEEP,
            generation: 0,
            not_before: None,
            drained: false,
        }
    }
}

impl Ledger {
    /// Somebody wants to run a command, and says how long the session is worth keeping afterwards.
    pub(super) fn ask(&mut self, who: WaiterId, how: Use, keep: Duration, now: Instant) -> Vec<Command> {
        self.keep = keep;
        self.waiting.push_back((who, how));
        self.settle(now)
    }

    /// The same for who was granted a place that came to nothing, and keeps the turn.
    pub(super) fn ask_again(&mut self, who: WaiterId, how: Use, now: Instant) -> Vec<Command> {
        self.waiting.push_front((who, how));
        self.settle(now)
    }

    /// Somebody waits no longer.
    pub(super) fn withdraw(&mut self, who: WaiterId) {
        self.waiting.retain(|(waiter, _)| *waiter != who);
    }

    /// A session is authenticated.
    pub(super) fn opened(&mut self, id: SessionId, facts: Facts, now: Instant) -> Vec<Command> {
        let (limit, generation) = (self.limit, self.generation);
        if let Some(entry) = self.entry(id) {
            entry.begin(limit, facts, now);
            if entry.generation != generation {
                entry.drain();
            }
        }
        self.settle(now)
    }

    /// A session could not be authenticated. Who waits is told, unless there is another session to wait for.
    pub(super) fn not_opened(&mut self, id: SessionId, now: Instant) -> Vec<Command> {
        let Some(failed) = self.take_out(id) else { return Vec::new() };
        // It was for those of before a reset, and they want a fresh one like all others.
        if failed.generation == self.generation {
            if self.entries.iter().any(Entry::will_take_more) {
                self.not_before = Some(now + PAUSE);
                let alone = self.waiting.iter_mut().filter(|(_, how)| *how == Use::Alone);
                alone.for_each(|(_, how)| *how = Use::Shared);
            } else if !self.is_opening() {
                return self.waiting.drain(..).map(|(who, _)| Command::Fail(who)).collect();
            }
        }
        self.settle(now)
    }

    /// A command was handed over on that session: now is the time for the next channel.
    pub(super) fn started(&mut self, id: SessionId, now: Instant) -> Vec<Command> {
        let ahead = self.entry(id).is_some_and(|entry| entry.open_ahead(now));
        if ahead { vec![Command::OpenAhead(id)] } else { Vec::new() }
    }

    /// The node has opened the channel of a place.
    pub(super) fn answered(&mut self, place: Place, now: Instant) -> Vec<Command> {
        self.caught_up(place.session, place.closed, now)
    }

    /// The channel opened ahead is open, and nobody has been granted it.
    pub(super) fn ahead_opened(&mut self, id: SessionId, now: Instant) -> Vec<Command> {
        let closed = self.entry(id).and_then(|entry| entry.ahead).map(|ahead| ahead.closed);
        closed.map_or_else(Vec::new, |closed| self.caught_up(id, closed, now))
    }

    /// The node has answered something that was sent when so many channels had been closed.
    pub(super) fn caught_up(&mut self, id: SessionId, closed: u64, now: Instant) -> Vec<Command> {
        if let Some(entry) = self.entry(id) {
            entry.caught_up(closed);
        }
        self.settle(now)
    }

    /// The node refused the channel of a place, which is given back with this.
    pub(super) fn refused(&mut self, place: Place, now: Instant) -> (Refusal, Vec<Command>) {
        if let Some(entry) = self.entry(place.session) {
            entry.give_back(now);
            entry.caught_up(place.closed);
        }
        let refusal = self.learn(place.session, place.others);
        (refusal, self.settle(now))
    }

    /// The node refused the channel opened ahead, and nobody had been granted it.
    pub(super) fn ahead_refused(&mut self, id: SessionId, now: Instant) -> Vec<Command> {
        if let Some(entry) = self.entry(id)
            && let Some(ahead) = entry.ahead.take()
        {
            entry.caught_up(ahead.closed);
            self.learn(id, ahead.others);
        }
        self.settle(now)
    }

    /// The channel opened ahead is closed: given up, or by the node.
    pub(super) fn ahead_closed(&mut self, id: SessionId, now: Instant) -> Vec<Command> {
        if let Some(entry) = self.entry(id)
            && entry.ahead.take().is_some()
        {
            entry.closed += 1;
        }
        self.settle(now)
    }

    /// A channel that somebody had been granted is closed. The node lets go of it only when it has read all
    /// that it was sent by then. What was left behind there still counts, so a refusal on that session says
    /// nothing about others.
    pub(super) fn closed(&mut self, id: SessionId, left_behind: bool, now: Instant) -> Vec<Command> {
        if let Some(entry) = self.entry(id) {
            entry.give_back(now);
            entry.closed += 1;
            entry.left_behind |= left_behind;
        }
        self.settle(now)
    }

    /// Somebody is done with a channel on which a program waits for more of the same; whether it is kept for that.
    /// One that is not is given back as ever.
    pub(super) fn rest(&mut self, id: SessionId, now: Instant) -> (bool, Vec<Command>) {
        let wanted = self.drained || !self.waiting.is_empty();
        let rests = !wanted && self.entry(id).is_some_and(|entry| entry.rest(now));
        (rests, self.settle(now))
    }

    /// Takes a channel that rests, for somebody who goes on with it; on which session.
    pub(super) fn rouse(&mut self, how: Use, keep: Duration, now: Instant) -> Option<SessionId> {
        self.entries.iter_mut().for_each(|entry| entry.expire(now));
        let entry = self.entries.iter_mut().find(|entry| entry.may_rouse(how))?;
        entry.rouse(how);
        let id = entry.id;
        self.keep = keep;
        Some(id)
    }

    /// A channel that rested is closed.
    pub(super) fn rested(&mut self, id: SessionId, left_behind: bool, now: Instant) -> Vec<Command> {
        if let Some(entry) = self.entry(id)
            && entry.resting.take().is_some()
        {
            entry.closed += 1;
            entry.left_behind |= left_behind;
        }
        self.settle(now)
    }

    /// Somebody who has a place on that session wants it alone from now on; whether nobody else is there.
    pub(super) fn leave_alone(&mut self, id: SessionId) -> bool {
        self.entry(id).is_some_and(Entry::leave_alone)
    }

    /// Somebody who had the connection of that session lets go of it.
    pub(super) fn let_go(&mut self, id: SessionId, now: Instant) -> Vec<Command> {
        if let Some(entry) = self.entry(id) {
            entry.let_go(now);
        }
        self.settle(now)
    }

    /// A session answers, or has not for a while; says whether that is news.
    pub(super) fn answers(&mut self, id: SessionId, answers: bool, now: Instant) -> (bool, Vec<Command>) {
        let news = self.entry(id).is_some_and(|entry| entry.answers(answers));
        (news, if news { self.settle(now) } else { Vec::new() })
    }

    /// Somebody on that session does not read what the node sends, or reads again.
    pub(super) fn stalled(&mut self, id: SessionId, stalled: bool, now: Instant) -> Vec<Command> {
        if let Some(entry) = self.entry(id) {
            entry.stalled = stalled;
        }
        self.settle(now)
    }

    /// What opened that session is gone: no new command on it.
    pub(super) fn retire(&mut self, id: SessionId, now: Instant) -> Vec<Command> {
        if let Some(entry) = self.entry(id) {
            entry.drain();
        }
        self.settle(now)
    }

    /// The connection of that session has ended.
    pub(super) fn ended(&mut self, id: SessionId, now: Instant) -> Vec<Command> {
        self.take_out(id);
        self.settle(now)
    }

    /// The next command authenticates afresh; running ones finish. Says how many sessions that meant.
    pub(super) fn reset(&mut self, now: Instant) -> (usize, Vec<Command>) {
        self.generation += 1;
        self.limit = CHANNELS;
        self.not_before = None;
        let meant = self.entries.iter().filter(|entry| entry.health != Health::Draining).count();
        self.entries.iter_mut().for_each(Entry::drain);
        (meant, self.settle(now))
    }

    /// The same at once, whatever runs. Says how many sessions that meant.
    pub(super) fn close(&mut self, now: Instant) -> (usize, Vec<Command>) {
        let meant = self.entries.len();
        let (_, mut commands) = self.reset(now);
        // One that is being opened is closed when it is.
        let closed = self.entries.extract_if(.., |entry| entry.health != Health::Opening);
        commands.extend(closed.map(|entry| Command::Close(entry.id)));
        (meant, commands)
    }

    /// Nothing new at all; who waits is told.
    pub(super) fn drain(&mut self, now: Instant) -> Vec<Command> {
        self.drained = true;
        self.reset(now).1
    }

    /// Closes a session that nobody uses; whether it was one.
    pub(super) fn evict(&mut self, id: SessionId) -> bool {
        let idle = self.entries.iter().position(|entry| entry.id == id && entry.unused_since().is_some());
        idle.map(|at| self.entries.remove(at)).is_some()
    }

    /// Does what is due by now.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        let keep = self.keep;
        let first = self.entries.iter().find(|entry| entry.health == Health::Open).map(|entry| entry.id);
        self.entries.retain_mut(|entry| {
            let patience = if first == Some(entry.id) { keep } else { SPARE_IDLE.min(keep) };
            let unused = entry.unused_since().map(|since| now.saturating_duration_since(since));
            if unused.is_some_and(|unused| unused >= patience) {
                commands.push(Command::Close(entry.id));
                return false;
            }
            if entry.give_up_ahead(now) {
                commands.push(Command::GiveUpAhead(entry.id));
            }
            commands.extend(entry.tire_of_resting(now));
            true
        });
        commands.extend(self.settle(now));
        commands
    }

    /// The sessions, oldest first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Gives places to those who wait, in their order, and says which sessions to open and to close.
    fn settle(&mut self, now: Instant) -> Vec<Command> {
        self.entries.iter_mut().for_each(|entry| entry.expire(now));
        let mut commands = Vec::new();
        if self.drained {
            commands.extend(self.waiting.drain(..).map(|(who, _)| Command::Fail(who)));
        }
        let mut left = VecDeque::new();
        while let Some((who, how)) = self.waiting.pop_front() {
            match self.take(how) {
                Some(place) => commands.push(Command::Grant(who, place)),
                None => left.push_back((who, how)),
            }
        }
        self.waiting = left;
        for _ in 0..self.to_open(now) {
            self.last += 1;
            self.entries.push(Entry::opening(self.last, self.generation, now));
            commands.push(Command::Open(self.last));
        }
        self.let_go_of_the_spent();
        commands.extend(self.entries.iter_mut().filter_map(Entry::catch_up));
        self.entries.retain(|entry| {
            let over = entry.health == Health::Draining && entry.in_use() == 0;
            if over {
                commands.push(Command::Close(entry.id));
            }
            !over
        });
        let short = self.entries.iter_mut().filter(|entry| entry.is_short());
        commands.extend(short.filter_map(|entry| entry.give_up_resting(now)));
        commands
    }

    /// A session that has carried its terminal serves all else until another one does.
    fn let_go_of_the_spent(&mut self) {
        let newest = self.entries.iter().filter(|entry| entry.will_take_more()).map(|entry| entry.id).max();
        let spent = self.entries.iter_mut().filter(|entry| entry.is_spent() && entry.in_use() == 0);
        spent.filter(|entry| newest > Some(entry.id)).for_each(Entry::drain);
    }

    /// A place: with a channel opened ahead if there is one, else on the session with the least to do.
    fn take(&mut self, how: Use) -> Option<Place> {
        let takes = self.entries.iter_mut().filter(|entry| entry.takes(how));
        takes.min_by_key(|entry| (!entry.has_ahead(), entry.taken, entry.id)).map(|entry| entry.take(how))
    }

    /// How many sessions to open now: as many as those who wait will fill. One opens the way to a cold node.
    fn to_open(&self, now: Instant) -> usize {
        let one_terminal = self.entries.iter().any(|entry| entry.one_terminal);
        let apart = |how| how == Use::Alone || (how == Use::Terminal && one_terminal);
        let apart = self.waiting.iter().filter(|(_, how)| apart(*how)).count();
        // Who waits has these in a moment, and authenticating takes longer.
        let freed: usize = self.entries.iter().map(|entry| entry.makes_room(now)).sum();
        let shared = (self.waiting.len() - apart).saturating_sub(freed);
        let wanted = apart + shared.div_ceil(self.limit as usize);
        let opening = self.entries.iter().filter(|entry| self.is_opening_now(entry)).count();
        let warm = self.entries.iter().any(Entry::will_take_more);
        match warm {
            true if self.not_before.is_some_and(|at| now < at) => 0,
            true => wanted.min(OPENING).saturating_sub(opening),
            false => wanted.min(1).saturating_sub(opening),
        }
    }

    fn is_opening(&self) -> bool {
        self.entries.iter().any(|entry| self.is_opening_now(entry))
    }

    /// Whether a session is being opened that those who wait may have.
    fn is_opening_now(&self, entry: &Entry) -> bool {
        entry.health == Health::Opening && entry.generation == self.generation
    }

    /// A session with so many channels took no other.
    fn learn(&mut self, id: SessionId, others: u32) -> Refusal {
        let Some(entry) = self.entry(id) else { return Refusal::Full };
        let others = entry.refused(others);
        let left_behind = entry.left_behind;
        if others == 0 {
            entry.drain();
            return Refusal::Useless;
        }
        if !left_behind {
            self.limit = self.limit.min(others).max(1);
        }
        Refusal::Full
    }

    fn entry(&mut self, id: SessionId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    fn take_out(&mut self, id: SessionId) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.id == id)?;
        Some(self.entries.remove(at))
    }
}
