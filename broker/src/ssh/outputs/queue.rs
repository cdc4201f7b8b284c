//! Unread bytes in their order, in memory or in a file.
//!
//! Nothing here waits.

use super::Stores;
use super::spill::{Extent, Oldest, Spill};
use bytes::{Bytes, BytesMut};
use natssh_wire::frame::Output;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// How many bytes of one command may be unread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// In memory; and as much again on its way to the file.
    pub(super) memory: usize,
    /// In a file, before the connection is held.
    pub(super) file: u64,
    /// In the file beyond that. Held, a connection brings one packet a second, of 32 KiB: a reader that stands still
    /// has used this up after half an hour, and if its command ran alone, all of the file after two hours and a half.
    pub(super) overdraft: u64,
}

impl Limits {
    /// Outside of tests.
    pub(super) const USUAL: Self = Self { memory: 1 << 20, file: 256 << 20, overdraft: 64 << 20 };
}

/// Small packets are gathered in chunks of this size, so that a flood of one-byte packets costs what its bytes cost.
const CHUNK: usize = 4096;

/// Whether other commands run on the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    /// None: the connection may be held for this one.
    Alone,
    /// Some.
    Others,
}

/// What became of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// They are kept, in memory.
    InMemory,
    /// They are kept, in the file: the reader is behind.
    InFile,
    /// There is no place for them now.
    Full,
    /// They are lost: why, in lower case.
    Failed(String),
}

/// The oldest bytes.
pub(super) enum Front {
    /// Taken out of the queue.
    Memory(Output, Bytes),
    /// Still in it, until they are read and [`Queue::taken_from_disk`].
    Disk(Output, Extent),
}

/// The queue of one command.
#[derive(Debug)]
pub(super) struct Queue {
    pieces: VecDeque<(Output, Piece)>,
    /// Bytes booked in memory.
    held: usize,
    spill: Option<Spill>,
    stores: Arc<Stores>,
    /// Told when the disk has made room.
    room: Arc<Notify>,
}

#[derive(Debug)]
enum Piece {
    /// Bytes, and what they cost: a chunk is booked whole when it is made.
    Memory { bytes: BytesMut, booked: usize },
    /// The next so many bytes of the file.
    Disk(u64),
}

impl Queue {
    pub(super) fn new(stores: Arc<Stores>, room: Arc<Notify>) -> Self {
        Self { pieces: VecDeque::new(), held: 0, spill: None, stores, room }
    }

    /// Takes bytes in, if there is a place for them.
    pub(super) fn put(&mut self, output: Output, data: &[u8], company: Company) -> Put {
        if self.put_in_memory(output, data) {
            return Put::InMemory;
        }
        let Limits { memory, file, .. } = self.stores.each;
        let room = self.on_disk() + data.len() as u64 <= file && self.on_its_way() < memory;
        if company == Company::Alone || !room || !self.stores.disk.take(data.len()) {
            return Put::Full;
        }
        self.put_on_disk(output, data)
    }

    /// Takes bytes in after the connection was held for them.
    pub(super) fn put_anyway(&mut self, output: Output, data: &[u8]) -> Put {
        if self.put_in_memory(output, data) {
            return Put::InMemory;
        }
        let Limits { file, overdraft, .. } = self.stores.each;
        if self.on_disk() + data.len() as u64 > file + overdraft {
            return Put::Failed(format!("its reader left more than {} MiB unread", (file + overdraft) >> 20));
        }
        self.stores.disk.take_anyway(data.len());
        self.put_on_disk(output, data)
    }

    fn put_in_memory(&mut self, output: Output, data: &[u8]) -> bool {
        if let Some((last, Piece::Memory { bytes, booked })) = self.pieces.back_mut()
            && *last == output
            && *booked - bytes.len() >= data.len()
        {
            bytes.extend_from_slice(data);
            return true;
        }
        let booked = data.len().max(CHUNK);
        if self.held + booked > self.stores.each.memory || !self.stores.memory.take(booked) {
            return false;
        }
        self.held += booked;
        let mut bytes = BytesMut::with_capacity(booked);
        bytes.extend_from_slice(data);
        self.pieces.push_back((output, Piece::Memory { bytes, booked }));
        true
    }

    /// Their place on the disk is booked.
    fn put_on_disk(&mut self, output: Output, data: &[u8]) -> Put {
        let Limits { file, overdraft, .. } = self.stores.each;
        let spill = self.spill.get_or_insert_with(|| {
            let Stores { folder, memory, .. } = &*self.stores;
            Spill::new(folder, file + overdraft, memory.clone(), self.room.clone())
        });
        if let Err(reason) = spill.append(data) {
            self.stores.disk.give(data.len());
            return Put::Failed(reason);
        }
        match self.pieces.back_mut() {
            Some((last, Piece::Disk(length))) if *last == output => *length += data.len() as u64,
            _ => self.pieces.push_back((output, Piece::Disk(data.len() as u64))),
        }
        Put::InFile
    }

    /// The oldest bytes, if there are any.
    pub(super) fn front(&mut self) -> Option<Front> {
        let output = self.pieces.front()?.0;
        if let Some((_, Piece::Disk(length))) = self.pieces.front() {
            let spill = self.spill.as_ref().expect("there is a spill while a piece is in it");
            return Some(match spill.front(*length) {
                Oldest::Disk(extent) => Front::Disk(output, extent),
                Oldest::Memory(bytes) => {
                    self.left(bytes.len());
                    Front::Memory(output, bytes)
                }
            });
        }
        let Some((_, Piece::Memory { bytes, booked })) = self.pieces.pop_front() else { return None };
        self.held -= booked;
        self.stores.memory.give(booked);
        Some(Front::Memory(output, bytes.freeze()))
    }

    /// The oldest bytes were read from the disk.
    pub(super) fn taken_from_disk(&mut self, bytes: usize) {
        // None where the queue was cleared meanwhile.
        if let Some(spill) = &self.spill {
            spill.drop_front(bytes);
            self.left(bytes);
        }
    }

    /// The oldest bytes have left the spill.
    fn left(&mut self, bytes: usize) {
        if let Some((_, Piece::Disk(length))) = self.pieces.front_mut() {
            *length -= bytes as u64;
            if *length == 0 {
                self.pieces.pop_front();
            }
        }
        self.stores.disk.give(bytes);
        if self.on_disk() == 0 {
            self.spill = None;
        }
    }

    /// So little that the reader counts as present again.
    pub(super) fn is_short(&self) -> bool {
        self.spill.is_none() && self.held <= self.stores.each.memory / 4
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.stores.memory.give(std::mem::take(&mut self.held));
        let on_disk = usize::try_from(self.on_disk()).unwrap_or(usize::MAX);
        self.stores.disk.give(on_disk);
        self.spill = None;
        self.pieces.clear();
    }

    /// Bytes in the file, or on their way there.
    fn on_disk(&self) -> u64 {
        self.spill.as_ref().map_or(0, Spill::len)
    }

    /// Those that are in memory still.
    pub(super) fn on_its_way(&self) -> usize {
        self.spill.as_ref().map_or(0, Spill::in_memory)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.clear();
    }
}
