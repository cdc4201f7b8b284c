//! The upstream for hosts that need none: plain TCP.

use super::{Ask, Stream};
use crate::admission::{Admission, Gates, Place};
use crate::{config, dial};
use natssh_wire::{Failure, status};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Plain TCP. What failed is a node's own affair: it is in `failures`, and no state of the upstream.
#[derive(Debug)]
pub struct Direct {
    name: String,
    connect_timeout: Duration,
    opened: AtomicU64,
    failed: AtomicU64,
    open: Arc<AtomicU64>,
    gates: Gates,
}

/// Counts a stream for as long as it lives, and holds its place in front of the node.
#[derive(Debug)]
pub struct OpenStream {
    open: Arc<AtomicU64>,
    handshake: Place,
}

impl OpenStream {
    /// One more of those that `open` counts.
    pub(super) fn counted(open: &Arc<AtomicU64>, handshake: Place) -> Self {
        open.fetch_add(1, Relaxed);
        Self { open: open.clone(), handshake }
    }

    /// The place in front of the node.
    pub(super) fn handshake(&self) -> &Place {
        &self.handshake
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Relaxed);
    }
}

impl Direct {
    /// The upstream of that name.
    pub fn new(settings: &config::Upstream, admission: &Arc<Admission>) -> Self {
        Self {
            name: settings.name.clone(),
            connect_timeout: settings.connect_timeout,
            opened: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            open: Arc::default(),
            gates: Gates::new(admission, &settings.name, settings.handshakes),
        }
    }

    pub(super) async fn open(&self, ask: &Ask) -> Result<Stream, Failure> {
        let node = &ask.node;
        let handshake = self.gates.dialled(node).enter(ask.deadline).await?;
        let deadline = ask.deadline.min(Instant::now() + self.connect_timeout);
        match dial::connect("", std::slice::from_ref(node), deadline).await {
            Ok(connected) => {
                self.opened.fetch_add(1, Relaxed);
                handshake.stream_opened();
                Ok(Stream::Tcp(connected.stream, OpenStream::counted(&self.open, handshake)))
            }
            Err(mut failure) => {
                self.failed.fetch_add(1, Relaxed);
                failure.message += " (dialled directly)";
                Err(failure)
            }
        }
    }

    pub(super) fn report(&self) -> status::Upstream {
        let mut entry = super::blank(&self.name, "direct", "");
        (entry.handshakes, entry.told_busy) = self.gates.report();
        entry.streams = self.open.load(Relaxed);
        entry.streams_total = self.opened.load(Relaxed);
        entry.dials_ok = self.opened.load(Relaxed);
        entry.dials_failed = self.failed.load(Relaxed);
        entry
    }
}
