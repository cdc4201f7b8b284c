//! Learning a cluster's idle limit (`client_idle_timeout`). No I/O.
//!
//! Teleport counts the limit for each channel and closes the whole connection
//! for it, and does not announce it (seen on 7.0 and 14.0; lib/srv/ctx.go). What
//! can be seen: the proxy closes a trunk in good order, takes the next one at
//! once, and some stream on the old one had been silent for much the same time
//! as when that happened before.

use std::time::Duration;

/// No limit is as short as this; pauses of this length are everywhere.
const SHORTEST: Duration = Duration::from_secs(4);
/// Two silences are "much the same" within a quarter, and a keepalive interval
/// or so on short ones: the proxy looks only now and then.
const SLACK: Duration = Duration::from_secs(6);

/// What is known of the limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct IdleLimit {
    known: Option<Duration>,
    /// The longest silence on the trunk that was closed last.
    suspected: Option<Duration>,
    /// The same of the one before, when the proxy took the next trunk at once.
    before: Option<Duration>,
}

impl IdleLimit {
    /// The limit, if it was learned.
    pub(super) fn known(&self) -> Option<Duration> {
        self.known
    }

    /// The proxy named it.
    pub(super) fn told(&mut self, limit: Duration) {
        self.known = Some(limit);
    }

    /// The proxy closed a trunk on which a stream had been silent so long.
    pub(super) fn trunk_closed(&mut self, silence: Duration) {
        self.suspected = Some(silence).filter(|silence| *silence >= SHORTEST);
    }

    /// The next dial failed: the proxy was down, and silence had nothing to do with it.
    pub(super) fn dial_failed(&mut self) {
        self.suspected = None;
    }

    /// The next dial succeeded at once. True if that taught the limit.
    pub(super) fn dial_succeeded(&mut self) -> bool {
        let Some(silence) = self.suspected.take() else { return false };
        let Some(before) = self.before.replace(silence) else { return false };
        let (short, long) = (silence.min(before), silence.max(before));
        if long > short + short / 4 + SLACK {
            return false;
        }
        let news = self.known.is_none();
        self.known = Some(self.known.map_or(short, |known| known.min(short)));
        news
    }

    /// A stream has been silent so long, and its trunk lives. A limit well below that is none.
    pub(super) fn silence_survived(&mut self, silence: Duration) {
        if self.known.is_some_and(|known| silence > known * 2 + SLACK) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn cut(limit: &mut IdleLimit, silence: u64) -> bool {
        limit.trunk_closed(seconds(silence));
        limit.dial_succeeded()
    }

    #[test]
    fn two_cuts_after_the_same_silence_teach_the_limit() {
        let mut limit = IdleLimit::default();
        assert!(!cut(&mut limit, 13));
        assert!(cut(&mut limit, 15));
        assert_eq!(limit.known(), Some(seconds(13)));
        assert!(!cut(&mut limit, 12), "no news");
        assert_eq!(limit.known(), Some(seconds(12)));
    }

    #[test]
    fn a_proxy_that_restarts_teaches_nothing() {
        let mut limit = IdleLimit::default();
        for _ in 0..3 {
            limit.trunk_closed(seconds(60));
            limit.dial_failed();
            assert!(!limit.dial_succeeded());
        }
        assert!(!cut(&mut limit, 300));
        assert!(!cut(&mut limit, 3000));
        assert!(!cut(&mut limit, 1));
        assert!(!cut(&mut limit, 2));
        assert_eq!(limit.known(), None);
    }

    #[test]
    fn a_stream_that_outlives_the_limit_refutes_it() {
        let mut limit = IdleLimit::default();
        limit.told(seconds(20));
        limit.silence_survived(seconds(40));
        assert_eq!(limit.known(), Some(seconds(20)));
        limit.silence_survived(seconds(47));
        assert_eq!(limit.known(), None);
    }
}
