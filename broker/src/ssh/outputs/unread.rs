//! How much may be unread, on one session and on all of a broker's.

use super::queue::{Company, Limits};
use crate::ssh::inbox::Budget;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Bytes of all sessions together that wait in memory.
pub const MEMORY_LIMIT: usize = 256 << 20;
/// Bytes of all sessions together that wait in files.
pub const DISK_LIMIT: usize = 1 << 30;
/// The places for unread output that all sessions of a broker share.
#[derive(Debug)]
pub struct Stores {
    /// Memory.
    pub memory: Arc<Budget>,
    /// Files.
    pub disk: Arc<Budget>,
    /// Where the files are: not in memory, as `/tmp` may be.
    pub folder: PathBuf,
    pub(super) each: Limits,
}

/// What the commands of one session leave unread.
#[derive(Debug)]
pub struct Unread {
    pub(super) stores: Arc<Stores>,
    /// Commands that were started and have not ended.
    pub(super) running: AtomicUsize,
    /// Commands whose readers are behind.
    behind: Mutex<usize>,
    private: watch::Sender<bool>,
    /// Bytes of all commands' input.
    pub(super) sent: AtomicU64,
    /// Bytes of all their output.
    pub(super) received: AtomicU64,
}

impl Stores {
    /// As large as they are outside of tests.
    #[must_use]
    pub fn new(folder: PathBuf) -> Arc<Self> {
        Self::with(folder, Limits::USUAL)
    }

    fn with(folder: PathBuf, each: Limits) -> Arc<Self> {
        let (memory, disk) = (Budget::new(MEMORY_LIMIT), Budget::new(DISK_LIMIT));
        Arc::new(Self { memory, disk, folder, each })
    }

    /// Small ones, so that a test fills them.
    #[cfg(test)]
    pub(crate) fn small(folder: PathBuf, memory: usize, file: u64, overdraft: u64) -> Arc<Self> {
        Self::with(folder, Limits { memory, file, overdraft })
    }
}

impl Unread {
    /// Nothing yet.
    #[must_use]
    pub fn new(stores: Arc<Stores>) -> Arc<Self> {
        let (running, behind, sent, received) = Default::default();
        Arc::new(Self { stores, running, behind, private: watch::Sender::new(false), sent, received })
    }

    /// Whether a reader is so far behind that nothing new should run beside it.
    #[must_use]
    pub fn private(&self) -> watch::Receiver<bool> {
        self.private.subscribe()
    }

    /// Bytes of all commands' input so far, and of their output.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    pub(super) fn company(&self) -> Company {
        if self.running.load(Ordering::Relaxed) > 1 { Company::Others } else { Company::Alone }
    }

    pub(super) fn change(&self, behind: impl FnOnce(&mut usize)) {
        let mut readers = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind(&mut readers);
        let private = *readers > 0;
        self.private.send_if_modified(|now| std::mem::replace(now, private) != private);
    }
}
