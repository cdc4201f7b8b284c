//! The two ends of bytes at a node, whatever it is that reads and writes them there.

use super::{Event, Gone};
use bytes::Bytes;
use std::future::Future;

/// What runs on a node, or is reached from it: bytes go in, and things happen. [`Running`](super::Running) and
/// [`Port`](super::Port) are such; tests bring others.
pub trait Remote: Sync {
    /// What happens next; one reader only. It may stop waiting at any time, and nothing is lost.
    fn next(&self) -> impl Future<Output = Event> + Send;
    /// Sends bytes. Waits while the node does not take them; who stops waiting before that does not know how many were
    /// sent.
    ///
    /// # Errors
    /// It has ended.
    fn write(&self, bytes: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Sends no more; what comes goes on.
    ///
    /// # Errors
    /// It has ended.
    fn finish_writing(&self) -> impl Future<Output = Result<(), Gone>> + Send;
}
