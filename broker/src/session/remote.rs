//! The two ends of bytes at a node, whatever it is that reads and writes them there.

use super::{Event, Gone, Port, Running};
use bytes::Bytes;
use std::future::Future;

/// What runs on a node, or is reached from it: bytes go in, and things happen. [`Running`] and [`Port`] are such; tests
/// bring others.
pub trait Remote: Sync {
    /// What happens next. Nothing is lost when the caller stops waiting.
    fn next(&self) -> impl Future<Output = Event> + Send;
    /// Sends bytes; waits while the node takes none.
    fn write(&self, bytes: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;
    /// No more follow.
    fn finish_writing(&self) -> impl Future<Output = Result<(), Gone>> + Send;
}

impl Remote for Running {
    async fn next(&self) -> Event {
        Running::next(self).await
    }

    async fn write(&self, bytes: Bytes) -> Result<(), Gone> {
        Running::write(self, bytes).await
    }

    async fn finish_writing(&self) -> Result<(), Gone> {
        Running::finish_writing(self).await
    }
}

impl Remote for Port {
    async fn next(&self) -> Event {
        Port::next(self).await
    }

    async fn write(&self, bytes: Bytes) -> Result<(), Gone> {
        Port::write(self, bytes).await
    }

    async fn finish_writing(&self) -> Result<(), Gone> {
        Port::finish_writing(self).await
    }
}
