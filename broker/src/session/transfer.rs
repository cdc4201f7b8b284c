//! A whole file to a node, or from one, over one channel of a session.
//!
//! SFTP carries it, in as few round trips as it can: the greeting and the first requests leave together, and a
//! conversation that is through with one file can wait for the next ([`Talk`]).
//! A node that has no SFTP is served by commands (`shell`). Either way what is put is written under a name of its own
//! beside its place and renamed, so that a part of it is never seen; `place` says when that cannot be.

pub mod by_shell;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod get;
mod packet;
mod place;
mod put;
mod sftp;
pub mod shell;
mod talk;
#[cfg(test)]
mod tests;

pub use get::{Got, get};
pub use put::{Harm, Unfinished, put, remove};
pub use talk::Talk;

use super::Remote;
use bytes::Bytes;
use natssh_wire::file::Mode;
use natssh_wire::frame::BadFrame;
use std::future::Future;
use std::time::Duration;

/// From so many bytes on, a file has a session to itself.
pub const BULK: u64 = 1 << 20;
/// For so long a node may do nothing about what it was asked.
pub const STALLED: Duration = Duration::from_secs(60);

/// What is to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Where to, as the node names it.
    pub path: Vec<u8>,
    /// The permissions of a file that is not there yet.
    pub mode: Mode,
    /// Makes the name of the temporary file one that nobody else has.
    pub number: u64,
}

impl Order {
    /// The name of the temporary file, where no link leads elsewhere.
    #[must_use]
    pub fn temporary(&self) -> Vec<u8> {
        place::beside(&self.path, self.number)
    }
}

/// Why a file was not carried to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The node's file system said no; a sentence without its subject, which is the node.
    File(String),
    /// The node has no SFTP. Nothing of the client's has been read.
    NoSftp(Lacking),
    /// The node speaks none; what it said instead.
    NotSftp(String),
    /// The channel ended before its time; why.
    Cut(String),
    /// The node did nothing for [`STALLED`].
    Stalled,
    /// The client ended it.
    Client(Left),
}

/// How it showed that a node has no SFTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// It refuses the subsystem, or has no such program: that lasts.
    Surely,
    /// The program ended before its first word, and may not do so again.
    ForNow,
}

/// Why a client sends or takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It is gone.
    Gone,
    /// It sent what is no frame.
    Bad(BadFrame),
    /// It sent a frame that has no place beside a file.
    Unfit,
}

/// Where the bytes of a put come from.
pub trait Source: Send {
    /// The next ones; none once all are there. Nothing is lost when the caller stops waiting.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Left>> + Send;
    /// Whether the client still waits for the outcome, as far as that can be seen.
    fn is_there(&self) -> bool;
}

/// Where the bytes of a get go.
pub trait Sink: Send {
    /// Takes the next ones; waits for as long as the client likes.
    fn write(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), Left>> + Send;
}
