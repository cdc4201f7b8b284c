//! Frames on their way to the broker: at most one of input, and short ones behind it.

use natssh_wire::frame::{FromClient, HEADER};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::ops::Range;

/// What is read of the input at once: about what a unix socket holds.
const READ: usize = 128 << 10;

/// What is still to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Room for one frame of input, and the part of it that is not sent.
    input: Vec<u8>,
    unsent: Range<usize>,
    /// Frames without input, sent when no frame of input is under way.
    short: Vec<u8>,
}

impl Outbox {
    /// Adds a frame without input.
    pub(super) fn add(&mut self, frame: &FromClient<'_>) {
        frame.encode(&mut self.short);
    }

    /// Makes a frame of what `read` puts into its buffer. Only while there is nothing to send.
    ///
    /// # Errors
    /// What `read` says; 0 bytes, the end, make no frame.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        self.input.resize(HEADER + READ, 0);
        let count = read(&mut self.input[HEADER..])?;
        if count > 0 {
            // At most READ.
            self.input[..HEADER].copy_from_slice(&FromClient::stdin_header(count as u32));
            self.unsent = 0..HEADER + count;
        }
        Ok(count)
    }

    /// Bytes that are left to send.
    pub(super) fn len(&self) -> usize {
        self.unsent.len() + self.short.len()
    }

    /// Whether nothing is left to send.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends what the socket takes, which must not block.
    ///
    /// # Errors
    /// The broker takes no more. What was to be sent is dropped.
    pub(super) fn send(&mut self, socket: impl AsFd) -> Result<(), Errno> {
        while !self.is_empty() {
            let is_input = !self.unsent.is_empty();
            let bytes = if is_input { &self.input[self.unsent.clone()] } else { &self.short };
            match send(&socket, bytes, SendFlags::empty()) {
                Ok(count) if is_input => self.unsent.start += count,
                Ok(count) => drop(self.short.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => {
                    *self = Self::default();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
