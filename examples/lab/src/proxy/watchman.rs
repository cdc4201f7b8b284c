//! Closes connections for the policy's sake: a channel idle for too long, a
//! certificate that ended.
//!
//! As in Teleport, both belong to a channel and end the whole connection; a
//! connection without channels is left alone.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

use super::Policy;
use super::auth::User;

/// How often it looks, while there is a limit to watch.
const LOOK: Duration = Duration::from_millis(100);

/// What the watchman sees of a connection.
pub(crate) trait Watched: Send + Sync {
    /// Who logged in, once somebody has.
    fn user(&self) -> Option<Arc<User>>;
    /// When the quietest open channel last carried a byte.
    fn quietest(&self) -> Option<Instant>;
}

/// When a channel last carried a byte, either way.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Instant>);

impl Pulse {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Instant::now())))
    }

    /// A byte passed.
    pub(crate) fn beat(&self) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = Instant::now();
    }

    pub(crate) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Waits until the connection has to be closed; the value is why.
pub(crate) async fn watch<W: Watched>(
    connection: Arc<W>,
    mut policy: watch::Receiver<Policy>,
) -> &'static str {
    loop {
        let current = policy.borrow_and_update().clone();
        if let Some(reason) = offence(&*connection, &current) {
            return reason;
        }
        let limited = current.idle_timeout.is_some() || current.disconnect_expired;
        tokio::select! {
            () = sleep(LOOK), if limited => {}
            Ok(()) = policy.changed() => {}
            else => std::future::pending().await,
        }
    }
}

fn offence<W: Watched>(connection: &W, policy: &Policy) -> Option<&'static str> {
    let quietest = connection.quietest()?;
    if policy.idle_timeout.is_some_and(|limit| quietest.elapsed() >= limit) {
        return Some("a channel was idle for too long");
    }
    let expired = |user: Arc<User>| user.valid_before.is_some_and(|end| SystemTime::now() >= end);
    let expired = policy.disconnect_expired && connection.user().is_some_and(expired);
    expired.then_some("its certificate has expired")
}
