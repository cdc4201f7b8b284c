//! What has arrived on a channel and has not been read yet.
//!
//! The SSH library offers no back-pressure by channel: it re-grants the window
//! on arrival, and whoever makes its callback wait stops the whole connection.
//! So the callback puts bytes here without ever waiting, and a reader that
//! stalls fills nothing but its own inbox. What is nested is SSH, bounded by
//! its own windows (2 MiB for each inner channel), so the limits below are met
//! only by a peer that ignores them; then *this* stream ends, with its reason.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Bytes one stream may leave unread.
pub(super) const STREAM_LIMIT: usize = 64 << 20;
/// Bytes all streams together may leave unread.
pub const TOTAL_LIMIT: usize = 256 << 20;
/// Small packets are gathered in chunks of this size, so that a flood of
/// one-byte packets costs what its bytes cost.
const CHUNK: usize = 4096;
/// The text a server sends before a refusal; the rest of a longer one is dropped.
const STDERR_LIMIT: usize = 16 << 10;

/// Memory shared by all inboxes of a broker.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// Bytes in all inboxes now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= self.limit {
            return true;
        }
        self.give(bytes);
        false
    }

    /// Books bytes for which there may be no room.
    pub(super) fn take_anyway(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// One channel's inbox. Filled by the connection's callbacks, emptied by one reader.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Wakes the reader.
    changed: Notify,
    /// Wakes whoever waits for the end: the writer, while the reader may wait too.
    over: Notify,
    budget: Arc<Budget>,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Chunk>,
    held: usize,
    stderr: Vec<u8>,
    reply: Option<bool>,
    eof: bool,
    end: Option<End>,
    last_byte: Option<Instant>,
}

/// Bytes, and what they cost: a chunk is booked whole when it is made.
#[derive(Debug)]
struct Chunk {
    bytes: BytesMut,
    booked: usize,
}

/// Why a channel gives no more bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The peer closed it in good order.
    Closed,
    /// It ended before its time; one lower-case sentence.
    Cut(Arc<str>),
}

/// What the callback has to do after handing bytes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Nothing.
    Yes,
    /// Tell the server that this side lives: the connection was held for a while.
    Late,
    /// Close the channel: its reader has been told why.
    Overflowed,
}

impl Inbox {
    /// An empty inbox that draws on `budget`.
    #[must_use]
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), over: Notify::new(), budget }
    }

    /// Takes bytes that arrived. Never waits.
    pub(super) fn push(&self, data: &[u8]) -> Kept {
        let mut state = self.lock();
        if state.end.is_some() || data.is_empty() {
            return Kept::Yes;
        }
        state.last_byte = Some(Instant::now());
        match state.chunks.back_mut() {
            Some(chunk) if chunk.booked - chunk.bytes.len() >= data.len() => {
                chunk.bytes.extend_from_slice(data);
            }
            _ => {
                let booked = data.len().max(CHUNK);
                if state.held + booked > STREAM_LIMIT {
                    self.overflow(&mut state, STREAM_LIMIT);
                    return Kept::Overflowed;
                }
                if !self.budget.take(booked) {
                    self.overflow(&mut state, self.budget.limit);
                    return Kept::Overflowed;
                }
                state.held += booked;
                let mut bytes = BytesMut::with_capacity(booked);
                bytes.extend_from_slice(data);
                state.chunks.push_back(Chunk { bytes, booked });
            }
        }
        drop(state);
        self.changed.notify_one();
        Kept::Yes
    }

    /// Takes text from the channel's standard error.
    pub(super) fn push_stderr(&self, data: &[u8]) {
        let mut state = self.lock();
        let room = STDERR_LIMIT - state.stderr.len().min(STDERR_LIMIT);
        state.stderr.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// The peer answered the channel request.
    pub(super) fn reply(&self, accepted: bool) {
        self.lock().reply = Some(accepted);
        self.changed.notify_one();
    }

    /// The peer will send no more bytes; it may still read.
    pub(super) fn eof(&self) {
        self.lock().eof = true;
        self.changed.notify_one();
    }

    /// Nothing more will happen on this channel. The first reason stays.
    pub(super) fn end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_one();
        self.over.notify_waiters();
    }

    /// Waits for the answer to the channel request; an error if the channel ended before it.
    ///
    /// # Errors
    /// Why the channel ended.
    pub(super) async fn answered(&self) -> Result<bool, End> {
        loop {
            {
                let state = self.lock();
                if let Some(reply) = state.reply {
                    return Ok(reply);
                }
                if let Some(end) = &state.end {
                    return Err(end.clone());
                }
            }
            self.changed.notified().await;
        }
    }

    /// The next bytes, in order; none once the peer has sent its last ones.
    /// Only one task may read.
    pub(super) async fn read(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.lock();
                if let Some(chunk) = state.chunks.pop_front() {
                    state.held -= chunk.booked;
                    self.budget.give(chunk.booked);
                    return Some(chunk.bytes.freeze());
                }
                if state.eof || state.end.is_some() {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Why the channel ended, once it has.
    pub(super) fn ended(&self) -> Option<End> {
        self.lock().end.clone()
    }

    /// Waits until nothing more will happen on this channel, whatever is unread.
    pub(super) async fn closed(&self) -> End {
        loop {
            let over = self.over.notified();
            if let Some(end) = self.ended() {
                return end;
            }
            over.await;
        }
    }

    /// Bytes went the other way.
    pub(super) fn sent(&self) {
        self.lock().last_byte = Some(Instant::now());
    }

    /// How long no byte went either way, if any ever did.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.lock().last_byte.map(|last| last.elapsed())
    }

    /// What the peer wrote to the channel's standard error, as text.
    pub(super) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.lock().stderr).into_owned()
    }

    fn overflow(&self, state: &mut State, limit: usize) {
        state.chunks.clear();
        self.budget.give(std::mem::take(&mut state.held));
        let reason = format!("its reader left more than {} MiB unread", limit >> 20);
        state.end.get_or_insert(End::Cut(reason.into()));
        self.changed.notify_one();
        self.over.notify_waiters();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while this is held leaves plain bytes behind: nothing to distrust.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let held = self.lock().held;
        self.budget.give(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inbox(limit: usize) -> (Inbox, Arc<Budget>) {
        let budget = Budget::new(limit);
        (Inbox::new(budget.clone()), budget)
    }

    proptest! {
        /// Whatever the packet sizes and however reads fall between them: the same bytes, and nothing stays booked.
        #[test]
        fn bytes_come_out_as_they_went_in(packets in prop::collection::vec((0usize..9000, any::<bool>()), 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (inbox, budget) = inbox(TOTAL_LIMIT);
                let (mut sent, mut got) = (Vec::new(), Vec::new());
                for (i, (size, read)) in packets.into_iter().enumerate() {
                    let packet = vec![i as u8; size];
                    assert_eq!(inbox.push(&packet), Kept::Yes);
                    sent.extend_from_slice(&packet);
                    if read && got.len() < sent.len() {
                        got.extend_from_slice(&inbox.read().await.unwrap());
                    }
                }
                inbox.eof();
                while let Some(bytes) = inbox.read().await {
                    got.extend_from_slice(&bytes);
                }
                assert_eq!(got, sent);
                assert_eq!(budget.used(), 0);
            });
        }
    }

    #[tokio::test]
    async fn a_flood_of_small_packets_costs_what_its_bytes_cost() {
        let (inbox, budget) = inbox(TOTAL_LIMIT);
        for _ in 0..CHUNK * 4 {
            inbox.push(b"x");
        }
        assert_eq!(budget.used(), CHUNK * 4);
    }

    #[tokio::test]
    async fn an_overfull_inbox_ends_its_own_stream_and_frees_its_memory() {
        let (first, budget) = inbox(TOTAL_LIMIT);
        let second = Inbox::new(budget.clone());
        let packet = vec![0; 32 << 10];
        second.push(&packet);
        while first.push(&packet) == Kept::Yes {
            assert!(budget.used() <= STREAM_LIMIT + packet.len());
        }
        assert!(matches!(first.ended(), Some(End::Cut(reason)) if reason.contains("64 MiB unread")));
        assert_eq!(budget.used(), packet.len());
        assert_eq!(second.ended(), None);
    }

    #[tokio::test]
    async fn the_total_is_bounded_over_all_streams() {
        let (first, budget) = inbox(1 << 20);
        let second = Inbox::new(budget.clone());
        let packet = vec![0; 32 << 10];
        for _ in 0..31 {
            assert_eq!(first.push(&packet), Kept::Yes);
        }
        assert_eq!(second.push(&packet), Kept::Yes);
        assert_eq!(second.push(&packet), Kept::Overflowed);
        assert_eq!(budget.used(), 31 * packet.len());
    }

    #[tokio::test]
    async fn text_before_a_refusal_is_kept() {
        let (inbox, _) = inbox(1 << 20);
        inbox.push_stderr(b"no such node\n");
        inbox.reply(false);
        assert_eq!(inbox.answered().await, Ok(false));
        assert_eq!(inbox.stderr(), "no such node\n");
    }
}
