//! Channels that rest: their program has served somebody, and waits for the next of its kind.

use super::{Key, Leased, Opener, Pool, Use};
use crate::pool::Line;
use crate::target::{Target, Wishes};
use std::sync::Arc;
use tokio::time::Instant;

impl<S: Line> Pool<S> {
    /// A channel to `target` that rests, where there is one that this use may have, and how far the conversation on it
    /// has come. It may end at any time, as every other.
    pub async fn rouse(
        self: &Arc<Self>,
        how: Use,
        target: &Target,
        wishes: &Wishes,
        opener: Arc<dyn Opener<S>>,
    ) -> Option<(Leased<S>, S::Talk)> {
        let key = Arc::new(Key { target: target.clone(), way: opener.way() });
        if !self.lock().shelves.contains_key(&key) {
            return None;
        }
        self.look_for_keys(&key).await;
        let now = Instant::now();
        let (leased, talk) = {
            let mut state = self.lock();
            let draining = state.draining;
            let shelf = state.shelves.get_mut(&key).filter(|_| !draining)?;
            let session = shelf.ledger.rouse(how, wishes.keep.unwrap_or(super::KEEP), now)?;
            (shelf.opener, shelf.last_use) = (opener, now);
            let kept = shelf.kept.get_mut(&session)?;
            let (channel, talk) = kept.resting.take()?;
            (Leased::new(self, &key, session, kept.session.clone(), Some(channel)), talk)
        };
        if S::is_closed(&leased) {
            return None;
        }
        self.meter.leases.observe(now.elapsed());
        Some((leased, talk))
    }
}
