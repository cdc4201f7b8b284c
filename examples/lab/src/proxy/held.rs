//! The account of bytes that a client sent and its node has not taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::listen::Shared;

/// The most that a channel may hold. A real proxy holds a window, 2 MiB; SSH
/// inside a stream never sends more than its own windows allow.
const LIMIT: u64 = 64 * 1024 * 1024;

/// The account of one channel; what is left when it ends is written off.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: AtomicU64,
    shared: Arc<Shared>,
}

impl Held {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(0), shared })
    }

    /// Bytes came; false when it holds more than it should.
    pub(crate) fn add(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        self.shared.tally.bytes_held.fetch_add(bytes, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed) + bytes <= LIMIT
    }

    /// The node took bytes.
    pub(crate) fn take(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.shared.tally.bytes_held.fetch_sub(bytes, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let left = self.bytes.load(Relaxed);
        self.shared.tally.bytes_held.fetch_sub(left, Relaxed);
    }
}
