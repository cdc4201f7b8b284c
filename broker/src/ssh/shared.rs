//! What the callbacks of a connection and its owner share: its channels, and how it ended.

use super::inbox::End;
use super::mailbox::{Keeping, Mailbox};
use super::refused_open::RefusedOpens;
use natssh_wire::Failure;
use russh::ChannelId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why; lower case, no full stop.
    pub reason: Arc<str>,
    /// Channels that were open on it, in use.
    pub channels: usize,
    /// How long the quietest of them had been silent, where the server closed in good order.
    pub silence: Option<Duration>,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// The server, in good order.
    ByServer,
    /// Nobody: it broke, or this side cut it.
    Broken,
}

/// One channel.
struct Entry {
    mailbox: Mailbox,
    /// Whether its opener has it: bytes, and even its end, can come before.
    claimed: bool,
}

impl Entry {
    fn new(keeping: &Keeping) -> Self {
        Self { mailbox: keeping.mailbox(), claimed: false }
    }
}

/// What the callbacks and the connection's owner share.
pub(super) struct Shared {
    channels: Mutex<HashMap<ChannelId, Entry>>,
    keeping: Keeping,
    /// How the connection ended, once it has.
    pub(super) ended: watch::Sender<Option<Ended>>,
    /// Why the server's key was refused: the library itself says only "unknown key".
    pub(super) refused: Mutex<Option<Failure>>,
    /// Channels that the server did not open.
    pub(super) refused_opens: RefusedOpens,
    /// The identification the server sent.
    pub(super) server: OnceLock<String>,
    /// Set by the first stream that offers the agent; until then the server may not ask for it.
    pub(super) agent_offered: AtomicBool,
    /// True when the server proved its key with SHA-1 RSA.
    pub(super) sha1: AtomicBool,
    /// Packets that came for its channels: signs of life.
    pub(super) arrivals: AtomicU64,
    /// Packets for which the connection was held.
    pub(super) held: AtomicU64,
}

impl Shared {
    pub(super) fn new(keeping: Keeping) -> Arc<Self> {
        Arc::new(Self {
            channels: Mutex::default(),
            keeping,
            ended: watch::Sender::new(None),
            refused: Mutex::new(None),
            refused_opens: RefusedOpens::default(),
            server: OnceLock::new(),
            agent_offered: AtomicBool::new(false),
            sha1: AtomicBool::new(false),
            arrivals: AtomicU64::new(0),
            held: AtomicU64::new(0),
        })
    }

    /// The server has confirmed a channel: bytes can follow at once.
    pub(super) fn confirmed(&self, id: ChannelId) {
        self.lock().entry(id).or_insert_with(|| Entry::new(&self.keeping));
    }

    /// Where the bytes of a channel go; nowhere once this side has closed it.
    pub(super) fn mailbox(&self, id: ChannelId) -> Option<Mailbox> {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        self.lock().get(&id).map(|entry| entry.mailbox.clone())
    }

    /// Hands a channel to its opener; none once the connection has ended.
    pub(super) fn claim(&self, id: ChannelId) -> Option<Mailbox> {
        let mut channels = self.lock();
        // The opener hears of the confirmation a little before the callback does.
        let entry = channels.entry(id).or_insert_with(|| Entry::new(&self.keeping));
        entry.claimed = true;
        let mailbox = entry.mailbox.clone();
        let over = self.ended.borrow().is_some();
        if over || mailbox.ended() {
            channels.remove(&id);
        }
        (!over || mailbox.ended()).then_some(mailbox)
    }

    /// The server has closed a channel.
    pub(super) fn closed(&self, id: ChannelId) {
        let mut channels = self.lock();
        let Some(entry) = channels.get(&id) else { return };
        entry.mailbox.end(End::Closed);
        if entry.claimed {
            channels.remove(&id);
        }
    }

    /// Channels that are open now and that somebody has.
    pub(super) fn channels(&self) -> usize {
        self.lock().values().filter(|entry| entry.claimed).count()
    }

    /// How long the quietest channel has been silent.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.lock().values().filter_map(|entry| entry.mailbox.silence()).max()
    }

    /// Forgets a channel that this side gives up; true where it is still to be closed.
    pub(super) fn forget(&self, id: ChannelId) -> bool {
        self.lock().remove(&id).is_some()
    }

    /// This side ends the connection.
    pub(super) fn give_up(&self, reason: &str) {
        self.finish(reason, How::Broken);
    }

    pub(super) fn finish(&self, reason: &str, how: How) {
        if self.ended.borrow().is_some() {
            return;
        }
        let reason: Arc<str> = reason.into();
        // Told under the lock: nobody claims a channel in between.
        let mut open = self.lock();
        let channels = open.values().filter(|entry| entry.claimed).count();
        let mailboxes: Vec<Mailbox> = open.drain().map(|(_, entry)| entry.mailbox).collect();
        let silence = mailboxes.iter().filter_map(Mailbox::silence).max().filter(|_| how == How::ByServer);
        self.ended.send_replace(Some(Ended { reason: reason.clone(), channels, silence }));
        drop(open);
        for mailbox in mailboxes {
            mailbox.end(End::Cut(reason.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, Entry>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
