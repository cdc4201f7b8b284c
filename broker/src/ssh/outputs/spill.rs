//! Bytes in a file without a name, first in, first out.
//!
//! The file is used as a ring, so that it never grows beyond what may be unread, however much passes through it.
//! Written by the connection's callbacks, and that goes to the file system's own memory; read on a thread that may
//! wait for the disk.

use bytes::Bytes;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// How much is read at once.
const READ: u64 = 256 << 10;

/// The ring.
#[derive(Debug)]
pub(super) struct Spill {
    file: Arc<File>,
    capacity: u64,
    /// Where the oldest byte is.
    begin: u64,
    length: u64,
}

/// A part of the file that can be read in one go.
#[derive(Debug)]
pub(super) struct Extent {
    file: Arc<File>,
    offset: u64,
    length: u64,
}

impl Spill {
    /// An empty one; nobody else can open its file.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn new(folder: &Path, capacity: u64) -> Result<Self, String> {
        let file = tempfile::tempfile_in(folder)
            .map_err(|error| format!("no file for its unread output in {}: {error}", folder.display()))?;
        Ok(Self { file: Arc::new(file), capacity, begin: 0, length: 0 })
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds bytes, for which the caller knows that there is room.
    ///
    /// # Errors
    /// The disk is full, or broken.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), String> {
        let at = (self.begin + self.length) % self.capacity;
        let before_end = usize::try_from(self.capacity - at).unwrap_or(usize::MAX).min(data.len());
        let (first, wrapped) = data.split_at(before_end);
        let written = self.file.write_all_at(first, at).and_then(|()| self.file.write_all_at(wrapped, 0));
        written.map_err(|error| format!("its unread output cannot be written to the disk: {error}"))?;
        self.length += data.len() as u64;
        Ok(())
    }

    /// The oldest bytes: at most `most` of them, and at least one.
    pub(super) fn front(&self, most: u64) -> Extent {
        let length = most.min(READ).min(self.capacity - self.begin);
        Extent { file: self.file.clone(), offset: self.begin, length }
    }

    /// Forgets the oldest bytes.
    pub(super) fn drop_front(&mut self, bytes: usize) {
        self.begin = (self.begin + bytes as u64) % self.capacity;
        self.length -= bytes as u64;
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
