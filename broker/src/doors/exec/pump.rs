//! Frames between a client and its command, until one of them is over.
//!
//! The two directions do not wait for each other. A node that takes no more
//! input is felt by the client in its own socket, which is not read meanwhile;
//! a client that reads no output leaves it with the session.

use super::stdin::Stdin;
use super::unheard::{Act, Unheard};
use crate::doors::batch::Batch;
use crate::doors::frames::{Frame, Frames, Left};
use crate::session::{Event, Gone, Remote};
use crate::splice::hung_up;
use crate::target::Need;
use bytes::Bytes;
use natssh_wire::frame::{BadFrame, FromBroker, Output};
use natssh_wire::terminal::Size;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::Instant;

/// A command that was handed to a node, or whatever else takes its place on a session: a port, or nothing at all, which
/// know neither signals nor terminals. [`Running`](crate::session::Running) is one; tests bring others.
pub(super) trait Command: Remote {
    /// Sends a signal by its name without `SIG`.
    fn signal(&self, _name: &str) -> impl Future<Output = Result<(), Gone>> + Send {
        async { Ok(()) }
    }
    /// The caller's terminal has this size now.
    fn resize(&self, _size: Size) -> impl Future<Output = Result<(), Gone>> + Send {
        async { Ok(()) }
    }
    /// Exchanges the keys of its session anew.
    fn rekey(&self) -> impl Future<Output = Result<(), Gone>> + Send {
        async { Ok(()) }
    }
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The command did, and the client has been told how.
    Told,
    /// The client is gone, or takes no more.
    ClientGone,
    /// The client sent what is no frame.
    BadFrame(BadFrame),
    /// The node runs nothing: the command did not start.
    Refused,
    /// The node gives no terminal, and the command is nothing without one; it may run.
    NoTerminal,
    /// The channel closed without a word on how the command ended.
    Closed,
    /// The session ended under the command; why.
    Cut(String),
}

/// A client, and what it has said so far.
pub(super) struct Client {
    frames: Frames,
    write: OwnedWriteHalf,
    stdin: Stdin,
    told: Told,
}

/// What one direction tells the other.
#[derive(Debug, Default)]
struct Told {
    no_stdout: AtomicBool,
    no_stderr: AtomicBool,
    started: AtomicBool,
}

impl Told {
    fn is_closed(&self, output: Output) -> &AtomicBool {
        match output {
            Output::Stdout => &self.no_stdout,
            Output::Stderr => &self.no_stderr,
        }
    }
}

impl Client {
    /// `early` was read together with the request.
    pub(super) fn new(socket: UnixStream, early: Bytes) -> Self {
        let (read, write) = socket.into_split();
        let (frames, stdin, told) = (Frames::new(read, early), Stdin::default(), Told::default());
        Self { frames, write, stdin, told }
    }

    /// Carries frames; `terminal` says what happens where one is refused. Input that a refused command was sent is sent again to the next one.
    pub(super) async fn carry(&mut self, command: &impl Command, terminal: Need) -> Over {
        let Self { frames, write, stdin, told } = self;
        tokio::select! {
            biased;
            over = outputs(write, command, terminal, told) => over,
            left = inputs(frames, stdin, command, told) => match left {
                Left::Gone => Over::ClientGone,
                Left::Bad(bad) => Over::BadFrame(bad),
            },
        }
    }

    /// Nothing of the client's input is wanted: what comes of it is dropped.
    pub(super) fn end_input(&mut self) {
        self.stdin.end();
    }

    /// Waits until the client is gone.
    pub(super) async fn left(&self) {
        hung_up(self.frames.socket()).await;
    }

    /// Whether all input so far could be sent to another command.
    pub(super) fn could_start_again(&self) -> bool {
        self.stdin.is_whole()
    }

    /// Whether the client is gone already, as far as that can be seen.
    pub(super) fn has_left(&self) -> bool {
        crate::splice::has_hung_up(self.frames.socket())
    }

    /// Sends frames; false if the client takes them no more.
    pub(super) async fn tell(&mut self, frames: &[FromBroker<'_>]) -> bool {
        let mut batch = Batch::default();
        frames.iter().for_each(|frame| batch.frame(frame));
        self.write.write_all_buf(&mut batch).await.is_ok()
    }
}

/// Frames of the client's to the command. Ends with the client.
async fn inputs(frames: &mut Frames, stdin: &mut Stdin, command: &impl Command, told: &Told) -> Left {
    for bytes in stdin.held() {
        if let Err(left) = send(bytes, frames, command).await {
            return left;
        }
    }
    if stdin.has_ended() {
        drop(command.finish_writing().await);
    }
    loop {
        let frame = match frames.next().await {
            Ok(frame) => frame,
            Err(left) => return left,
        };
        match frame {
            // Nothing may follow an end.
            Frame::Stdin(_) | Frame::StdinEnd if stdin.has_ended() => {}
            Frame::Stdin(bytes) => {
                stdin.hold(&bytes, told.started.load(Relaxed));
                if let Err(left) = send(bytes, frames, command).await {
                    return left;
                }
            }
            Frame::StdinEnd => {
                stdin.end();
                drop(command.finish_writing().await);
            }
            Frame::Closed(output) => told.is_closed(output).store(true, Relaxed),
            // A server that knows no signals says nothing, and so does natssh.
            Frame::Signal(name) => drop(command.signal(&name).await),
            Frame::Window(size) => drop(command.resize(size).await),
            Frame::Rekey => drop(command.rekey().await),
        }
    }
}

/// Sends input, for as long as the client is there. Input of a command that has ended is dropped: of that end the
/// other direction hears.
async fn send(bytes: Bytes, frames: &Frames, command: &impl Command) -> Result<(), Left> {
    tokio::select! {
        _ = command.write(bytes) => Ok(()),
        () = hung_up(frames.socket()) => Err(Left::Gone),
    }
}

/// What the command prints, to the client; in the end, how the command ended.
async fn outputs(write: &mut OwnedWriteHalf, command: &impl Command, terminal: Need, told: &Told) -> Over {
    let mut unheard = None;
    loop {
        let mut batch = Batch::default();
        let mut event = Some(command.next().await);
        let mut over = None;
        while let Some(now) = event {
            match now {
                Event::Output(output, bytes) if told.is_closed(output).load(Relaxed) => {
                    if output == Output::Stdout && dropped(&mut unheard, bytes.len(), command).await {
                        batch.frame(&FromBroker::Killed("PIPE"));
                        over = Some(Over::Told);
                    }
                }
                Event::Output(output, bytes) => batch.output(output, bytes),
                Event::OutputEnd => batch.frame(&FromBroker::StdoutEnd),
                Event::Started => told.started.store(true, Relaxed),
                Event::Exit(status) => {
                    batch.frame(&FromBroker::Exit(status));
                    over = Some(Over::Told);
                }
                Event::Killed(signal) => {
                    batch.frame(&FromBroker::Killed(&signal));
                    over = Some(Over::Told);
                }
                Event::Refused => over = Some(Over::Refused),
                Event::NoTerminal if terminal == Need::Must => over = Some(Over::NoTerminal),
                Event::NoTerminal => batch.frame(&FromBroker::NoTerminal),
                Event::Closed => over = Some(Over::Closed),
                Event::Cut(reason) => over = Some(Over::Cut(reason.to_string())),
            }
            if over.is_some() || batch.is_full() {
                break;
            }
            event = ready(command.next()).await;
        }
        if write.write_all_buf(&mut batch).await.is_err() {
            return Over::ClientGone;
        }
        if let Some(over) = over {
            return over;
        }
    }
}

/// Bytes that nobody reads were dropped; true when the command has to be left for it.
async fn dropped(unheard: &mut Option<Unheard>, bytes: usize, command: &impl Command) -> bool {
    let now = Instant::now();
    match unheard.get_or_insert_with(|| Unheard::from(now)).dropped(bytes, now) {
        Act::Wait => false,
        Act::Signal => {
            drop(command.signal("PIPE").await);
            false
        }
        Act::Close => true,
    }
}

/// What a future has to say at once, if anything.
async fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
