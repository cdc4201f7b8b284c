//! What `status` shows of sessions.

use super::Pool;
use super::act::{node, upstream};
use super::ledger::{Entry, Health};
use super::line::{Counts, Line};
use super::shelf::Shelf;
use crate::failures::unix_now;
use natssh_wire::status::{self, SessionState};
use tokio::time::Instant;

impl<S: Line> Pool<S> {
    /// The sessions' entries in `status`, by node.
    #[must_use]
    pub fn report(&self) -> Vec<status::Session> {
        let now = Instant::now();
        let state = self.lock();
        let mut all: Vec<_> = state.shelves.values().flat_map(|shelf| shelf.report(now)).collect();
        drop(state);
        all.sort_by(|a, b| (&a.node, &a.user, a.opened_at).cmp(&(&b.node, &b.user, b.opened_at)));
        all
    }
}

impl<S: Line> Shelf<S> {
    fn report(&self, now: Instant) -> Vec<status::Session> {
        let mut shown: Vec<_> = self.ledger.entries().iter().map(|entry| self.entry(entry, now)).collect();
        let left = self.refused.as_ref().map(|refused| refused.until().saturating_duration_since(now));
        if let Some(left) = left.filter(|left| shown.is_empty() && !left.is_zero()) {
            let until = Some(unix_now() + left.as_secs());
            shown.push(status::Session { next_try_at: until, ..self.blank(SessionState::Refused) });
        }
        // They wait for all of these together.
        if let Some(first) = shown.first_mut() {
            first.waiting = self.ledger.waiting() as u64;
        }
        shown
    }

    fn entry(&self, entry: &Entry, now: Instant) -> status::Session {
        let kept = self.kept.get(&entry.id);
        let Counts { round_trip, to_node, from_node } =
            kept.map(|kept| kept.session.counts()).unwrap_or_default();
        status::Session {
            opened_at: kept.map(|kept| kept.opened_at),
            idle_seconds: entry.unused_since().map(|since| now.saturating_duration_since(since).as_secs()),
            channels: entry.in_use().into(),
            channels_total: entry.total,
            round_trip_ms: round_trip.map(|time| time.as_secs_f64() * 1000.0),
            bytes_to_node: to_node,
            bytes_from_node: from_node,
            ..self.blank(match entry.health {
                Health::Opening => SessionState::Opening,
                Health::Suspect => SessionState::Suspect,
                Health::Draining => SessionState::Draining,
                Health::Open if entry.stalled || entry.alone => SessionState::Private,
                Health::Open => SessionState::Open,
            })
        }
    }

    fn blank(&self, state: SessionState) -> status::Session {
        let target = &self.key.target;
        status::Session {
            node: node(&self.key).map_or_else(|| target.host.clone(), |node| node.to_string()),
            user: target.user.clone(),
            upstream: upstream(&self.key).map(Into::into),
            state,
            opened_at: None,
            idle_seconds: None,
            channels: 0,
            channels_total: 0,
            waiting: 0,
            round_trip_ms: None,
            bytes_to_node: 0,
            bytes_from_node: 0,
            next_try_at: None,
            last_failure: self.last_failure.clone(),
        }
    }
}
