//! Bytes on their way to a file without a name and in it, first in, first out.
//!
//! The connection's callbacks put bytes here, and a disk may be busy for longer than a server waits for a sign of
//! life. So nothing here waits for it: bytes wait in memory until a thread of their own has written them, and a
//! reader that comes before takes them from there. The file is used as a ring, so that it never grows beyond what
//! may be unread, however much passes through it.

use crate::ssh::inbox::Budget;
use bytes::{Bytes, BytesMut};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// How much is read at once.
const READ: u64 = 256 << 10;

/// The ring, and what is to go there.
#[derive(Debug)]
pub(super) struct Spill {
    ring: Arc<Ring>,
}

/// What its owner and its writer share.
#[derive(Debug)]
struct Ring {
    folder: PathBuf,
    capacity: u64,
    /// Holds what is not written yet.
    memory: Arc<Budget>,
    /// Told when something was written, and when nothing can be.
    written: Arc<Notify>,
    state: Mutex<State>,
}

/// Positions count from the first byte that was ever put in.
#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    /// The oldest byte that is unread.
    head: u64,
    /// The end of what is unread and in the file; what follows is in memory.
    in_file: u64,
    /// What is being written.
    flying: Bytes,
    /// What is to be written next.
    waiting: BytesMut,
    /// A thread writes.
    writing: bool,
    /// Why nothing can be written.
    failed: Option<String>,
    /// Nobody reads any more.
    over: bool,
}

/// The oldest bytes of a spill.
pub(super) enum Oldest {
    /// Taken out of it.
    Memory(Bytes),
    /// Still in it, until they are read and [`Spill::drop_front`]ed.
    Disk(Extent),
}

/// A part of the file that can be read in one go.
#[derive(Debug)]
pub(super) struct Extent {
    file: Arc<File>,
    offset: u64,
    length: u64,
}

impl Spill {
    /// An empty one. Its file, which nobody else can open, will be in `folder`; `written` is told of each write.
    pub(super) fn new(folder: &Path, capacity: u64, memory: Arc<Budget>, written: Arc<Notify>) -> Self {
        let (folder, state) = (folder.to_owned(), Mutex::default());
        Self { ring: Arc::new(Ring { folder, capacity, memory, written, state }) }
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> u64 {
        self.ring.lock().len()
    }

    /// Bytes in it that are in memory still.
    pub(super) fn in_memory(&self) -> usize {
        self.ring.lock().in_memory()
    }

    /// Adds bytes, for which the caller knows that there is room.
    ///
    /// # Errors
    /// What was added before could not be written: why.
    pub(super) fn append(&self, data: &[u8]) -> Result<(), String> {
        let mut state = self.ring.lock();
        if let Some(reason) = &state.failed {
            return Err(reason.clone());
        }
        self.ring.memory.take_anyway(data.len());
        state.waiting.extend_from_slice(data);
        if !std::mem::replace(&mut state.writing, true) {
            let ring = self.ring.clone();
            tokio::task::spawn_blocking(move || ring.write());
        }
        Ok(())
    }

    /// The oldest bytes: at most `most` of them, and at least one.
    pub(super) fn front(&self, most: u64) -> Oldest {
        let mut state = self.ring.lock();
        let (head, in_file) = (state.head, state.in_file);
        if let Some(file) = state.file.clone().filter(|_| head < in_file) {
            let offset = head % self.ring.capacity;
            let length = most.min(READ).min(self.ring.capacity - offset).min(in_file - head);
            return Oldest::Disk(Extent { file, offset, length });
        }
        let most = usize::try_from(most.min(READ)).unwrap_or(usize::MAX);
        let bytes = match state.flying.len() {
            0 => {
                let most = most.min(state.waiting.len());
                state.waiting.split_to(most).freeze()
            }
            flying => state.flying.split_to(most.min(flying)),
        };
        self.ring.memory.give(bytes.len());
        state.head += bytes.len() as u64;
        state.in_file = state.head;
        Oldest::Memory(bytes)
    }

    /// Forgets the oldest bytes, which were read from the disk.
    pub(super) fn drop_front(&self, bytes: usize) {
        self.ring.lock().head += bytes as u64;
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        let mut state = self.ring.lock();
        state.over = true;
        self.ring.memory.give(state.in_memory());
        (state.flying, state.waiting) = Default::default();
        // The last one to close a file without a name waits for the disk to forget what is in it.
        if let (Some(file), Ok(runtime)) = (state.file.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

impl State {
    fn len(&self) -> u64 {
        self.in_file - self.head + self.in_memory() as u64
    }

    fn in_memory(&self) -> usize {
        self.flying.len() + self.waiting.len()
    }
}

impl Ring {
    /// Writes until there is nothing to write: on a thread that may wait for the disk.
    fn write(&self) {
        while let Some((bytes, at)) = self.next_flight() {
            if let Err(reason) = self.write_at(&bytes, at) {
                self.lock().failed = Some(reason);
                self.written.notify_waiters();
                return;
            }
        }
    }

    /// Lands what was written, and says what to write next, and where.
    fn next_flight(&self) -> Option<(Bytes, u64)> {
        let mut state = self.lock();
        // What the reader has taken meanwhile is nowhere.
        let landed = std::mem::take(&mut state.flying).len();
        state.in_file += landed as u64;
        self.memory.give(landed);
        self.written.notify_waiters();
        state.writing = !state.over && !state.waiting.is_empty();
        if !state.writing {
            return None;
        }
        state.flying = state.waiting.split().freeze();
        Some((state.flying.clone(), state.in_file))
    }

    /// The file, made when it is first needed.
    fn file(&self) -> Result<Arc<File>, String> {
        let known = self.lock().file.clone();
        if let Some(file) = known {
            return Ok(file);
        }
        let file = tempfile::tempfile_in(&self.folder).map_err(|error| {
            format!("no file for its unread output in {}: {error}", self.folder.display())
        })?;
        Ok(self.lock().file.insert(Arc::new(file)).clone())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), String> {
        let file = self.file()?;
        let offset = at % self.capacity;
        let before_end = usize::try_from(self.capacity - offset).unwrap_or(usize::MAX).min(bytes.len());
        let (first, wrapped) = bytes.split_at(before_end);
        let written = file.write_all_at(first, offset).and_then(|()| file.write_all_at(wrapped, 0));
        written.map_err(|error| format!("its unread output cannot be written to the disk: {error}"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while this is held leaves plain bytes behind: nothing to distrust.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extent {
    /// Reads it.
    ///
    /// # Errors
    /// The disk is broken.
    pub(super) async fn read(self) -> Result<Bytes, String> {
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(self.length).unwrap_or_default()];
            self.file.read_exact_at(&mut bytes, self.offset).map(|()| Bytes::from(bytes))
        });
        match read.await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(format!("its unread output cannot be read from the disk: {error}")),
            Err(_) => Err("its unread output was not read in time".into()),
        }
    }
}
