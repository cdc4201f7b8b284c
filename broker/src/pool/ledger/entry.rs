//! What the ledger knows of one session.

use super::{Command, Facts, MAKING_ROOM, MAX_AGE, On, Place, RESTS, Use};
use std::time::Duration;
use tokio::time::Instant;

/// Names a session within its key; counts up from 1.
pub(in crate::pool) type SessionId = u64;

/// Whether a session takes commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum Health {
    /// It is being authenticated.
    Opening,
    /// It answers.
    Open,
    /// It has not answered for a while; nothing new until it does.
    Suspect,
    /// It takes nothing more and closes with its last command.
    Draining,
}

/// A channel opened ahead of need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) struct Ahead {
    since: Instant,
    /// How many channels the session had when it was asked for.
    pub(super) others: u32,
    /// How many of the session's channels had been closed by then.
    pub(super) closed: u64,
    /// It is being closed, and counts until it is.
    given_up: bool,
}

/// A channel that rests: its program waits for whoever goes on with it, and nobody has it meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) struct Resting {
    since: Instant,
    /// Since when it is being closed; it counts until it is.
    given_up: Option<Instant>,
}

/// One session.
#[derive(Debug, Clone)]
pub(in crate::pool) struct Entry {
    /// Its name.
    pub id: SessionId,
    /// How many resets there had been before it.
    pub generation: u64,
    /// Whether it takes commands.
    pub health: Health,
    /// Channels that somebody was granted and that are not closed.
    pub taken: u32,
    /// Who has its connection and no such channel.
    held: u32,
    /// How many somebody was granted in its life, channels and connections.
    pub total: u64,
    /// The channel opened ahead of need.
    pub ahead: Option<Ahead>,
    /// The channel that rests.
    pub resting: Option<Resting>,
    /// Somebody on it does not read.
    pub stalled: bool,
    /// Who has it wants no neighbours.
    pub alone: bool,
    /// Channels it takes.
    pub(super) limit: u32,
    /// The most that counted at a time since there was at most one, or since a refusal.
    peak: u32,
    /// Channels of it that are closed.
    pub(super) closed: u64,
    /// Of these, those that the node certainly counts no more.
    let_go: u64,
    /// The node has been asked something, to know of more.
    asking: bool,
    /// Processes may have stayed behind on the node, which counts them.
    pub(super) left_behind: bool,
    idle_since: Instant,
    expires: Option<Instant>,
    ahead_for: Option<Duration>,
    /// It carries one terminal in its life.
    pub(super) one_terminal: bool,
    /// It has carried a terminal.
    had_terminal: bool,
}

impl Entry {
    pub(super) fn opening(id: SessionId, generation: u64, now: Instant) -> Self {
        Self {
            id,
            generation,
            health: Health::Opening,
            taken: 0,
            held: 0,
            total: 0,
            ahead: None,
            resting: None,
            stalled: false,
            alone: false,
            limit: 0,
            peak: 0,
            closed: 0,
            let_go: 0,
            asking: false,
            left_behind: false,
            idle_since: now,
            expires: None,
            ahead_for: None,
            one_terminal: false,
            had_terminal: false,
        }
    }

    /// It is authenticated.
    pub(super) fn begin(&mut self, limit: u32, facts: Facts, now: Instant) {
        self.health = Health::Open;
        self.limit = limit;
        self.idle_since = now;
        let old = now + MAX_AGE;
        self.expires = Some(facts.expires.map_or(old, |expires| expires.min(old)));
        self.ahead_for = facts.ahead_for;
        self.one_terminal = facts.one_terminal;
    }

    /// Channels that count, whoever has them, and whoever had them until the node has let go.
    pub(in crate::pool) fn in_flight(&self) -> u32 {
        let unused = u32::from(self.ahead.is_some()) + u32::from(self.resting.is_some());
        self.taken.saturating_add(unused).saturating_add(self.lingering())
    }

    /// Closed channels that the node may still count.
    fn lingering(&self) -> u32 {
        u32::try_from(self.closed - self.let_go).unwrap_or(u32::MAX)
    }

    /// The node has read all that was sent when so many channels were closed.
    pub(super) fn caught_up(&mut self, closed: u64) {
        self.let_go = self.let_go.max(closed);
        self.asking &= self.let_go < closed;
    }

    /// A question to the node, where closed channels may take the last places. sshd frees a place when it is
    /// through with what it has read at once: an open that comes right behind a close can still be refused.
    pub(super) fn catch_up(&mut self) -> Option<Command> {
        let short =
            self.health == Health::Open && self.let_go < self.closed && self.in_flight() >= self.limit;
        let ask = short && !self.asking;
        self.asking |= ask;
        ask.then_some(Command::CatchUp(self.id, self.closed))
    }

    /// How many use it.
    pub(in crate::pool) fn in_use(&self) -> u32 {
        self.taken.saturating_add(self.held)
    }

    /// When it was used last, if nobody uses it now.
    pub(in crate::pool) fn unused_since(&self) -> Option<Instant> {
        let idle = self.in_use() == 0 && self.health != Health::Opening;
        idle.then_some(self.idle_since)
    }

    /// It is authenticated, and not on its way out.
    pub(in crate::pool) fn is_open(&self) -> bool {
        matches!(self.health, Health::Open | Health::Suspect)
    }

    /// It takes a command now or when one of its own is over.
    pub(super) fn will_take_more(&self) -> bool {
        self.health == Health::Open && !self.stalled && !self.alone
    }

    pub(super) fn takes(&self, how: Use) -> bool {
        let has_place = || self.has_ahead() || self.in_flight() < self.limit;
        let fits = match how {
            Use::Shared => has_place(),
            Use::Terminal => has_place() && !self.is_spent(),
            Use::Alone => self.in_use() == 0 && has_place(),
            Use::Connection => true,
        };
        self.will_take_more() && fits
    }

    /// It carries no terminal any more.
    pub(super) fn is_spent(&self) -> bool {
        self.one_terminal && self.had_terminal
    }

    pub(super) fn has_ahead(&self) -> bool {
        self.ahead.is_some_and(|ahead| !ahead.given_up)
    }

    /// Takes a place; there must be one.
    pub(super) fn take(&mut self, how: Use) -> Place {
        self.total += 1;
        if how == Use::Connection {
            self.held += 1;
            return Place {
                session: self.id,
                on: On::Nothing,
                others: self.in_flight(),
                closed: self.closed,
            };
        }
        let ahead = self.ahead.take_if(|ahead| !ahead.given_up);
        let (others, closed) =
            ahead.map_or((self.in_flight(), self.closed), |ahead| (ahead.others, ahead.closed));
        self.taken += 1;
        self.peak = self.peak.max(self.in_flight());
        self.alone = how == Use::Alone;
        self.had_terminal |= how == Use::Terminal;
        Place { session: self.id, on: if ahead.is_some() { On::Ahead } else { On::New }, others, closed }
    }

    pub(super) fn let_go(&mut self, now: Instant) {
        self.held = self.held.saturating_sub(1);
        self.idle_since = now;
    }

    pub(super) fn give_back(&mut self, now: Instant) {
        self.taken = self.taken.saturating_sub(1);
        self.idle_since = now;
        self.alone &= self.taken > 0;
        if self.in_flight() <= 1 {
            self.peak = self.in_flight();
        }
    }

    /// How many channels it had at most when it took no other, where it had `others` when that was asked for.
    /// Opens may overtake each other on their way.
    pub(super) fn refused(&mut self, others: u32) -> u32 {
        let most = others.max(self.in_flight()).max(self.peak.saturating_sub(1));
        self.peak = self.in_flight();
        self.limit = self.limit.saturating_sub(1).min(most);
        most
    }

    /// Books a channel opened ahead, if there is none and room for one.
    pub(super) fn open_ahead(&mut self, now: Instant) -> bool {
        let room = self.health == Health::Open && self.ahead.is_none() && self.in_flight() < self.limit;
        if room {
            let (others, closed) = (self.in_flight(), self.closed);
            self.ahead = Some(Ahead { since: now, others, closed, given_up: false });
            self.peak = self.peak.max(self.in_flight());
        }
        room
    }

    /// Gives up a channel opened ahead whose time is over.
    pub(super) fn give_up_ahead(&mut self, now: Instant) -> bool {
        let Some(patience) = self.ahead_for else { return false };
        let over = |ahead: &&mut Ahead| !ahead.given_up && now >= ahead.since + patience;
        let Some(ahead) = self.ahead.as_mut().filter(over) else { return false };
        ahead.given_up = true;
        true
    }

    /// Lets a channel rest that somebody was granted and is done with, if none does and there is room for more.
    pub(super) fn rest(&mut self, now: Instant) -> bool {
        let may = self.health == Health::Open && self.resting.is_none() && self.in_flight() < self.limit;
        if may {
            self.resting = Some(Resting { since: now, given_up: None });
            self.give_back(now);
        }
        may
    }

    /// Whether a channel rests that somebody may go on with.
    pub(super) fn may_rouse(&self, how: Use) -> bool {
        let rests = self.resting.is_some_and(|resting| resting.given_up.is_none());
        let fits = how == Use::Shared || (how == Use::Alone && self.in_use() == 0);
        rests && fits && self.will_take_more()
    }

    /// Takes the channel that rests; there must be one.
    pub(super) fn rouse(&mut self, how: Use) {
        self.resting = None;
        self.taken += 1;
        self.total += 1;
        self.alone = how == Use::Alone;
    }

    /// Has it to themselves who has it now, if nobody else uses it.
    pub(super) fn leave_alone(&mut self) -> bool {
        self.alone |= self.taken == 1 && self.held == 0;
        self.alone
    }

    /// Whether all its places are taken, or it takes nothing more: then nothing rests on it.
    pub(super) fn is_short(&self) -> bool {
        self.health == Health::Draining || (self.will_take_more() && self.in_flight() >= self.limit)
    }

    /// Gives up the channel that rests.
    pub(super) fn give_up_resting(&mut self, now: Instant) -> Option<Command> {
        let resting = self.resting.as_mut().filter(|resting| resting.given_up.is_none())?;
        resting.given_up = Some(now);
        Some(Command::GiveUpResting(self.id))
    }

    /// The same once its time is over.
    pub(super) fn tire_of_resting(&mut self, now: Instant) -> Option<Command> {
        let patience = self.ahead_for.map_or(RESTS, |patience| patience.min(RESTS));
        self.resting.filter(|resting| now >= resting.since + patience)?;
        self.give_up_resting(now)
    }

    /// Places that are about to be free: of channels that the node is asked about, and of one that rested and is being
    /// closed, unless that takes too long. A node that does not answer is found out by other means.
    pub(super) fn makes_room(&self, now: Instant) -> usize {
        if !self.will_take_more() || self.in_flight() < self.limit {
            return 0;
        }
        let given_up = self.resting.and_then(|resting| resting.given_up);
        let resting = given_up.is_some_and(|since| now < since + MAKING_ROOM);
        // Of what is beyond the limit, nobody who waits has anything.
        let beyond = self.in_flight() - self.limit;
        let leaving = self.lingering() + u32::from(resting);
        leaving.saturating_sub(beyond) as usize
    }

    /// Notes whether it answers; whether that is news.
    pub(super) fn answers(&mut self, answers: bool) -> bool {
        let health = if answers { Health::Open } else { Health::Suspect };
        let watched = matches!(self.health, Health::Open | Health::Suspect);
        watched && std::mem::replace(&mut self.health, health) != health
    }

    pub(super) fn expire(&mut self, now: Instant) {
        if self.expires.is_some_and(|expires| now >= expires) {
            self.drain();
        }
    }

    /// Takes nothing new. One that is being opened is closed when it is.
    pub(super) fn drain(&mut self) {
        if self.health != Health::Opening {
            self.health = Health::Draining;
        }
    }
}
