//! What a server's refusal of somebody's authentication is worth. No I/O; the caller supplies the time.
//!
//! Servers count refused attempts and ban everyone behind the same address. One
//! refusal opens the breaker: nobody asks again until its time is over. Then one
//! may ask, for all. Each refusal in a row doubles the time; a success, a newer
//! identity or a person closes the breaker.

use natssh_wire::Failure;
use std::time::Duration;
use tokio::time::Instant;

/// How long the first refusal holds. With the doubling no minute sees more than two attempts.
pub(super) const FIRST: Duration = Duration::from_secs(30);
/// No refusal holds longer.
const LONGEST: Duration = Duration::from_secs(300);
/// So long after its time is over, a refusal is forgotten, and the next one is a first again.
const FORGOTTEN: Duration = Duration::from_secs(900);

/// A breaker that is open, or half open once its time is over.
#[derive(Debug, Clone)]
pub(crate) struct Breaker<F = Failure> {
    /// What the server said last, and until when it is not asked again.
    pub(crate) failure: F,
    /// Refusals in a row.
    pub(crate) refusals: u32,
    /// When somebody may ask again.
    pub(crate) until: Instant,
    /// That of the identity that was refused.
    generation: u64,
    /// Somebody is asking, for all.
    probing: bool,
}

impl<F: Clone> Breaker<F> {
    /// An identity of `generation` was refused, after what `before` remembers.
    pub(crate) fn after(before: Option<&Self>, generation: u64, now: Instant, failure: F) -> Self {
        let before = before.filter(|before| before.generation >= generation && !before.is_forgotten(now));
        let refusals = before.map_or(0, |before| before.refusals).saturating_add(1);
        let wait = FIRST.saturating_mul(1 << (refusals - 1).min(8)).min(LONGEST);
        Self { failure, refusals, until: now + wait, generation, probing: false }
    }

    /// Whether somebody with an identity of `generation` may ask; who may must say what came of it.
    ///
    /// # Errors
    /// What the server said last.
    pub(crate) fn ask(&mut self, generation: u64, now: Instant) -> Result<(), F> {
        if generation > self.generation {
            return Ok(());
        }
        if now < self.until || self.probing {
            return Err(self.failure.clone());
        }
        self.probing = true;
        Ok(())
    }

    /// Who asked got no answer: the next one may ask.
    pub(crate) fn unanswered(&mut self) {
        self.probing = false;
    }

    /// Its time is over, and somebody may ask or is asking.
    pub(crate) fn is_half_open(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// It was so long ago that it means nothing any more.
    pub(crate) fn is_forgotten(&self, now: Instant) -> bool {
        now >= self.until + FORGOTTEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use natssh_wire::FailureKind;
    use proptest::prelude::*;

    fn refused(before: Option<&Breaker>, generation: u64, now: Instant) -> Breaker {
        Breaker::after(before, generation, now, Failure::new(FailureKind::Denied, "no"))
    }

    #[test]
    fn a_refusal_holds_for_all_and_then_one_may_ask() {
        let now = Instant::now();
        let mut breaker = refused(None, 1, now);
        assert!(breaker.ask(1, now).is_err());
        assert!(breaker.ask(1, now + FIRST / 2).is_err());
        let later = now + FIRST;
        assert!(breaker.ask(1, later).is_ok());
        assert!(breaker.ask(1, later).is_err(), "one asks for all");
        breaker.unanswered();
        assert!(breaker.ask(1, later).is_ok());
    }

    #[test]
    fn each_refusal_doubles_the_time_up_to_five_minutes() {
        let mut now = Instant::now();
        let mut breaker = refused(None, 1, now);
        let mut waits = Vec::new();
        for _ in 0..6 {
            waits.push((breaker.until - now).as_secs());
            now = breaker.until;
            breaker = refused(Some(&breaker), 1, now);
        }
        assert_eq!(waits, [30, 60, 120, 240, 300, 300]);
        let much_later = breaker.until + FORGOTTEN;
        assert_eq!(refused(Some(&breaker), 1, much_later).until, much_later + FIRST);
    }

    #[test]
    fn a_newer_identity_may_ask_at_once_and_begins_anew() {
        let now = Instant::now();
        let first = refused(None, 1, now);
        let mut second = refused(Some(&first), 1, now);
        assert!(second.ask(2, now).is_ok());
        assert_eq!(refused(Some(&second), 2, now).until, now + FIRST);
    }

    proptest! {
        /// However many ask, and whenever: a server that always refuses is asked at most twice in any minute.
        #[test]
        fn no_minute_sees_more_than_two_attempts(gaps in prop::collection::vec(0u64..40_000, 1..300)) {
            let mut now = Instant::now();
            let mut breaker: Option<Breaker> = None;
            let mut attempts: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if breaker.as_mut().is_none_or(|breaker| breaker.ask(1, now).is_ok()) {
                    attempts.push(now);
                    breaker = Some(refused(breaker.as_ref(), 1, now));
                }
            }
            for three in attempts.windows(3) {
                prop_assert!(three[2] - three[0] > Duration::from_secs(60));
            }
        }
    }
}
