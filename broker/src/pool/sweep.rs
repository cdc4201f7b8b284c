//! What happens to sessions by time alone.

use super::line::Line;
use super::refusal::stamp;
use super::{FORGOTTEN, Pool};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the clock is looked at, while there is anything to look after.
const EVERY: Duration = Duration::from_secs(1);

impl<S: Line> Pool<S> {
    /// Begins to look at the clock, unless somebody does.
    pub(super) fn keep_swept(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.lock().swept, true) {
            tokio::spawn(sweeping(Arc::downgrade(self)));
        }
    }

    /// Does what is due. False once there is nothing left to look after.
    fn sweep(self: &Arc<Self>) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        state.shelves.retain(|_, shelf| !shelf.is_forgotten(now, FORGOTTEN));
        let keys: Vec<_> = state.shelves.keys().cloned().collect();
        let mut all = Vec::new();
        for key in keys {
            let Some(shelf) = state.shelves.get_mut(&key) else { continue };
            shelf.refused.take_if(|refused| refused.is_forgotten(now));
            let commands = shelf.ledger.tick(now);
            if !commands.is_empty() {
                all.push((state.carry_out(self, &key, commands, now), key));
            }
        }
        state.swept = !state.shelves.is_empty();
        let go_on = state.swept;
        drop(state);
        for (deeds, key) in all {
            self.perform(&key, deeds);
        }
        go_on
    }

    /// Forgets a refusal if the files that it depends on are others now.
    pub(super) async fn look_at_files(self: &Arc<Self>, key: &Arc<super::Key>) {
        let known =
            self.lock().shelves.get(key).and_then(|shelf| Some(shelf.refused.as_ref()?.stamp().clone()));
        let Some(known) = known else { return };
        let looking = key.clone();
        let found = tokio::task::spawn_blocking(move || stamp(&looking.target)).await;
        if found.is_ok_and(|found| found != known)
            && let Some(shelf) = self.lock().shelves.get_mut(key)
        {
            shelf.refused = None;
        }
    }

    /// Takes sessions out of use whose key is no longer where it was.
    pub(super) async fn look_for_keys(self: &Arc<Self>, key: &Arc<super::Key>) {
        let now = Instant::now();
        let mut due = Vec::new();
        if let Some(shelf) = self.lock().shelves.get_mut(key) {
            for (id, kept) in &mut shelf.kept {
                if now.saturating_duration_since(kept.seen) >= EVERY {
                    kept.seen = now;
                    due.push((*id, kept.session.clone()));
                }
            }
        }
        for (id, session) in due {
            let there = tokio::task::spawn_blocking(move || session.still_stands()).await.unwrap_or(true);
            if !there {
                tracing::info!(peer = key.peer(), session = id, "the key that opened the session is gone");
                self.act(key, |shelf, now| ((), shelf.ledger.retire(id, now)));
            }
        }
    }
}

async fn sweeping<S: Line>(pool: Weak<Pool<S>>) {
    loop {
        sleep(EVERY).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.sweep() {
            return;
        }
    }
}
