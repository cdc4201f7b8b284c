//! One trunk: an open connection of an upstream, and the watch over it.

use crate::ssh::{Connection, Ended};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Unanswered keepalives after which a trunk is closed; the first makes it suspect.
const CLOSE_AFTER: u32 = 3;

/// An open connection that carries streams.
pub(super) struct Trunk {
    /// The SSH connection.
    pub connection: Arc<Connection>,
    /// When it was authenticated, in seconds since 1970.
    pub opened_at: u64,
    round_trip_us: AtomicU64,
}

/// What the watch saw, once an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// An answer.
    Answers,
    /// A whole interval without an answer.
    Silent,
}

impl Trunk {
    /// A trunk over a connection that was just opened.
    pub(super) fn new(connection: Connection) -> Self {
        let connection = Arc::new(connection);
        Self { connection, opened_at: crate::failures::unix_now(), round_trip_us: AtomicU64::new(0) }
    }

    /// The last keepalive's round trip.
    pub(super) fn round_trip_ms(&self) -> Option<f64> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "shown to a person")]
        (us > 0).then(|| us as f64 / 1000.0)
    }

    /// Asks for an answer every `every` until the connection ends, or three
    /// went unanswered; tells `seen` each time. Returns how it ended.
    pub(super) async fn watch(&self, every: Duration, mut seen: impl FnMut(Seen)) -> Ended {
        let mut ended = self.connection.ended();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        loop {
            tokio::select! {
                gone = ended.wait_for(Option::is_some) => {
                    let gone = gone.ok().and_then(|gone| gone.clone());
                    return gone.unwrap_or_else(|| Ended { reason: "the connection ended".into(), channels: 0, silence: None });
                }
                _ = ticks.tick() => {}
            }
            // A request whose answer is late stays in the library's queue: the
            // answer to an older one is as good a sign of life.
            match timeout(every, self.ping()).await {
                Ok(true) => {
                    silent = 0;
                    seen(Seen::Answers);
                }
                Ok(false) => {}
                Err(_) => {
                    silent += 1;
                    seen(Seen::Silent);
                    if silent >= CLOSE_AFTER {
                        let reason = format!("no answer for {} s", every.as_secs() * u64::from(silent));
                        return Ended {
                            reason: reason.into(),
                            channels: self.connection.channels(),
                            silence: None,
                        };
                    }
                    ticks.reset_immediately();
                }
            }
        }
    }

    async fn ping(&self) -> bool {
        let begun = Instant::now();
        let answered = self.connection.ping().await.is_ok();
        if answered {
            let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.round_trip_us.store(us.max(1), Ordering::Relaxed);
        }
        answered
    }
}
