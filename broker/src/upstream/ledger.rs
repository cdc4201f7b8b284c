//! Which trunk takes the next stream. No I/O; the caller supplies the time.
//!
//! Streams ride only on trunks of the newest identity; older ones drain. A
//! trunk takes at most [`Limits::streams`] at a time and [`RETIRE_AFTER`] in
//! its life, which has an end too, and the least loaded one is chosen. A spare
//! is wanted before there is no place left, so that nobody waits for a dial.

use std::time::{Duration, Instant};

/// A trunk is replaced after so many streams: what a long-lived connection
/// accumulates, in the library here and in the proxy there, goes with it.
pub(super) const RETIRE_AFTER: u64 = 10_000;
/// Trunks that take fewer streams at a time have no spare: it would double the connections.
const SPARE_FROM: u64 = 5;
/// A trunk beyond the first is closed when it has carried nothing for so long.
pub(super) const SPARE_IDLE: Duration = Duration::from_secs(60);

/// What bounds a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Streams at a time.
    pub streams: u64,
}

/// Names a trunk; counts up from 1.
pub(super) type TrunkId = u64;

/// Whether a trunk takes streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers.
    Open,
    /// It has not answered for a while.
    Suspect,
    /// It takes no more and closes with its last stream.
    Draining,
}

/// What is known of one trunk.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its name.
    pub id: TrunkId,
    /// The generation of the identity that opened it.
    pub generation: u64,
    /// Streams on it now.
    pub streams: u64,
    /// Streams it has carried.
    pub total: u64,
    /// Whether it takes more.
    pub health: Health,
    idle_since: Instant,
    /// When another is to take its place.
    due: Instant,
}

impl Entry {
    /// It takes one more stream now.
    fn has_room(&self, limits: Limits) -> bool {
        self.health == Health::Open && self.streams < limits.streams.max(1)
    }

    /// It will take streams for a good while: 80 % of its life is the end of that.
    fn is_fresh(&self, now: Instant) -> bool {
        self.health == Health::Open && now < self.due && self.total < RETIRE_AFTER / 10 * 8
    }
}

/// The trunks of one upstream for one identity.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
    last: TrunkId,
}

impl Ledger {
    /// Books a trunk that was just opened, and that another is to replace when `due`.
    pub(super) fn add(&mut self, generation: u64, now: Instant, due: Instant) -> TrunkId {
        self.last += 1;
        self.entries.push(Entry {
            id: self.last,
            generation,
            streams: 0,
            total: 0,
            health: Health::Open,
            idle_since: now,
            due,
        });
        self.last
    }

    /// Takes a place on the least loaded trunk of that generation or a later
    /// one, the youngest among equals; none if all are full.
    pub(super) fn take(&mut self, generation: u64, limits: Limits) -> Option<TrunkId> {
        let takes = |e: &&mut Entry| e.generation >= generation && e.has_room(limits);
        let entry = self.entries.iter_mut().filter(takes).min_by_key(|e| (e.streams, u64::MAX - e.id))?;
        entry.streams += 1;
        entry.total += 1;
        if entry.total >= RETIRE_AFTER {
            entry.health = Health::Draining;
        }
        Some(entry.id)
    }

    /// Whether that trunk takes another stream.
    pub(super) fn has_room(&self, id: TrunkId, limits: Limits) -> bool {
        self.entries.iter().any(|e| e.id == id && e.has_room(limits))
    }

    /// Whether to dial another trunk though there is a place: four fifths of the places are taken, or no
    /// trunk has long to live. While there is no trunk at all, whoever comes dials.
    pub(super) fn wants_spare(&self, generation: u64, limits: Limits, now: Instant) -> bool {
        let of_now = |e: &&Entry| e.generation >= generation && e.health == Health::Open;
        if !self.entries.iter().any(|e| of_now(&e)) {
            return false;
        }
        let fresh = || self.entries.iter().filter(of_now).filter(|e| e.is_fresh(now));
        let (taken, trunks) = (fresh().map(|e| e.streams).sum::<u64>(), fresh().count() as u64);
        trunks == 0 || limits.streams >= SPARE_FROM && taken * 5 >= trunks * limits.streams * 4
    }

    /// Sends trunks whose time has come into draining, where another is there to take their place.
    pub(super) fn retire(&mut self, now: Instant) {
        let newest = self.entries.iter().filter(|e| e.is_fresh(now)).map(|e| e.generation).max();
        for entry in &mut self.entries {
            if now >= entry.due && newest.is_some_and(|newest| newest >= entry.generation) {
                entry.health = Health::Draining;
            }
        }
    }

    /// Gives a place back.
    pub(super) fn give_back(&mut self, id: TrunkId, now: Instant) {
        if let Some(entry) = self.entries.iter_mut().find(|e| e.id == id) {
            entry.streams = entry.streams.saturating_sub(1);
            entry.idle_since = now;
        }
    }

    /// Sends trunks of earlier generations into draining; says whether there were any.
    pub(super) fn keep_from(&mut self, generation: u64) -> bool {
        let mut changed = false;
        for entry in &mut self.entries {
            if entry.generation < generation && entry.health != Health::Draining {
                entry.health = Health::Draining;
                changed = true;
            }
        }
        changed
    }

    /// Sends every trunk into draining.
    pub(super) fn drain(&mut self) {
        for entry in &mut self.entries {
            entry.health = Health::Draining;
        }
    }

    /// Notes whether a trunk answers; says whether that is news. One that drains goes on draining.
    pub(super) fn answers(&mut self, id: TrunkId, answers: bool) -> bool {
        let health = if answers { Health::Open } else { Health::Suspect };
        let entry = self.entries.iter_mut().find(|e| e.id == id && e.health != Health::Draining);
        entry.is_some_and(|entry| std::mem::replace(&mut entry.health, health) != health)
    }

    /// Strikes a trunk out; what it was, if it was there.
    pub(super) fn remove(&mut self, id: TrunkId) -> Option<Entry> {
        let index = self.entries.iter().position(|e| e.id == id)?;
        Some(self.entries.remove(index))
    }

    /// Trunks to close now: drained ones, and spare ones that nobody needed for a while.
    pub(super) fn closable(&self, now: Instant) -> Vec<TrunkId> {
        let kept = self.entries.iter().filter(|e| e.health == Health::Open).map(|e| e.id).max();
        let spare = |e: &Entry| Some(e.id) != kept && now.duration_since(e.idle_since) >= SPARE_IDLE;
        self.entries
            .iter()
            .filter(|e| {
                e.streams == 0 && (e.health == Health::Draining || (e.health == Health::Open && spare(e)))
            })
            .map(|e| e.id)
            .collect()
    }

    /// All of them, oldest first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { streams: 3 };
    const AGE: Duration = Duration::from_secs(600);

    #[test]
    fn the_least_loaded_trunk_takes_the_stream() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let (a, b) = (ledger.add(1, now, now + AGE), ledger.add(1, now, now + AGE));
        assert_eq!(ledger.take(1, LIMITS), Some(b));
        assert_eq!(ledger.take(1, LIMITS), Some(a));
        ledger.give_back(a, now);
        assert_eq!(ledger.take(1, LIMITS), Some(a));
    }

    #[test]
    fn a_new_identity_drains_the_old_trunks_and_they_close_with_their_last_stream() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let old = ledger.add(1, now, now + AGE);
        assert_eq!(ledger.take(1, LIMITS), Some(old));
        assert!(ledger.keep_from(2));
        assert_eq!(ledger.take(2, LIMITS), None);
        assert!(ledger.closable(now).is_empty());
        ledger.give_back(old, now);
        assert_eq!(ledger.closable(now), [old]);
    }

    #[test]
    fn a_suspect_trunk_takes_nothing_until_it_answers() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let id = ledger.add(1, now, now + AGE);
        ledger.answers(id, false);
        assert_eq!(ledger.take(1, LIMITS), None);
        ledger.answers(id, true);
        assert_eq!(ledger.take(1, LIMITS), Some(id));
    }

    #[test]
    fn the_last_trunk_stays_warm_and_spares_do_not() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let (a, b) = (ledger.add(1, now, now + AGE), ledger.add(1, now, now + AGE));
        assert!(ledger.closable(now).is_empty());
        assert_eq!(ledger.closable(now + SPARE_IDLE), [a]);
        ledger.remove(a);
        assert!(ledger.closable(now + SPARE_IDLE * 100).is_empty());
        assert_eq!(ledger.entries()[0].id, b);
    }

    #[test]
    fn a_trunk_retires_after_its_share_of_streams() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let id = ledger.add(1, now, now + AGE);
        for _ in 0..RETIRE_AFTER {
            assert_eq!(ledger.take(1, LIMITS), Some(id));
            ledger.give_back(id, now);
        }
        assert_eq!(ledger.take(1, LIMITS), None);
        assert_eq!(ledger.closable(now), [id]);
    }

    #[test]
    fn a_spare_is_wanted_when_four_fifths_are_taken_and_not_before_there_is_a_trunk() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let limits = Limits { streams: 10 };
        assert!(!ledger.wants_spare(1, limits, now));
        ledger.add(1, now, now + AGE);
        for taken in 0..10 {
            assert_eq!(ledger.wants_spare(1, limits, now), taken >= 8, "{taken}");
            ledger.take(1, limits).unwrap();
        }
        ledger.add(1, now, now + AGE);
        assert!(!ledger.wants_spare(1, limits, now), "it is there");
        assert!(!ledger.wants_spare(2, limits, now), "of a newer identity there is none at all");
    }

    #[test]
    fn a_trunk_for_one_stream_has_no_spare() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.add(1, now, now + AGE);
        ledger.take(1, Limits { streams: 1 }).unwrap();
        assert!(!ledger.wants_spare(1, Limits { streams: 1 }, now));
    }

    #[test]
    fn an_old_trunk_goes_on_until_another_has_taken_its_place() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let old = ledger.add(1, now, now + AGE);
        assert!(!ledger.wants_spare(1, LIMITS, now));
        let later = now + AGE;
        assert!(ledger.wants_spare(1, LIMITS, later));
        ledger.retire(later);
        assert_eq!(ledger.take(1, LIMITS), Some(old));
        let new = ledger.add(1, later, later + AGE);
        ledger.retire(later);
        assert!(!ledger.wants_spare(1, LIMITS, later));
        assert_eq!(ledger.take(1, LIMITS), Some(new));
        ledger.give_back(old, later);
        assert_eq!(ledger.closable(later), [old]);
    }

    #[test]
    fn a_trunk_that_has_carried_much_is_followed_before_it_retires() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let id = ledger.add(1, now, now + AGE);
        let mut carried = 0;
        while !ledger.wants_spare(1, LIMITS, now) {
            assert_eq!(ledger.take(1, LIMITS), Some(id));
            ledger.give_back(id, now);
            carried += 1;
        }
        assert_eq!(carried, RETIRE_AFTER * 8 / 10);
    }

    proptest! {
        /// Whatever happens in whatever order: no trunk over its limit, none of
        /// another generation or unfit is chosen, and every place comes back.
        #[test]
        fn places_are_never_lost_or_doubled(steps in prop::collection::vec((0u8..8, 0usize..6, 1u64..4), 0..200)) {
            let (mut ledger, mut now) = (Ledger::default(), Instant::now());
            let mut held: Vec<TrunkId> = Vec::new();
            for (step, which, generation) in steps {
                let known: Vec<TrunkId> = ledger.entries().iter().map(|e| e.id).collect();
                let some = known.get(which).copied();
                match step {
                    0 => { ledger.add(generation, now, now + AGE); }
                    1 | 2 => if let Some(id) = ledger.take(generation, LIMITS) {
                        let entry = ledger.entries().iter().find(|e| e.id == id).unwrap();
                        prop_assert!(entry.generation >= generation);
                        prop_assert!(entry.health == Health::Open);
                        held.push(id);
                    },
                    3 => if !held.is_empty() {
                        let id = held.remove(which % held.len());
                        ledger.give_back(id, now);
                    },
                    4 => { ledger.keep_from(generation); }
                    7 => ledger.retire(now),
                    5 => if let Some(id) = some { ledger.answers(id, which % 2 == 0); },
                    _ => if let Some(id) = some && ledger.closable(now).contains(&id) {
                        prop_assert!(!held.contains(&id));
                        ledger.remove(id);
                    },
                }
                now += Duration::from_secs(7);
                for entry in ledger.entries() {
                    prop_assert!(entry.streams <= LIMITS.streams);
                    prop_assert_eq!(entry.streams, held.iter().filter(|id| **id == entry.id).count() as u64);
                }
            }
        }
    }
}
