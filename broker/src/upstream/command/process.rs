//! A ProxyCommand at work: how it is started, what comes out of it, how it ended.
//!
//! A task keeps it: reads its stderr, collects it when it ends, and ends what is
//! left of its process group when its stream is done.

use super::around::Around;
use super::group::{self, Processes};
use super::heard::{Heard, listen};
use crate::upstream::direct::OpenStream;
use bytes::{Bytes, BytesMut};
use rustix::process::Pid;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// How long a process that has closed its stdout may take to say how it ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The most that is read before the stream is open: a banner, and perhaps the key exchange that follows it.
const FIRST: usize = 4 << 10;

/// A running command and the pipes to it. Dropping it ends its process group.
pub struct Process {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    first: BytesMut,
    heard: watch::Receiver<Heard>,
    status: watch::Receiver<Option<ExitStatus>>,
    counted: Option<OpenStream>,
    cut: Arc<AtomicU64>,
    _let_go: oneshot::Sender<()>,
}

/// What came first out of a command.
#[derive(Debug)]
pub(super) enum First {
    /// A byte: its server is there.
    Byte,
    /// Its end.
    End(Ended),
}

/// How a command ended; none where it only closed its stdout.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended(Option<ExitStatus>);

/// What a splice takes from a process.
pub struct Pipes {
    /// Bytes that came before the stream was open.
    pub first: Bytes,
    /// To the node; dropping it is its end of file.
    pub stdin: ChildStdin,
    /// From the node.
    pub stdout: ChildStdout,
}

impl Process {
    /// Runs `line` as ssh runs a ProxyCommand: `$SHELL -c "exec LINE"`. `upstreams` are those that it works for.
    pub(super) fn start(
        line: &str,
        around: &Around,
        among: &Arc<Processes>,
        upstreams: Vec<String>,
    ) -> io::Result<Self> {
        let mut child = Command::new(around.shell())
            .args(["-c", &format!("exec {line}")])
            .env_clear()
            .envs(around.environment())
            .current_dir(around.directory())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take(), group);
        let (Some(stdin), Some(stdout), Some(stderr), Some(group)) = pipes else {
            return Err(io::Error::other("a process without pipes"));
        };
        let (hears, heard) = watch::channel(Heard::default());
        let (says, status) = watch::channel(None);
        let (let_go, done) = oneshot::channel();
        let place = among.enter(group, upstreams);
        tokio::spawn(async move {
            tokio::select! {
                () = keep(child, group, says, done) => {}
                // It may end long before the process does.
                () = async { listen(stderr, hears).await; std::future::pending().await } => {}
            }
            drop(place);
        });
        Ok(Self {
            stdin: Some(stdin),
            stdout: Some(stdout),
            first: BytesMut::new(),
            heard,
            status,
            counted: None,
            cut: Arc::default(),
            _let_go: let_go,
        })
    }

    /// Waits for the first byte from its server, or for its end.
    pub(super) async fn first_word(&mut self) -> First {
        self.first.reserve(FIRST);
        if let Some(stdout) = &mut self.stdout
            && let Ok(1..) = stdout.read_buf(&mut self.first).await
        {
            return First::Byte;
        }
        First::End(self.ended().await)
    }

    /// From here on it is an open stream, counted in `open`, and in `cut` if it ends badly.
    pub(super) fn count(&mut self, open: OpenStream, cut: Arc<AtomicU64>) {
        (self.counted, self.cut) = (Some(open), cut);
    }

    /// The pipes, once.
    pub fn pipes(&mut self) -> Option<Pipes> {
        let first = self.first.split().freeze();
        Some(Pipes { first, stdin: self.stdin.take()?, stdout: self.stdout.take()? })
    }

    /// Waits for the end of the process itself; some close their stdout long before.
    pub async fn exited(&self) {
        // Its keeper is gone only after it.
        let _ = self.status.clone().wait_for(Option::is_some).await;
    }

    /// Why it left a client that was still there, if that was not in good order; counted as a cut.
    pub async fn cut(&self) -> Option<String> {
        let ended = self.ended().await;
        if ended.0.is_none_or(|status| status.success()) {
            return None;
        }
        self.cut.fetch_add(1, Relaxed);
        let said = self.last_words().await;
        Some(super::with_reason(format!("its command {ended}"), &said))
    }

    /// The last of its stderr, when all of it is there.
    pub(super) async fn last_words(&self) -> String {
        let _ = timeout(LAST_WORDS, self.heard.clone().wait_for(|heard| heard.ended)).await;
        self.last_words_so_far()
    }

    /// The last of its stderr until now.
    pub(super) fn last_words_so_far(&self) -> String {
        self.heard.borrow().last_words()
    }

    /// How it ended, after its stdout did.
    async fn ended(&self) -> Ended {
        let mut status = self.status.clone();
        let known = timeout(LAST_WORDS, status.wait_for(Option::is_some)).await;
        Ended(known.ok().and_then(|status| *status.ok()?))
    }
}

/// For sentences: `ended with exit status 1`.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map(|status| (status.code(), status.signal())) {
            Some((Some(code), _)) => write!(f, "ended with exit status {code}"),
            Some((None, Some(signal))) => write!(f, "was ended by signal {signal}"),
            _ => f.write_str("closed its output"),
        }
    }
}

/// Collects a process when it ends, and ends its group when `let_go` is dropped.
async fn keep(
    mut child: Child,
    group: Pid,
    says: watch::Sender<Option<ExitStatus>>,
    mut let_go: oneshot::Receiver<()>,
) {
    tokio::select! {
        status = child.wait() => {
            says.send_replace(status.ok());
            // What it started may still carry the stream.
            let _ = let_go.await;
        }
        _ = &mut let_go => {}
    }
    group::end(group, &mut child).await;
}

#[cfg(test)]
mod tests;
