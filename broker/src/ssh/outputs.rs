//! What a command on a session printed and nobody has read yet, and how it ended.
//!
//! Both outputs are one queue, in the order in which they came. Its reader is a client of the broker, who may stop
//! for as long as it likes; the neighbours on the session must not notice. So the first mebibyte waits in memory;
//! past it the session is told to take nothing new, and what follows waits in a file ([`spill`]). Only when no other
//! command runs on the session, or the file is full, is the connection itself held back, in slices of a second:
//! between two of them it keeps itself alive and exchanges keys.

mod queue;
mod spill;
#[cfg(test)]
mod tests;
mod unread;

pub use unread::{DISK_LIMIT, MEMORY_LIMIT, Stores, Unread};

use super::inbox::{End, Kept};
use bytes::Bytes;
use natssh_wire::frame::Output;
use queue::{Front, Put, Queue};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// For how long the connection may be held for one packet.
const SLICE: Duration = Duration::from_secs(1);

/// How a command ended, as the server told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exit {
    Status(u32),
    Signal(String),
}

/// What happens on a session channel, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server runs the command.
    Started,
    /// The server does not: nothing ran.
    Refused,
    /// The server gives no terminal; what was asked to be run behind it is run all the same.
    NoTerminal,
    /// The command printed something.
    Output(Output, Bytes),
    /// The server sends no more, and takes what it is sent: only of a port it connected to.
    OutputEnd,
    /// The channel closed, and the command had exited with this status. Nothing follows.
    Exit(u32),
    /// The channel closed, and the command had died by this signal (`TERM`). Nothing follows.
    Killed(String),
    /// The channel closed without a word on how the command ended. Nothing follows.
    Closed,
    /// The channel ended before its time, for this reason: the command may run on. Nothing follows.
    Cut(Arc<str>),
}

/// One command's outputs. Filled by the connection's callbacks, emptied by one reader.
#[derive(Debug)]
pub(super) struct Outputs {
    state: Mutex<State>,
    unread: Arc<Unread>,
    /// Wakes the reader.
    changed: Notify,
    /// Wakes the connection that is held.
    room: Arc<Notify>,
    /// Wakes whoever waits for the end.
    over: Notify,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// A terminal was asked for, and the answer is to come, before every other.
    awaits_terminal: bool,
    /// It was refused, until that is told.
    no_terminal: bool,
    /// The answer to the request to run something, until it is told.
    reply: Option<bool>,
    exit: Option<Exit>,
    /// The server sends no more, until it is told.
    eof: bool,
    /// It carries a port's bytes, to which the end of one direction means something.
    is_port: bool,
    end: Option<End>,
    running: bool,
    behind: bool,
}

impl Outputs {
    pub(super) fn new(unread: Arc<Unread>) -> Self {
        let room = Arc::<Notify>::default();
        let queue = Queue::new(unread.stores.clone(), room.clone());
        let state = State {
            queue,
            awaits_terminal: false,
            no_terminal: false,
            reply: None,
            exit: None,
            eof: false,
            is_port: false,
            end: None,
            running: false,
            behind: false,
        };
        let (changed, over) = Default::default();
        Self { state: Mutex::new(state), unread, changed, room, over }
    }

    /// A terminal is about to be asked for.
    pub(super) fn asking_terminal(&self) {
        self.lock().awaits_terminal = true;
    }

    /// A command is about to be started on the channel.
    pub(super) fn starting(&self) {
        let mut state = self.lock();
        if !state.running && state.end.is_none() {
            state.running = true;
            self.unread.running.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The channel is a port's: nothing is started on it, and its bytes may be there already.
    pub(super) fn of_a_port(&self) {
        self.lock().is_port = true;
        self.starting();
    }

    /// Takes bytes that arrived. Waits, for a second at most, only where there is no place for them.
    pub(super) async fn take(&self, output: Output, data: &[u8]) -> Kept {
        if data.is_empty() {
            return Kept::Yes;
        }
        self.unread.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        let until = Instant::now() + SLICE;
        loop {
            let room = self.room.notified();
            let company = self.unread.company();
            match self.settle(|queue| queue.put(output, data, company)) {
                Put::InMemory | Put::InFile => return Kept::Yes,
                Put::Failed(_) => return Kept::Overflowed,
                Put::Full if timeout_at(until, room).await.is_err() => break,
                Put::Full => {}
            }
        }
        match self.settle(|queue| queue.put_anyway(output, data)) {
            Put::Failed(_) => Kept::Overflowed,
            _ => Kept::Late,
        }
    }

    /// Puts bytes into the queue, and draws the consequences.
    fn settle(&self, put: impl FnOnce(&mut Queue) -> Put) -> Put {
        let mut state = self.lock();
        if state.end.is_some() {
            return Put::InMemory;
        }
        let put = put(&mut state.queue);
        if put != Put::InMemory && !std::mem::replace(&mut state.behind, true) {
            self.unread.change(|behind| *behind += 1);
        }
        if let Put::Failed(reason) = &put {
            state.queue.clear();
            self.finish(&mut state, End::Cut(reason.as_str().into()));
        }
        drop(state);
        self.changed.notify_one();
        put
    }

    /// Bytes go the other way.
    pub(super) fn sent(&self, bytes: usize) {
        self.unread.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The server answered a request: in their order (RFC 4254, 4), and the one for a terminal is the first.
    pub(super) fn reply(&self, accepted: bool) {
        let mut state = self.lock();
        if std::mem::take(&mut state.awaits_terminal) {
            state.no_terminal = !accepted;
        } else {
            state.reply = Some(accepted);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The server sends no more. Of a command that says nothing: it is over when its channel closes, as with ssh.
    pub(super) fn eof(&self) {
        self.lock().eof = true;
        self.changed.notify_one();
    }

    /// The server told how the command ended. Its output may still come.
    pub(super) fn exited(&self, exit: Exit) {
        self.lock().exit.get_or_insert(exit);
    }

    /// Nothing more will come. The first reason stays.
    pub(super) fn end(&self, end: End) {
        self.finish(&mut self.lock(), end);
    }

    /// Nobody will read any more.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.queue.clear();
        self.finish(&mut state, End::Cut("nobody reads it any more".into()));
    }

    fn finish(&self, state: &mut State, end: End) {
        state.end.get_or_insert(end);
        if std::mem::take(&mut state.running) {
            self.unread.running.fetch_sub(1, Ordering::Relaxed);
        }
        self.catch_up(state);
        self.changed.notify_one();
        self.room.notify_waiters();
        self.over.notify_waiters();
    }

    /// More cannot come, or the reader has caught up.
    fn catch_up(&self, state: &mut State) {
        if std::mem::take(&mut state.behind) {
            self.unread.change(|behind| *behind -= 1);
        }
    }

    /// What happens next. One reader only; it may stop waiting at any time, and nothing is lost.
    pub(super) async fn next(&self) -> Event {
        loop {
            let front = {
                let mut state = self.lock();
                if std::mem::take(&mut state.no_terminal) {
                    return Event::NoTerminal;
                }
                match state.reply.take() {
                    Some(true) => return Event::Started,
                    Some(false) => return Event::Refused,
                    None => {}
                }
                let front = state.queue.front();
                if front.is_none() && state.is_port && std::mem::take(&mut state.eof) {
                    return Event::OutputEnd;
                }
                if front.is_none()
                    && let Some(end) = &state.end
                {
                    return match (end, &state.exit) {
                        (End::Cut(reason), _) => Event::Cut(reason.clone()),
                        (End::Closed, Some(Exit::Status(status))) => Event::Exit(*status),
                        (End::Closed, Some(Exit::Signal(signal))) => Event::Killed(signal.clone()),
                        (End::Closed, None) => Event::Closed,
                    };
                }
                if matches!(front, Some(Front::Memory(..))) {
                    self.taken(&mut state);
                }
                front
            };
            match front {
                Some(Front::Memory(output, bytes)) => return Event::Output(output, bytes),
                Some(Front::Disk(output, extent)) => {
                    let read = extent.read().await;
                    let mut state = self.lock();
                    match read {
                        Ok(bytes) => {
                            state.queue.taken_from_disk(bytes.len());
                            self.taken(&mut state);
                            return Event::Output(output, bytes);
                        }
                        Err(reason) => {
                            state.queue.clear();
                            // Whatever came before: the output is not whole.
                            state.end = Some(End::Cut(reason.into()));
                            self.finish(&mut state, End::Closed);
                        }
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// The reader took something.
    fn taken(&self, state: &mut State) {
        if state.queue.is_short() {
            self.catch_up(state);
        }
        self.room.notify_waiters();
    }

    /// Why nothing more comes, once that is so.
    pub(super) fn ended(&self) -> Option<End> {
        self.lock().end.clone()
    }

    /// Waits until nothing more comes, whatever is unread.
    pub(super) async fn closed(&self) -> End {
        loop {
            let over = self.over.notified();
            if let Some(end) = self.ended() {
                return end;
            }
            over.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while this is held leaves plain bytes behind: nothing to distrust.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
