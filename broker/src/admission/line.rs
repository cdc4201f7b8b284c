//! The line in front of one server: who is let in, who waits. No I/O; the caller supplies the time.
//!
//! At most so many places are held at once, and who came first goes first. A
//! place ends when it is given back or, once its stream is open, by itself.

use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

/// Names one who came; counts up from 1.
pub(super) type Ticket = u64;

/// The line in front of one server.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Who was let in, and when their place ends by itself.
    places: BTreeMap<Ticket, Option<Instant>>,
    waiting: VecDeque<Ticket>,
    last: Ticket,
}

impl Line {
    /// Comes last in the line.
    pub(super) fn join(&mut self) -> Ticket {
        self.last += 1;
        self.waiting.push_back(self.last);
        self.last
    }

    /// Ends places whose time is over and lets in who is next, at most `limit` in all; says whom.
    pub(super) fn settle(&mut self, limit: usize, now: Instant) -> Vec<Ticket> {
        self.places.retain(|_, until| until.is_none_or(|until| now < until));
        let free = limit.max(1).saturating_sub(self.places.len()).min(self.waiting.len());
        let admitted: Vec<_> = self.waiting.drain(..free).collect();
        self.places.extend(admitted.iter().map(|ticket| (*ticket, None)));
        admitted
    }

    /// From now on this place ends by itself; one that has ended stays so.
    pub(super) fn ends(&mut self, ticket: Ticket, until: Instant) {
        if let Some(place) = self.places.get_mut(&ticket) {
            *place = Some(until);
        }
    }

    /// Goes away, out of a place or out of the line.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if self.places.remove(&ticket).is_none() {
            self.waiting.retain(|waiting| *waiting != ticket);
        }
    }

    /// When to settle next though nobody comes or goes.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.places.values().flatten().min().copied()
    }

    /// Places held now.
    pub(super) fn in_flight(&self) -> usize {
        self.places.len()
    }

    /// Who waits now.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody is here.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn who_came_first_goes_first_and_no_more_than_fit() {
        let (mut line, now) = (Line::default(), Instant::now());
        let came: Vec<_> = (0..5).map(|_| line.join()).collect();
        assert_eq!(line.settle(2, now), came[..2]);
        assert!(line.settle(2, now).is_empty());
        line.leave(came[1]);
        assert_eq!(line.settle(2, now), [came[2]]);
        assert_eq!((line.in_flight(), line.waiting()), (2, 2));
    }

    #[test]
    fn a_place_ends_by_itself_only_once_its_stream_is_open() {
        let (mut line, now) = (Line::default(), Instant::now());
        let (first, second) = (line.join(), line.join());
        let later = now + Duration::from_secs(2);
        assert_eq!(line.settle(1, now), [first]);
        assert!(line.settle(1, now + Duration::from_secs(100)).is_empty());
        line.ends(first, later);
        assert_eq!(line.next_end(), Some(later));
        assert!(line.settle(1, later - Duration::from_millis(1)).is_empty());
        assert_eq!(line.settle(1, later), [second]);
    }

    #[test]
    fn who_leaves_the_line_keeps_nobody_waiting() {
        let (mut line, now) = (Line::default(), Instant::now());
        let (first, second, third) = (line.join(), line.join(), line.join());
        assert_eq!(line.settle(1, now), [first]);
        line.leave(second);
        line.leave(first);
        assert_eq!(line.settle(1, now), [third]);
        line.leave(third);
        assert!(line.is_empty());
    }

    proptest! {
        /// Whoever comes, opens and goes in whatever order: never more than the limit are in, never
        /// out of turn, and nobody waits while there is room.
        #[test]
        fn never_more_than_the_limit_and_never_out_of_turn(
            limit in 1usize..5,
            steps in prop::collection::vec((0u8..4, 0usize..8, 0u64..1500), 0..200),
        ) {
            let (mut line, mut now) = (Line::default(), Instant::now());
            let (mut here, mut latest): (Vec<Ticket>, Ticket) = (Vec::new(), 0);
            for (step, which, millis) in steps {
                let some = here.get(which).copied();
                match (step, some) {
                    (0 | 1, _) => here.push(line.join()),
                    (2, Some(ticket)) => line.ends(ticket, now + Duration::from_secs(2)),
                    (3, Some(ticket)) => {
                        here.retain(|one| *one != ticket);
                        line.leave(ticket);
                    }
                    _ => {}
                }
                for admitted in line.settle(limit, now) {
                    prop_assert!(admitted > latest && here.contains(&admitted));
                    latest = admitted;
                }
                prop_assert!(line.in_flight() <= limit);
                prop_assert!(line.waiting() == 0 || line.in_flight() == limit);
                prop_assert!(line.in_flight() + line.waiting() <= here.len());
                now += Duration::from_millis(millis);
            }
        }
    }
}
