//! The upstream for hosts that need none: plain TCP.

use super::{Ask, Stream};
use crate::config;
use natssh_wire::status;
use natssh_wire::{Failure, FailureKind};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Plain TCP. What failed is a node's own affair: it is in `failures`, and no state of the upstream.
#[derive(Debug)]
pub struct Direct {
    name: String,
    connect_timeout: Duration,
    opened: AtomicU64,
    failed: AtomicU64,
    open: Arc<AtomicU64>,
}

/// Counts a stream for as long as it lives.
#[derive(Debug)]
pub struct OpenStream(Arc<AtomicU64>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Direct {
    /// The upstream of that name.
    pub fn new(settings: &config::Upstream) -> Self {
        Self {
            name: settings.name.clone(),
            connect_timeout: settings.connect_timeout,
            opened: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            open: Arc::default(),
        }
    }

    pub(super) async fn open(&self, ask: &Ask) -> Result<Stream, Failure> {
        let node = &ask.node;
        let deadline = ask.deadline.min(Instant::now() + self.connect_timeout);
        let dialled = timeout_at(deadline, TcpStream::connect((node.host.as_str(), node.port))).await;
        let failure = match dialled {
            Ok(Ok(stream)) => {
                prepare(&stream);
                self.opened.fetch_add(1, Relaxed);
                self.open.fetch_add(1, Relaxed);
                return Ok(Stream::Tcp(stream, OpenStream(self.open.clone())));
            }
            Ok(Err(error)) => unreachable(&node.to_string(), &error),
            Err(_) => Failure::new(
                FailureKind::Timeout,
                format!("{node} did not answer in time (dialled directly)"),
            ),
        };
        self.failed.fetch_add(1, Relaxed);
        Err(failure)
    }

    pub(super) fn report(&self) -> status::Upstream {
        let mut entry = super::blank(&self.name, "direct", "");
        entry.streams = self.open.load(Relaxed);
        entry.streams_total = self.opened.load(Relaxed);
        entry.dials_ok = self.opened.load(Relaxed);
        entry.dials_failed = self.failed.load(Relaxed);
        entry
    }
}

/// Small packets leave at once, and a peer that vanished is noticed in the end.
pub(super) fn prepare(stream: &TcpStream) {
    // Neither is worth failing a connection for.
    drop(stream.set_nodelay(true));
    let _ = rustix::net::sockopt::set_socket_keepalive(stream, true);
}

/// A dial that failed, in words.
pub(super) fn unreachable(peer: &str, error: &io::Error) -> Failure {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut => "the connection timed out".to_owned(),
        // The resolver's errors have no kind of their own.
        _ if error.raw_os_error().is_none() => format!("its name cannot be resolved ({error})"),
        _ => error.to_string(),
    };
    Failure::new(FailureKind::Unreachable, format!("{peer} cannot be reached: {text}"))
}
