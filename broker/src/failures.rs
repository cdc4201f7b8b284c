//! The last failures, because stderr may have gone nowhere: with
//! ControlPersist, ssh sends its dialer's stderr to `/dev/null`.

use natssh_wire::status::FailureRecord;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many are kept.
const KEPT: usize = 200;
/// How far back the same failure is found and counted up, instead of being kept again.
const NEAR: usize = 16;

/// How many there were since the start, by upstream and kind.
pub type Totals = BTreeMap<(Option<String>, FailureKind), u64>;

/// A ring of failures, newest first when read.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    ring: VecDeque<FailureRecord>,
    totals: Totals,
}

impl Failures {
    /// Keeps one; a repetition of a recent one only counts it up.
    pub fn record(&self, node: Option<&NodeAddr>, upstream: Option<&str>, failure: &Failure) {
        self.keep(record(node, upstream, failure, unix_now()));
    }

    fn keep(&self, new: FailureRecord) {
        let mut kept = self.lock();
        let Kept { ring, totals } = &mut *kept;
        *totals.entry((new.upstream.clone(), new.kind)).or_default() += 1;
        let same = |old: &FailureRecord| {
            old.node == new.node
                && old.upstream == new.upstream
                && old.kind == new.kind
                && old.message == new.message
        };
        let count = match ring.iter().take(NEAR).position(same) {
            Some(index) => ring.remove(index).map_or(1, |old| old.count + 1),
            None => 1,
        };
        ring.push_front(FailureRecord { count, ..new });
        ring.truncate(KEPT);
    }

    /// At most `limit`, newest first; only those of `host` if one is given.
    /// A failure that names no node concerns every host.
    pub fn latest(&self, host: Option<&str>, limit: usize) -> Vec<FailureRecord> {
        let kept = self.lock();
        let concerns = |record: &&FailureRecord| match (host, &record.node) {
            (Some(host), Some(node)) => {
                NodeAddr::parse(node).is_ok_and(|node| node.host.eq_ignore_ascii_case(host))
            }
            _ => true,
        };
        kept.ring.iter().filter(concerns).take(limit).cloned().collect()
    }

    /// How many there were since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failure as `status` shows it.
#[must_use]
pub fn record(node: Option<&NodeAddr>, upstream: Option<&str>, failure: &Failure, at: u64) -> FailureRecord {
    FailureRecord {
        at,
        count: 1,
        node: node.map(ToString::to_string),
        upstream: upstream.map(Into::into),
        kind: failure.kind,
        message: failure.message.clone(),
        hint: failure.hint.clone(),
    }
}

/// Seconds since 1970.
#[must_use]
pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    fn offline(failures: &Failures, node: &str, at: u64) {
        let node = NodeAddr::parse(node).unwrap();
        let failure = Failure::new(FailureKind::Offline, "the node is offline");
        failures.keep(record(Some(&node), Some("office"), &failure, at));
    }

    #[test]
    fn fifty_streams_that_fail_alike_are_one_line_with_a_count() {
        let failures = Failures::default();
        for at in 0..50 {
            offline(&failures, "web:22", at);
            offline(&failures, "db:22", at);
        }
        let seen = failures.latest(None, 100);
        assert_eq!(
            seen.iter().map(|r| (r.node.as_deref().unwrap(), r.count)).collect::<Vec<_>>(),
            [("db:22", 50), ("web:22", 50)]
        );
        assert_eq!(seen[0].at, 49);
        assert_eq!(failures.totals()[&(Some("office".into()), FailureKind::Offline)], 100);
    }

    #[test]
    fn why_shows_the_hosts_own_failures_and_those_that_concern_all() {
        let failures = Failures::default();
        offline(&failures, "web:22", 1);
        offline(&failures, "db:22", 2);
        failures.record(None, Some("office"), &Failure::new(FailureKind::Cut, "the proxy went away"));
        let seen: Vec<_> = failures.latest(Some("WEB"), 100).into_iter().map(|r| r.node).collect();
        assert_eq!(seen, [None, Some("web:22".into())]);
    }

    #[test]
    fn the_ring_is_bounded() {
        let failures = Failures::default();
        for at in 0..1000 {
            offline(&failures, &format!("node-{at}:22"), at);
        }
        assert_eq!(failures.latest(None, usize::MAX).len(), KEPT);
        assert_eq!(failures.latest(None, 1)[0].at, 999);
    }
}
