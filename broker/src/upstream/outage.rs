//! An upstream that cannot be reached, and when to dial it again. No I/O; the
//! caller supplies the time and the randomness.

use crate::backoff;
use natssh_wire::{Failure, FailureKind};
use std::time::Duration;
use tokio::time::Instant;

/// With somebody waiting, a failed dial is repeated at least this often.
pub(super) const IMPATIENT: Duration = Duration::from_secs(1);
/// A key or file that a person has to mend, which the server does not notice, is
/// remembered for so long. When a server that refuses may be asked again, its breaker knows.
const UNUSABLE_FOR: Duration = Duration::from_secs(2);

/// No dial has succeeded since this began.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outage {
    /// What failed last.
    pub(super) failure: Failure,
    /// Dials that failed in it; 0 when a trunk was lost and none was tried yet.
    pub(super) dials: u32,
    at: Instant,
    wait: Duration,
    refusal: Option<Refusal>,
}

/// Dialling again with the same identity would be refused again.
#[derive(Debug, Clone, PartialEq)]
struct Refusal {
    until: Instant,
    generation: u64,
}

/// What somebody who wants a trunk has to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// Dial.
    Dial,
    /// Look again then.
    Wait(Instant),
    /// Give up.
    Fail(Failure),
}

impl Outage {
    /// The last trunk was lost.
    pub(super) fn after_loss(failure: Failure, now: Instant, random: f64) -> Self {
        Self { failure, dials: 0, at: now, wait: backoff::wait(1, random), refusal: None }
    }

    /// A dial with an identity of `generation` failed.
    pub(super) fn after_dial(
        before: Option<&Self>,
        failure: Failure,
        generation: u64,
        now: Instant,
        random: f64,
    ) -> Self {
        let dials = before.map_or(0, |before| before.dials) + 1;
        let refused_for = match failure.kind {
            FailureKind::Denied => Some(Duration::ZERO),
            FailureKind::Identity | FailureKind::HostKey | FailureKind::Config => Some(UNUSABLE_FOR),
            _ => None,
        };
        let refusal = refused_for.map(|time| Refusal { until: now + time, generation });
        Self { failure, dials, at: now, wait: backoff::wait(dials, random), refusal }
    }

    /// For somebody who waits with an identity of `generation`.
    pub(super) fn next(&self, generation: u64, now: Instant) -> Next {
        match &self.refusal {
            Some(refusal) if now < refusal.until && generation <= refusal.generation => {
                Next::Fail(self.failure.clone())
            }
            Some(_) => Next::Dial,
            None if now < self.soonest() => Next::Wait(self.soonest()),
            None => Next::Dial,
        }
    }

    /// When to dial though nobody waits; never after a refusal.
    pub(super) fn redial_at(&self) -> Option<Instant> {
        self.refusal.is_none().then(|| self.at + self.wait)
    }

    fn soonest(&self) -> Instant {
        self.at + self.wait.min(IMPATIENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: FailureKind) -> Failure {
        Failure::new(kind, "it failed")
    }

    fn dial(before: Option<&Outage>, kind: FailureKind, now: Instant) -> Outage {
        Outage::after_dial(before, failed(kind), 1, now, 0.5)
    }

    #[test]
    fn background_dials_back_off_while_callers_are_served_every_second() {
        let now = Instant::now();
        let mut outage = dial(None, FailureKind::Unreachable, now);
        for _ in 0..20 {
            outage = dial(Some(&outage), FailureKind::Unreachable, now);
        }
        assert_eq!(outage.next(1, now), Next::Wait(now + IMPATIENT));
        assert_eq!(outage.next(1, now + IMPATIENT), Next::Dial);
        assert!(outage.redial_at().unwrap() >= now + Duration::from_secs(30));
    }

    #[test]
    fn a_lost_trunk_is_dialled_again_at_once() {
        let now = Instant::now();
        let outage = Outage::after_loss(failed(FailureKind::Cut), now, 0.5);
        assert_eq!(outage.next(1, now + Duration::from_millis(200)), Next::Dial);
        assert_eq!(outage.redial_at(), Some(now + Duration::from_millis(200)));
    }

    #[test]
    fn a_refused_identity_is_not_tried_in_the_background() {
        let now = Instant::now();
        let outage = dial(None, FailureKind::Denied, now);
        assert_eq!(outage.next(1, now), Next::Dial, "the breaker decides");
        assert_eq!(outage.redial_at(), None, "nobody dials who is not asked to");
    }

    #[test]
    fn what_a_person_can_mend_is_looked_at_again_soon() {
        let now = Instant::now();
        let outage = dial(None, FailureKind::HostKey, now);
        assert!(matches!(outage.next(1, now), Next::Fail(_)));
        assert_eq!(outage.next(2, now), Next::Dial);
        assert_eq!(outage.next(1, now + UNUSABLE_FOR), Next::Dial);
    }
}
