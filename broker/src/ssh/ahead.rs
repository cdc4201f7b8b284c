//! A session channel that is open before anybody asks for it: the subsystem that comes next costs one round trip
//! and not two.
//!
//! To the server such a channel is not free. A Teleport proxy keeps descriptors for it, and a cluster with an idle
//! limit counts its silence and closes the whole connection for it. So it is given up after [`KEPT`], and after one
//! that nobody used there is none until two requests have followed each other as quickly.

use super::half::Half;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long one waits for its use: shorter than any idle limit of a cluster's.
pub(super) const KEPT: Duration = Duration::from_secs(3);

/// The place of one channel.
#[derive(Default)]
pub(super) struct Ahead(Mutex<State>);

#[derive(Default)]
struct State {
    place: Place,
    /// When the last request was served.
    served: Option<Instant>,
    /// Nobody used the last channel.
    in_vain: bool,
}

#[derive(Default)]
enum Place {
    #[default]
    Empty,
    Opening,
    Open(Half),
}

impl Ahead {
    /// The channel, if there is one: it may have ended meanwhile.
    pub(super) fn take(&self) -> Option<Half> {
        let mut state = self.lock();
        match std::mem::take(&mut state.place) {
            Place::Open(half) => Some(half),
            other => {
                state.place = other;
                None
            }
        }
    }

    /// A request was served: whether to open a channel for the next one.
    pub(super) fn wants_one(&self) -> bool {
        let (mut state, now) = (self.lock(), Instant::now());
        let before = state.served.replace(now);
        if before.is_some_and(|before| now - before < KEPT) {
            state.in_vain = false;
        }
        let wanted = !state.in_vain && matches!(state.place, Place::Empty);
        if wanted {
            state.place = Place::Opening;
        }
        wanted
    }

    /// The channel that was wanted, or none: the server gives none.
    pub(super) fn put(&self, half: Option<Half>) {
        let mut state = self.lock();
        state.in_vain |= half.is_none();
        state.place = half.map_or(Place::Empty, Place::Open);
    }

    /// Gives up that channel, if nobody has used it.
    pub(super) fn give_up(&self, id: russh::ChannelId) {
        let mut state = self.lock();
        if matches!(&state.place, Place::Open(half) if half.id() == id) {
            state.place = Place::Empty;
            state.in_vain = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
