//! The upstream that is a ProxyCommand: one process a stream, its stdin and stdout the bytes.
//!
//! A ProxyCommand has no word for "connected". An SSH server speaks first, so the
//! first byte of its stdout is that word; a command that ends before it has failed,
//! and one that says nothing has timed out, with what it wrote to stderr as the reason.

mod around;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod group;
mod heard;
mod process;

pub use around::Around;
pub use group::Processes;
pub use process::{Pipes, Process};

use super::direct::OpenStream;
use super::{Ask, Stream};
use crate::admission::{Admission, Gates, Place};
use crate::config;
use crate::failures::{record, unix_now};
use crate::proxy_command::{ProxyCommand, Unfit, Values};
use natssh_wire::status::{self, FailureRecord};
use natssh_wire::{Failure, FailureKind, NodeAddr};
use process::First;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Of the caller's time, one part in so many is left for the command itself.
const LEFT_FOR_THE_COMMAND: u32 = 5;

/// A ProxyCommand.
pub struct Command {
    command: ProxyCommand,
    lines: Lines,
}

/// Commands that are streams, ready for the shell: those of one upstream, or of the users' own ssh_config.
pub struct Lines {
    name: String,
    connect_timeout: Duration,
    processes: Arc<Processes>,
    /// Places for commands that are on their way. Each shakes hands with a server that is not seen from here, such as a
    /// bastion, and that may be the same for all nodes.
    starting: Semaphore,
    limit: usize,
    open: Arc<AtomicU64>,
    opened: AtomicU64,
    failed: AtomicU64,
    cut: Arc<AtomicU64>,
    last_error: Mutex<Option<FailureRecord>>,
    gates: Gates,
}

impl Command {
    /// The upstream of that name; its processes are kept among `processes`.
    pub fn new(
        settings: &config::Upstream,
        command: ProxyCommand,
        processes: Arc<Processes>,
        admission: &Arc<Admission>,
    ) -> Self {
        let lines =
            Lines::new(&settings.name, settings.connect_timeout, settings.handshakes, processes, admission);
        Self { command, lines }
    }

    pub(super) async fn open(&self, ask: &Ask) -> Result<Stream, Failure> {
        let values = Values {
            host: &ask.node.host,
            name: &ask.name,
            port: ask.node.port,
            login: ask.node_login.as_deref(),
        };
        let line = self.command.expand(&values).map_err(|unfit| self.unfit(&unfit));
        let around = Around::Broker(ask.agent.clone());
        match line {
            Ok(line) => self.lines.open(&line, &around, &ask.node, &ask.within, ask.deadline).await,
            Err(unfit) => Err(self.lines.note(&ask.node, unfit)),
        }
    }

    fn unfit(&self, unfit: &Unfit) -> Failure {
        let failure = Failure::new(FailureKind::BadRequest, format!("{}: {unfit}", self.lines));
        match unfit {
            Unfit::NoLogin => failure.hint("ProxyCommand natssh proxy %h %p --login %r"),
            Unfit::NotPlain { .. } => {
                failure.hint("map the name to another with map = { … } in its [[route]]")
            }
        }
    }

    pub(super) fn report(&self) -> status::Upstream {
        self.lines.report(&self.command.to_string())
    }
}

impl Lines {
    /// Those of the upstream of that name; `limit` may be starting at a time.
    #[must_use]
    pub fn new(
        name: &str,
        connect_timeout: Duration,
        limit: usize,
        processes: Arc<Processes>,
        admission: &Arc<Admission>,
    ) -> Self {
        Self {
            name: name.into(),
            connect_timeout,
            processes,
            starting: Semaphore::new(limit),
            limit,
            open: Arc::default(),
            opened: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cut: Arc::default(),
            last_error: Mutex::default(),
            gates: Gates::new(admission, name, limit),
        }
    }

    /// Runs a command until its server speaks. `within` are the upstreams whose commands ask for it.
    ///
    /// # Errors
    /// One sentence and what to type, before `deadline`.
    pub async fn open(
        &self,
        line: &str,
        around: &Around,
        node: &NodeAddr,
        within: &[String],
        deadline: Instant,
    ) -> Result<Stream, Failure> {
        match self.start(line, around, node, within, deadline).await {
            Ok((mut process, handshake)) => {
                self.opened.fetch_add(1, Relaxed);
                handshake.spoke();
                process.count(OpenStream::counted(&self.open, handshake), self.cut.clone());
                Ok(Stream::Command(process))
            }
            Err(failure) => Err(self.note(node, failure)),
        }
    }

    /// Counts and keeps a failure.
    fn note(&self, node: &NodeAddr, failure: Failure) -> Failure {
        self.failed.fetch_add(1, Relaxed);
        let kept = record(Some(node), Some(&self.name), &failure, unix_now());
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        failure
    }

    /// A process whose server has spoken, before the deadline, and its place in front of that server.
    async fn start(
        &self,
        line: &str,
        around: &Around,
        node: &NodeAddr,
        within: &[String],
        deadline: Instant,
    ) -> Result<(Process, Place), Failure> {
        let handshake = self.gates.behind(None, node).enter(deadline).await?;
        let _place = self.place(node, deadline).await?;
        let deadline = deadline.min(Instant::now() + self.connect_timeout);
        let upstreams = within.iter().cloned().chain([self.name.clone()]).collect();
        let mut process = Process::start(line, around, &self.processes, upstreams).map_err(|error| {
            Failure::new(FailureKind::Config, format!("{self} cannot be started: {error}"))
                .hint("echo $SHELL")
        })?;
        let (kind, message) = match timeout_at(deadline, process.first_word()).await {
            Ok(First::Byte) => return Ok((process, handshake)),
            Ok(First::End(ended)) => {
                let message = format!("{self} {ended} before {node} answered");
                (FailureKind::Unreachable, with_reason(message, &process.last_words().await))
            }
            Err(_) => {
                let message = format!("{self} ran, and nothing came from {node} in time");
                (FailureKind::Timeout, with_reason(message, &process.last_words_so_far()))
            }
        };
        Err(Failure::new(kind, message).hint(line))
    }

    /// A place among those that are starting.
    async fn place(&self, node: &NodeAddr, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
        let patience = deadline.saturating_duration_since(Instant::now());
        match timeout_at(deadline - patience / LEFT_FOR_THE_COMMAND, self.starting.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            // Nobody closes it.
            Ok(Err(_)) | Err(_) => {
                let text =
                    format!("{self} is busy: {} were starting all the time that {node} waited", self.limit);
                Err(Failure::new(FailureKind::Busy, text).hint("natssh status"))
            }
        }
    }

    /// An entry in `status`.
    #[must_use]
    pub fn report(&self, address: &str) -> status::Upstream {
        let mut entry = super::blank(&self.name, "command", address);
        (entry.handshakes, entry.told_busy) = self.gates.report();
        entry.streams = self.open.load(Relaxed);
        entry.streams_total = self.opened.load(Relaxed);
        entry.streams_cut = self.cut.load(Relaxed);
        entry.dials_ok = self.opened.load(Relaxed);
        entry.dials_failed = self.failed.load(Relaxed);
        entry.last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        entry
    }
}

/// For sentences: `the command of upstream ssm`.
impl std::fmt::Display for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the command of upstream {}", self.name)
    }
}

fn with_reason(message: String, said: &str) -> String {
    if said.is_empty() { message } else { format!("{message}: {said}") }
}
