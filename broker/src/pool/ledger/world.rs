//! A node as the ledger's tests need it: sessions that open after a while or not, an sshd that counts
//! channels for itself, commands that take their time; on a clock of its own.

use super::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// sshd lets go of a channel when it is through with all that it has read at once, and answers after that.
const LATER: Duration = Duration::from_millis(1);

/// What happens to a world from outside.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// A file is to be carried, on a channel that rests if there is one, and its own rests afterwards if it may.
    Carry {
        how: Use,
        ms: u64,
    },
    /// A command is wanted. An untidy one leaves a process behind for a minute.
    Run {
        how: Use,
        ms: u64,
        tidy: bool,
    },
    /// Somebody who waits gives up.
    GiveUp(Index),
    /// A connection breaks.
    Cut(Index),
    /// A session answers or does not.
    Answers(Index, bool),
    /// A reader stops or goes on.
    Stalled(Index, bool),
    /// A person closes all sessions: with their last command, or at once.
    Reset,
    Close,
    /// Whether sessions can be opened at all.
    Down(bool),
    /// A key has left the agent.
    Retire(Index),
}

/// What happens of itself.
#[derive(Debug, Clone, Copy)]
enum Event {
    Authenticated(SessionId, bool),
    /// The open of a channel arrives at the node.
    Arrives(SessionId, Opener),
    Answered(SessionId, Opener, bool),
    Over(SessionId, WaiterId),
    AheadClosed(SessionId),
    /// The program on a channel that rested has ended.
    Rested(SessionId),
    CaughtUp(SessionId, u64),
    /// The node lets go of a channel: a moment after the close has arrived.
    Reaped(SessionId),
    Tick,
}

/// Who has asked for a channel.
#[derive(Debug, Clone, Copy)]
enum Opener {
    Command(WaiterId, Place),
    /// Nobody yet; its number.
    Ahead(u64),
}

#[derive(Debug, Clone, Copy)]
struct Work {
    how: Use,
    ms: u64,
    tidy: bool,
    /// Its channel may rest afterwards.
    rests: bool,
    /// Refusals on sessions that took nothing at all.
    useless: u32,
}

pub(super) struct World {
    pub(super) ledger: Ledger,
    max_sessions: u32,
    teleport: bool,
    round_trip: Duration,
    down: bool,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    last: u64,
    /// Channels by the node's count, of sessions whose connection stands.
    node: HashMap<SessionId, u32>,
    /// Sessions that the ledger has asked for and that were not closed, ended or failed.
    open: BTreeSet<SessionId>,
    waiting: BTreeMap<WaiterId, Work>,
    running: HashMap<WaiterId, (SessionId, Work)>,
    /// Channels ahead whose confirmation is under way and that nobody was granted, by session.
    unconfirmed: HashMap<SessionId, u64>,
    /// Who was granted one of these since.
    heirs: HashMap<u64, (WaiterId, Place)>,
    last_granted: HashMap<Use, WaiterId>,
    asked_again: BTreeSet<WaiterId>,
    /// Sessions with a channel that rests.
    resting: BTreeSet<SessionId>,
    /// Sessions that have had a terminal.
    terminals: BTreeSet<SessionId>,
}

impl World {
    pub(super) fn new(max_sessions: u32, teleport: bool, round_trip: Duration) -> Self {
        let mut world = Self {
            ledger: Ledger::default(),
            max_sessions,
            teleport,
            round_trip,
            down: false,
            now: Instant::now(),
            events: BTreeMap::new(),
            last: 0,
            node: HashMap::new(),
            open: BTreeSet::new(),
            waiting: BTreeMap::new(),
            running: HashMap::new(),
            heirs: HashMap::new(),
            unconfirmed: HashMap::new(),
            last_granted: HashMap::new(),
            asked_again: BTreeSet::new(),
            resting: BTreeSet::new(),
            terminals: BTreeSet::new(),
        };
        world.later(Duration::from_secs(1), Event::Tick);
        world
    }

    pub(super) fn do_it(&mut self, deed: &Deed) {
        match *deed {
            Deed::Run { how, ms, tidy } => self.ask(Work { how, ms, tidy, rests: false, useless: 0 }),
            Deed::Carry { how, ms } => {
                let work = Work { how, ms, tidy: true, rests: true, useless: 0 };
                match self.ledger.rouse(how, KEEP, self.now) {
                    Some(id) => self.go_on(id, work),
                    None => self.ask(work),
                }
            }
            Deed::GiveUp(at) => {
                let all: Vec<_> = self.waiting.keys().copied().collect();
                if !all.is_empty() {
                    let who = *at.get(&all);
                    self.ledger.withdraw(who);
                    self.waiting.remove(&who);
                }
            }
            Deed::Cut(at) => self.on_one(at, Self::cut),
            Deed::Answers(at, answers) => self.on_one(at, |world, id| {
                let (_, commands) = world.ledger.answers(id, answers, world.now);
                world.perform(commands);
            }),
            Deed::Stalled(at, stalled) => self.on_one(at, |world, id| {
                let commands = world.ledger.stalled(id, stalled, world.now);
                world.perform(commands);
            }),
            Deed::Retire(at) => self.on_one(at, |world, id| {
                let commands = world.ledger.retire(id, world.now);
                world.perform(commands);
            }),
            Deed::Reset => {
                let (_, commands) = self.ledger.reset(self.now);
                self.perform(commands);
            }
            Deed::Close => {
                let (_, commands) = self.ledger.close(self.now);
                let closed = commands.iter().filter_map(|command| match command {
                    Command::Close(id) => Some(*id),
                    _ => None,
                });
                // Those on them hear of it by themselves, and give back what is out of the books.
                let closed: BTreeSet<_> = closed.collect();
                self.running.retain(|_, (session, _)| !closed.contains(session));
                self.perform(commands);
            }
            Deed::Down(down) => self.down = down,
        }
        self.check();
    }

    fn ask(&mut self, work: Work) {
        self.last += 1;
        let who = self.last;
        self.waiting.insert(who, work);
        let commands = self.ledger.ask(who, work.how, KEEP, self.now);
        self.perform(commands);
    }

    /// On a channel that rested.
    fn go_on(&mut self, id: SessionId, work: Work) {
        assert!(self.resting.remove(&id), "nothing rests on {id}");
        self.last += 1;
        self.running.insert(self.last, (id, work));
        self.later(Duration::from_millis(work.ms), Event::Over(id, self.last));
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            self.now = entry.key().0;
            let event = entry.remove();
            self.happen(event);
            self.check();
        }
        self.now = end;
    }

    /// Nothing more comes from outside: everybody is served or told, and every session closed in the end.
    pub(super) fn settle_down(&mut self) {
        self.down = false;
        for id in self.node.keys().copied().collect::<Vec<_>>() {
            // Frozen ones end by the keepalive, stopped readers go on or leave.
            let suspect = self.ledger.entries().iter().any(|e| e.id == id && e.health == Health::Suspect);
            if suspect {
                self.cut(id);
            }
            let commands = self.ledger.stalled(id, false, self.now);
            self.perform(commands);
        }
        self.run_for(Duration::from_secs(600));
        assert!(self.waiting.is_empty(), "still waiting: {:?}\n{:?}", self.waiting, self.ledger);
        assert!(self.running.is_empty(), "still running: {:?}", self.running);
        self.run_for(KEEP + Duration::from_secs(5));
        assert!(self.ledger.entries().is_empty() && self.open.is_empty(), "left: {:?}", self.ledger);
        assert!(self.node.is_empty() && self.ledger.waiting() == 0);
        assert!(self.ledger.limit >= CHANNELS.min(self.max_sessions), "it believes in {}", self.ledger.limit);
    }

    fn on_one(&mut self, at: Index, deed: impl FnOnce(&mut Self, SessionId)) {
        let mut all: Vec<_> = self.node.keys().copied().collect();
        all.sort_unstable();
        if !all.is_empty() {
            deed(self, *at.get(&all));
        }
    }

    fn cut(&mut self, id: SessionId) {
        self.node.remove(&id);
        self.open.remove(&id);
        self.unconfirmed.remove(&id);
        self.resting.remove(&id);
        let commands = self.ledger.ended(id, self.now);
        self.perform(commands);
        // Those on it hear of it after the pool has: what they give back is out of the books.
        let on_it = self.running.iter().filter(|(_, (session, _))| *session == id).map(|(who, _)| *who);
        for who in on_it.collect::<Vec<_>>() {
            let how = self.running.remove(&who).map(|(_, work)| work.how);
            let commands = match how {
                Some(Use::Connection) => self.ledger.let_go(id, self.now),
                _ => self.ledger.closed(id, true, self.now),
            };
            self.perform(commands);
        }
    }

    fn perform(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Open(id) => {
                    assert!(self.open.insert(id), "{id} is opened twice");
                    let good = !self.down;
                    self.later(
                        Duration::from_millis(30) + self.round_trip * 5,
                        Event::Authenticated(id, good),
                    );
                }
                Command::Grant(who, place) => self.grant(who, place),
                Command::OpenAhead(id) => {
                    self.last += 1;
                    assert!(self.unconfirmed.insert(id, self.last).is_none(), "one at a time");
                    self.later(self.round_trip / 2, Event::Arrives(id, Opener::Ahead(self.last)));
                }
                Command::GiveUpAhead(id) => {
                    // A confirmation still under way is waited for.
                    if !self.unconfirmed.contains_key(&id) {
                        self.later(self.round_trip, Event::AheadClosed(id));
                    }
                }
                Command::GiveUpResting(id) => {
                    assert!(self.resting.remove(&id), "nothing rests on {id}");
                    self.later(self.round_trip + LATER, Event::Rested(id));
                }
                Command::CatchUp(id, closed) => {
                    self.later(self.round_trip + LATER, Event::CaughtUp(id, closed));
                }
                Command::Close(id) => {
                    assert!(self.open.remove(&id), "{id} was not open");
                    self.node.remove(&id);
                    self.unconfirmed.remove(&id);
                    self.resting.remove(&id);
                    assert!(self.running.values().all(|(session, _)| *session != id), "{id} was in use");
                }
                Command::Fail(who) => {
                    self.waiting.remove(&who).expect("only who waits is told");
                }
            }
        }
    }

    fn perform_resting(&mut self, id: SessionId, rests: bool, commands: Vec<Command>) {
        if rests {
            assert!(self.resting.insert(id), "one at a time on {id}");
        }
        self.perform(commands);
    }

    fn grant(&mut self, who: WaiterId, place: Place) {
        let work = self.waiting.remove(&who).expect("only who waits is served");
        assert!(self.node.contains_key(&place.session), "on a session that stands");
        if !self.asked_again.remove(&who) {
            // In the order of asking, each use for itself.
            let before = self.last_granted.insert(work.how, who);
            assert!(before.is_none_or(|before| before < who), "{before:?} before {who}");
        }
        self.running.insert(who, (place.session, work));
        match place.on {
            On::New => {
                self.later(self.round_trip / 2, Event::Arrives(place.session, Opener::Command(who, place)));
            }
            On::Ahead => match self.unconfirmed.remove(&place.session) {
                Some(number) => drop(self.heirs.insert(number, (who, place))),
                None => self.begin(place.session, who),
            },
            On::Nothing => {
                self.later(Duration::from_millis(work.ms), Event::Over(place.session, who));
            }
        }
    }

    fn begin(&mut self, id: SessionId, who: WaiterId) {
        let (_, work) = self.running[&who];
        if work.how == Use::Terminal {
            assert!(self.terminals.insert(id) || !self.teleport, "a second terminal on {id}");
        }
        let commands = self.ledger.started(id, self.now);
        self.perform(commands);
        self.later(Duration::from_millis(work.ms), Event::Over(id, who));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Authenticated(id, good) => {
                if !self.open.contains(&id) {
                    return;
                }
                let ahead_for = self.teleport.then_some(AHEAD_ON_TELEPORT);
                let commands = match good {
                    true => {
                        self.node.insert(id, 0);
                        let facts = Facts { expires: None, ahead_for, one_terminal: self.teleport };
                        self.ledger.opened(id, facts, self.now)
                    }
                    false => {
                        self.open.remove(&id);
                        self.ledger.not_opened(id, self.now)
                    }
                };
                self.perform(commands);
            }
            Event::Arrives(id, opener) => {
                let Some(channels) = self.node.get_mut(&id) else { return };
                let taken = *channels < self.max_sessions;
                *channels += u32::from(taken);
                let back = self.round_trip - self.round_trip / 2;
                self.later(back + LATER, Event::Answered(id, opener, taken));
            }
            Event::Answered(id, opener, taken) => self.answered(id, opener, taken),
            Event::Over(id, who) => {
                if self.running.get(&who).is_none_or(|(session, _)| *session != id) {
                    return;
                }
                let Some((_, work)) = self.running.remove(&who) else { return };
                if work.how == Use::Connection {
                    let commands = self.ledger.let_go(id, self.now);
                    return self.perform(commands);
                }
                if work.rests {
                    let (rests, commands) = self.ledger.rest(id, self.now);
                    self.perform_resting(id, rests, commands);
                    if rests {
                        return;
                    }
                }
                match work.tidy {
                    true => self.later(self.round_trip / 2 + LATER, Event::Reaped(id)),
                    false => self.later(Duration::from_secs(60), Event::Reaped(id)),
                }
                let commands = self.ledger.closed(id, !work.tidy, self.now);
                self.perform(commands);
            }
            Event::CaughtUp(id, closed) => {
                let commands = self.ledger.caught_up(id, closed, self.now);
                self.perform(commands);
            }
            Event::AheadClosed(id) => {
                self.reap(id);
                let commands = self.ledger.ahead_closed(id, self.now);
                self.perform(commands);
            }
            Event::Rested(id) => {
                self.reap(id);
                let commands = self.ledger.rested(id, false, self.now);
                self.perform(commands);
            }
            Event::Reaped(id) => self.reap(id),
            Event::Tick => {
                let commands = self.ledger.tick(self.now);
                self.perform(commands);
                self.later(Duration::from_secs(1), Event::Tick);
            }
        }
    }

    fn answered(&mut self, id: SessionId, opener: Opener, taken: bool) {
        let granted = match opener {
            Opener::Command(who, place) => Some((who, place)),
            Opener::Ahead(number) => self.heirs.remove(&number),
        };
        if !self.node.contains_key(&id) {
            return;
        }
        if granted.is_none() {
            self.unconfirmed.remove(&id);
        }
        match (granted, taken) {
            (Some((who, place)), true) => {
                let commands = self.ledger.answered(place, self.now);
                self.perform(commands);
                self.begin(id, who);
            }
            (Some((who, place)), false) => self.refused(place, who),
            (None, true) => {
                let commands = self.ledger.ahead_opened(id, self.now);
                self.perform(commands);
                // Given up before it was confirmed: closed now.
                let held = self.ledger.entries().iter().any(|entry| entry.id == id && entry.has_ahead());
                if !held {
                    self.later(self.round_trip, Event::AheadClosed(id));
                }
            }
            (None, false) => {
                let commands = self.ledger.ahead_refused(id, self.now);
                self.perform(commands);
            }
        }
    }

    fn refused(&mut self, place: Place, who: WaiterId) {
        let Some((_, mut work)) = self.running.remove(&who) else { return };
        let (refusal, commands) = self.ledger.refused(place, self.now);
        self.perform(commands);
        work.useless += u32::from(refusal == Refusal::Useless);
        // A node that takes at least one takes it on a fresh session; old ones may be full of what stayed behind.
        assert!(work.useless < 20, "never served");
        self.waiting.insert(who, work);
        self.asked_again.insert(who);
        let commands = self.ledger.ask_again(who, work.how, self.now);
        self.perform(commands);
    }

    fn reap(&mut self, id: SessionId) {
        if let Some(channels) = self.node.get_mut(&id) {
            *channels = channels.checked_sub(1).expect("no more are closed than were open");
        }
    }

    fn later(&mut self, time: Duration, event: Event) {
        self.last += 1;
        self.events.insert((self.now + time, self.last), event);
    }

    /// What holds at every moment.
    fn check(&self) {
        for entry in self.ledger.entries() {
            let of = |counted: fn(Use) -> bool| {
                let on_it = self.running.values().filter(|(session, _)| *session == entry.id);
                on_it.filter(|(_, work)| counted(work.how)).count()
            };
            assert_eq!(entry.taken as usize, of(|how| how != Use::Connection), "places of {entry:?}");
            assert_eq!(entry.in_use() as usize, of(|_| true), "users of {entry:?}");
            let counted = entry.taken + u32::from(entry.ahead.is_some()) + u32::from(entry.resting.is_some());
            assert!(entry.health == Health::Opening || counted <= CHANNELS, "{entry:?}");
            assert!(!entry.alone || entry.taken == 1, "{entry:?}");
        }
        assert_eq!(self.ledger.waiting(), self.waiting.len());
        // Who waits while nothing is under way and the last attempt did not just fail waits for a place.
        let moves = self
            .ledger
            .entries()
            .iter()
            .any(|e| e.health == Health::Opening || e.in_use() > 0 || e.makes_room(self.now) > 0);
        let paused = self.ledger.not_before.is_some_and(|at| self.now < at + Duration::from_secs(2));
        assert!(self.waiting.is_empty() || moves || paused, "nobody serves {:?}", self.ledger);
    }
}
