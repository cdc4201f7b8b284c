//! A file to a node that has no SFTP, or from it: the bytes of the commands in [`super::shell`].
//!
//! A put is two commands: the end of standard input looks the same to the first one whether all has come or the
//! connection broke, and only the broker knows. It renames once it has seen the first one end well.

use super::put::refused;
use super::{Remote, STALLED, Sink, Source, Stopped};
use crate::session::Event;
use crate::text::one_line;
use bytes::Bytes;
use natssh_wire::frame::Output;
use tokio::time::timeout;

/// Of input at a time: so that a slow path is not taken for one that stands still.
const WRITE: usize = 32 << 10;
/// What is kept of a command's standard error.
const COMPLAINT: usize = 1 << 10;

/// Feeds the command that writes `path`, and waits for it to end well.
///
/// # Errors
/// See [`Stopped`]; never `NoSftp`.
pub async fn feed(remote: &impl Remote, path: &[u8], source: &mut impl Source) -> Result<(), Stopped> {
    let mut heard = Heard::of("write", path);
    // Before it runs, OpenSSH opens no window: a write would wait, also for a command that is refused.
    while !heard.started {
        heard.happens(remote).await?;
    }
    loop {
        let next = tokio::select! {
            biased;
            event = remote.next() => {
                match heard.event(event)? {
                    // It ended well, and has not had all.
                    Some(Happened::Ended) => return Err(refused("write", path, "the command ended early")),
                    Some(Happened::Said(_)) | None => continue,
                }
            }
            next = source.next() => next.map_err(Stopped::Client)?,
        };
        let Some(mut bytes) = next else { break };
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(WRITE));
            // Why it takes no more is said by what happens next.
            drop(timeout(STALLED, remote.write(part)).await.map_err(|_| Stopped::Stalled)?);
        }
    }
    drop(remote.finish_writing().await);
    heard.end(remote).await
}

/// Passes on what the command prints that reads `path`, to its end.
///
/// # Errors
/// See [`Stopped`]; never `NoSftp`.
pub async fn hear(remote: &impl Remote, path: &[u8], sink: &mut impl Sink) -> Result<(), Stopped> {
    let mut heard = Heard::of("read", path);
    drop(remote.finish_writing().await);
    loop {
        match heard.next(remote).await? {
            Happened::Said(bytes) => sink.write(bytes).await.map_err(Stopped::Client)?,
            Happened::Ended => return Ok(()),
        }
    }
}

/// Waits for a command about `path` to end well that reads nothing and says nothing.
///
/// # Errors
/// See [`Stopped`]; never `NoSftp` and never `Client`.
pub async fn end(remote: &impl Remote, path: &[u8]) -> Result<(), Stopped> {
    drop(remote.finish_writing().await);
    Heard::of("write", path).end(remote).await
}

/// What a command has complained of so far.
struct Heard<'p> {
    verb: &'static str,
    path: &'p [u8],
    started: bool,
    complaint: Vec<u8>,
}

enum Happened {
    Said(Bytes),
    Ended,
}

impl<'p> Heard<'p> {
    fn of(verb: &'static str, path: &'p [u8]) -> Self {
        Self { verb, path, started: false, complaint: Vec::new() }
    }

    async fn end(&mut self, remote: &impl Remote) -> Result<(), Stopped> {
        while let Happened::Said(_) = self.next(remote).await? {}
        Ok(())
    }

    async fn next(&mut self, remote: &impl Remote) -> Result<Happened, Stopped> {
        loop {
            if let Some(happened) = self.happens(remote).await? {
                return Ok(happened);
            }
        }
    }

    async fn happens(&mut self, remote: &impl Remote) -> Result<Option<Happened>, Stopped> {
        let event = timeout(STALLED, remote.next()).await.map_err(|_| Stopped::Stalled)?;
        self.event(event)
    }

    fn event(&mut self, event: Event) -> Result<Option<Happened>, Stopped> {
        match event {
            Event::Started => {
                self.started = true;
                Ok(None)
            }
            // Neither is asked for.
            Event::NoTerminal | Event::OutputEnd => Ok(None),
            Event::Output(Output::Stdout, bytes) => Ok(Some(Happened::Said(bytes))),
            Event::Output(Output::Stderr, bytes) => {
                let room = COMPLAINT.saturating_sub(self.complaint.len());
                self.complaint.extend_from_slice(&bytes[..bytes.len().min(room)]);
                Ok(None)
            }
            Event::Exit(0) => Ok(Some(Happened::Ended)),
            Event::Exit(status) => Err(refused(self.verb, self.path, &self.words(status))),
            Event::Refused => Err(refused(self.verb, self.path, "the node runs no command and has no SFTP")),
            Event::Killed(signal) => Err(Stopped::Cut(format!("the command was ended by SIG{signal}"))),
            Event::Closed => Err(Stopped::Cut("it closed the channel".into())),
            Event::Cut(reason) => Err(Stopped::Cut(reason.to_string())),
        }
    }

    fn words(&self, status: u32) -> String {
        match one_line(String::from_utf8_lossy(&self.complaint).trim()) {
            none if none.is_empty() => format!("the command ended with status {status}"),
            words => words,
        }
    }
}
