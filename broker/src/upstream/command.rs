//! The upstream that is a ProxyCommand: one process a stream, its stdin and stdout the bytes.
//!
//! A ProxyCommand has no word for "connected". An SSH server speaks first, so the
//! first byte of its stdout is that word; a command that ends before it has failed,
//! and one that says nothing has timed out, with what it wrote to stderr as the reason.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod group;
mod heard;
mod process;

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
    name: String,
    command: ProxyCommand,
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
        Self {
            name: settings.name.clone(),
            command,
            connect_timeout: settings.connect_timeout,
            processes,
            starting: Semaphore::new(settings.handshakes),
            limit: settings.handshakes,
            open: Arc::default(),
            opened: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cut: Arc::default(),
            last_error: Mutex::default(),
            gates: Gates::new(admission, &settings.name, settings.handshakes),
        }
    }

    pub(super) async fn open(&self, ask: &Ask) -> Result<Stream, Failure> {
        match self.start(ask).await {
            Ok((mut process, handshake)) => {
                self.opened.fetch_add(1, Relaxed);
                handshake.spoke();
                process.count(OpenStream::counted(&self.open, handshake), self.cut.clone());
                Ok(Stream::Command(process))
            }
            Err(failure) => {
                self.failed.fetch_add(1, Relaxed);
                let kept = record(Some(&ask.node), Some(&self.name), &failure, unix_now());
                *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
                Err(failure)
            }
        }
    }

    /// A process whose server has spoken, before the deadline, and its place in front of that server.
    async fn start(&self, ask: &Ask) -> Result<(Process, Place), Failure> {
        let values = Values {
            host: &ask.node.host,
            name: &ask.name,
            port: ask.node.port,
            login: ask.node_login.as_deref(),
        };
        let line = self.command.expand(&values).map_err(|unfit| self.unfit(&unfit))?;
        let handshake = self.gates.behind(None, &ask.node).enter(ask.deadline).await?;
        let _place = self.place(&ask.node, ask.deadline).await?;
        let deadline = ask.deadline.min(Instant::now() + self.connect_timeout);
        let upstreams = ask.within.iter().cloned().chain([self.name.clone()]).collect();
        let mut process =
            Process::start(&line, ask.agent.as_deref(), &self.processes, upstreams).map_err(|error| {
                Failure::new(FailureKind::Config, format!("{self} cannot be started: {error}"))
                    .hint("echo $SHELL")
            })?;
        let node = &ask.node;
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

    fn unfit(&self, unfit: &Unfit) -> Failure {
        let failure = Failure::new(FailureKind::BadRequest, format!("{self}: {unfit}"));
        match unfit {
            Unfit::NoLogin => failure.hint("ProxyCommand natssh proxy %h %p --login %r"),
            Unfit::NotPlain { .. } => {
                failure.hint("map the name to another with map = { … } in its [[route]]")
            }
        }
    }

    pub(super) fn report(&self) -> status::Upstream {
        let mut entry = super::blank(&self.name, "command", &self.command.to_string());
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
impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the command of upstream {}", self.name)
    }
}

fn with_reason(message: String, said: &str) -> String {
    if said.is_empty() { message } else { format!("{message}: {said}") }
}
