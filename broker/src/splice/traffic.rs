//! Bytes, counted as they pass: an addition for each packet, and nothing is copied.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Bytes that went each way: of one stream, or of everything that an upstream carries.
#[derive(Debug, Default)]
pub struct Traffic {
    to_node: AtomicU64,
    from_node: AtomicU64,
    spoke: Notify,
    whole: Option<Arc<Traffic>>,
}

impl Traffic {
    /// One stream's, which counts for the whole as well.
    #[must_use]
    pub fn part_of(whole: &Arc<Self>) -> Self {
        Self { whole: Some(whole.clone()), ..Self::default() }
    }

    /// Counts bytes of the client's.
    pub fn add_to_node(&self, bytes: u64) {
        self.to_node.fetch_add(bytes, Relaxed);
        if let Some(whole) = &self.whole {
            whole.add_to_node(bytes);
        }
    }

    /// Counts bytes of the node's.
    pub fn add_from_node(&self, bytes: u64) {
        if let Some(whole) = &self.whole {
            whole.add_from_node(bytes);
        }
        if self.from_node.fetch_add(bytes, Relaxed) == 0 && bytes > 0 {
            self.spoke.notify_one();
        }
    }

    /// Returns when the node has sent its first byte; for one caller.
    pub async fn spoke(&self) {
        self.spoke.notified().await;
    }

    /// Bytes of the client's so far.
    pub fn to_node(&self) -> u64 {
        self.to_node.load(Relaxed)
    }

    /// Bytes of the node's so far.
    pub fn from_node(&self) -> u64 {
        self.from_node.load(Relaxed)
    }
}

/// The client's side of a copy: what is read from it goes to the node, what is written came from there.
pub(super) struct Counted<'t, T> {
    inner: T,
    traffic: &'t Traffic,
}

impl<'t, T> Counted<'t, T> {
    pub(super) fn new(inner: T, traffic: &'t Traffic) -> Self {
        Self { inner, traffic }
    }

    pub(super) fn inner(&self) -> &T {
        &self.inner
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.traffic.add_to_node((buffer.filled().len() - before) as u64);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.traffic.add_from_node(written as u64);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    #[tokio::test]
    async fn what_the_client_sends_and_what_it_gets_are_told_apart() {
        let traffic = Traffic::default();
        let (mut client, near) = duplex(8);
        let mut counted = Counted::new(near, &traffic);
        client.write_all(b"question").await.unwrap();
        counted.read_exact(&mut [0; 8]).await.unwrap();
        counted.write_all(b"reply").await.unwrap();
        assert_eq!((traffic.to_node(), traffic.from_node()), (8, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn each_stream_has_a_first_byte_of_its_own_and_all_count_together() {
        let whole = Arc::new(Traffic::default());
        let streams = [Traffic::part_of(&whole), Traffic::part_of(&whole)];
        for stream in &streams {
            assert!(timeout(Duration::from_secs(1), stream.spoke()).await.is_err());
            stream.add_from_node(5);
            stream.add_to_node(2);
            assert!(timeout(Duration::from_secs(1), stream.spoke()).await.is_ok());
        }
        assert_eq!((whole.from_node(), whole.to_node(), streams[1].from_node()), (10, 4, 5));
    }
}
