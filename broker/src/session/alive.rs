//! Whether a session's node still answers.
//!
//! A request is sent every 15 seconds, also beside other traffic, but not on a session that is held back: an sshd
//! that is to answer waits until its output is taken, hears nothing meanwhile, and may leave. Such a session gives signs
//! of life that ask for nothing. Whatever arrives is a sign of the node's.

use crate::ssh::Connection;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Without an answer for so long, nothing new is put on a session.
const SUSPECT: Duration = Duration::from_secs(15);
/// Without an answer for so long, it is closed.
const CLOSED: Duration = Duration::from_secs(45);

/// How often a node is asked, and when it counts as gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alive {
    every: Duration,
    patience: Duration,
}

/// How a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Its node answers.
    Good,
    /// It has not for 15 seconds: nothing new on this session.
    Suspect,
    /// The session is over, or about to be.
    Ended,
}

impl Default for Alive {
    fn default() -> Self {
        Self { every: SUSPECT, patience: CLOSED }
    }
}

impl Alive {
    /// By `ServerAliveInterval` and `ServerAliveCountMax`, where the user set a positive interval.
    #[must_use]
    pub fn new(setting: Option<(Duration, u32)>) -> Self {
        let Some((every, count)) = setting.filter(|(every, _)| !every.is_zero()) else {
            return Self::default();
        };
        Self { every: every.min(SUSPECT), patience: every.saturating_mul(count.max(1)) }
    }

    /// After so much silence.
    fn judge(&self, silence: Duration) -> Health {
        match silence {
            silence if silence >= self.patience => Health::Ended,
            silence if silence >= SUSPECT => Health::Suspect,
            _ => Health::Good,
        }
    }
}

/// What is known of a session's life.
#[derive(Debug)]
pub(super) struct Pulse {
    health: watch::Sender<Health>,
    round_trip_us: AtomicU64,
}

impl Pulse {
    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    fn set(&self, health: Health) {
        self.health.send_if_modified(|now| std::mem::replace(now, health) != health);
    }
}

/// Watches over a connection until it ends, or is forgotten; closes it when nothing answers.
pub(super) fn watch(connection: &Arc<Connection>, alive: Alive) -> Arc<Pulse> {
    let pulse =
        Arc::new(Pulse { health: watch::Sender::new(Health::Good), round_trip_us: AtomicU64::new(0) });
    tokio::spawn(follow(Arc::downgrade(connection), connection.ended(), pulse.clone(), alive));
    pulse
}

async fn follow(
    connection: Weak<Connection>,
    mut ended: watch::Receiver<Option<crate::ssh::Ended>>,
    pulse: Arc<Pulse>,
    alive: Alive,
) {
    let mut ticks = interval(alive.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked: JoinSet<bool> = JoinSet::new();
    let (mut heard, mut arrivals, mut held) = (Instant::now(), 0, 0);
    loop {
        tokio::select! {
            _ = ended.wait_for(Option::is_some) => break,
            Some(answered) = asked.join_next() => {
                if answered.unwrap_or(false) {
                    heard = Instant::now();
                    pulse.set(Health::Good);
                }
                continue;
            }
            _ = ticks.tick() => {}
        }
        let Some(connection) = connection.upgrade() else { break };
        let now_arrived = connection.arrivals();
        if std::mem::replace(&mut arrivals, now_arrived) != now_arrived {
            heard = Instant::now();
        }
        let health = alive.judge(heard.elapsed());
        pulse.set(health);
        if health == Health::Ended {
            connection.give_up(&format!("no answer for {} s", heard.elapsed().as_secs()));
            break;
        }
        let now_held = connection.held();
        if std::mem::replace(&mut held, now_held) != now_held {
            continue;
        }
        let (pulse, patience) = (pulse.clone(), alive.patience);
        asked.spawn(async move {
            let Ok(Ok(round_trip)) = timeout(patience, connection.ping()).await else { return false };
            let us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
            pulse.round_trip_us.store(us.max(1), Ordering::Relaxed);
            true
        });
    }
    pulse.set(Health::Ended);
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_short_silence_kills_nothing() {
        let alive = Alive::default();
        let judged = [0, 14, 15, 16, 44, 45].map(|silence| alive.judge(seconds(silence)));
        use Health::{Ended, Good, Suspect};
        assert_eq!(judged, [Good, Good, Suspect, Suspect, Suspect, Ended]);
    }

    #[test]
    fn the_users_own_setting_holds_where_it_says_anything() {
        assert_eq!(Alive::new(None), Alive::default());
        assert_eq!(Alive::new(Some((Duration::ZERO, 3))), Alive::default());
        let short = Alive::new(Some((seconds(5), 2)));
        assert_eq!((short.every, short.judge(seconds(10))), (seconds(5), Health::Ended));
        let long = Alive::new(Some((seconds(60), 10)));
        assert_eq!((long.every, long.judge(seconds(599))), (SUSPECT, Health::Suspect));
    }
}
