//! What is counted of sessions, besides what `status` shows of them.

use super::Histogram;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of all sessions since the start.
#[derive(Debug, Default)]
pub struct SessionMeter {
    /// From the wish for a session to an authenticated one: the stream, the key exchange, the authentication.
    pub opens: Histogram,
    /// From the request for a command's channel to the channel.
    pub leases: Histogram,
    not_opened: AtomicU64,
    cut: AtomicU64,
}

impl SessionMeter {
    /// Counts a session that was not opened.
    pub fn not_opened(&self) {
        self.not_opened.fetch_add(1, Relaxed);
    }

    /// Counts commands whose session ended under them.
    pub fn cut(&self, commands: u64) {
        self.cut.fetch_add(commands, Relaxed);
    }

    /// Sessions that were not opened.
    pub(super) fn sessions_failed(&self) -> u64 {
        self.not_opened.load(Relaxed)
    }

    /// Commands whose session ended under them.
    #[must_use]
    pub fn commands_cut(&self) -> u64 {
        self.cut.load(Relaxed)
    }
}
