//! Counts of what the proxy did, for those who watch the lab.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a proxy did since it started, and what it holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Clients' connections that were accepted.
    pub connections: u64,
    /// Of these, open now.
    pub connections_open: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Certificates and keys that were refused.
    pub logins_refused: u64,
    /// Channels opened by clients.
    pub channels: u64,
    /// Of these, open now.
    pub channels_open: u64,
    /// Streams that reached a node.
    pub streams: u64,
    /// Requests that were answered with a refusal.
    pub refused: u64,
    /// Times that an agent was asked for its keys, by a recording proxy.
    pub agents_listed: u64,
    /// Connections that a policy closed: idle too long, certificate ended.
    pub evicted: u64,
    /// Keepalives sent for open channels.
    pub keepalives: u64,
    /// Bytes from clients that their nodes have not taken yet.
    pub bytes_held: u64,
}

/// The running counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections: AtomicU64,
    pub(crate) connections_open: AtomicU64,
    pub(crate) logins: AtomicU64,
    pub(crate) logins_refused: AtomicU64,
    pub(crate) channels: AtomicU64,
    pub(crate) channels_open: AtomicU64,
    pub(crate) streams: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) agents_listed: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) keepalives: AtomicU64,
    pub(crate) bytes_held: AtomicU64,
}

impl Tally {
    /// The counts at this moment.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            connections: self.connections.load(Relaxed),
            connections_open: self.connections_open.load(Relaxed),
            logins: self.logins.load(Relaxed),
            logins_refused: self.logins_refused.load(Relaxed),
            channels: self.channels.load(Relaxed),
            channels_open: self.channels_open.load(Relaxed),
            streams: self.streams.load(Relaxed),
            refused: self.refused.load(Relaxed),
            agents_listed: self.agents_listed.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            keepalives: self.keepalives.load(Relaxed),
            bytes_held: self.bytes_held.load(Relaxed),
        }
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
