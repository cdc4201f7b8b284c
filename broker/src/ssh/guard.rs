//! The byte stream under an SSH connection, with an end to every wait.
//!
//! While a write blocks, the SSH library polls nothing else: not its
//! keepalives, not its other channels. So the stream itself gives up when no
//! byte could be written for [`WRITE_STALL`], and it can be cut from outside. It
//! also ends with a word of its own where another kind of server answers.

use super::first_word;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

/// How long a write may make no progress: as long as a path may leave keepalives unanswered.
pub(super) const WRITE_STALL: Duration = Duration::from_secs(45);

/// Ends the stream when it is dropped.
#[derive(Debug)]
pub(super) struct Cut(#[expect(dead_code, reason = "dropping it is the message")] oneshot::Sender<()>);

/// A stream whose writes must make progress and that ends when its [`Cut`] is dropped.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    inner: S,
    /// None once it was cut.
    cut: Option<oneshot::Receiver<()>>,
    stall: Option<Pin<Box<Sleep>>>,
    patience: Duration,
    /// Whether the server has said something already.
    greeted: bool,
}

impl<S> Guarded<S> {
    /// Guards `inner`; `patience` is [`WRITE_STALL`] outside of tests.
    pub(super) fn new(inner: S, patience: Duration) -> (Self, Cut) {
        let (sender, cut) = oneshot::channel();
        (Self { inner, cut: Some(cut), stall: None, patience, greeted: false }, Cut(sender))
    }

    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(cut) = &mut self.cut
            && Pin::new(cut).poll(cx).is_pending()
        {
            return Ok(());
        }
        self.cut = None;
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by natssh"))
    }

    /// Starts or checks the clock of a write that could not go on.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let patience = self.patience;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stall.as_mut().poll(cx));
        // A later poll must not find a finished timer.
        stall.as_mut().reset(Instant::now() + patience);
        let text = format!("no byte could be sent for {} s", patience.as_secs());
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    fn watched<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stall = None;
            return result;
        }
        if let Poll::Ready(error) = self.poll_stall(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if !self.greeted && buf.filled().len() > before {
            self.greeted = true;
            if let Some(objection) = first_word::objection(&buf.filled()[before..]) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, objection)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watched(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.watched(cx, result)
    }

    /// Never fails: the SSH library says how a connection ended only once this has succeeded, and TLS has a farewell to
    /// write, which a peer that is gone does not take. Nobody waits for it once the stream was cut.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.check_cut(cx).is_ok() {
            let result = Pin::new(&mut self.inner).poll_shutdown(cx);
            drop(ready!(self.watched(cx, result)));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_write_that_makes_no_progress_ends() {
        let (near, _far) = duplex(8);
        let (mut stream, _cut) = Guarded::new(near, WRITE_STALL);
        let begun = Instant::now();
        let error = stream.write_all(&[0; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), WRITE_STALL.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_no_stalled_one() {
        let (near, mut far) = duplex(8);
        let (mut stream, _cut) = Guarded::new(near, WRITE_STALL);
        let reader = tokio::spawn(async move {
            let mut bytes = [0; 8];
            for _ in 0..4 {
                sleep(WRITE_STALL - Duration::from_secs(1)).await;
                far.read_exact(&mut bytes).await.unwrap();
            }
        });
        stream.write_all(&[0; 32]).await.unwrap();
        reader.await.unwrap();
    }

    /// A stream whose end wants something written, as that of TLS does.
    struct Farewell(tokio::io::DuplexStream);

    impl AsyncRead for Farewell {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Farewell {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            ready!(Pin::new(&mut self.0).poll_write(cx, b"bye"))?;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_farewell_that_nobody_takes_holds_up_nothing() {
        let (near, far) = duplex(8);
        let (mut gone, _cut) = Guarded::new(Farewell(near), WRITE_STALL);
        drop(far);
        gone.shutdown().await.unwrap();

        let (near, _far) = duplex(8);
        let (mut stalled, cut) = Guarded::new(Farewell(near), WRITE_STALL);
        stalled.write_all(&[0; 8]).await.unwrap();
        let begun = Instant::now();
        let ending = tokio::spawn(async move { stalled.shutdown().await });
        tokio::task::yield_now().await;
        drop(cut);
        ending.await.unwrap().unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn cutting_ends_a_waiting_read_and_every_later_call() {
        let (near, _far) = duplex(8);
        let (mut stream, cut) = Guarded::new(near, WRITE_STALL);
        let reader = tokio::spawn(async move {
            let first = stream.read(&mut [0; 8]).await;
            (first, stream.write(b"x").await, stream.read(&mut [0; 8]).await)
        });
        tokio::task::yield_now().await;
        drop(cut);
        let (first, second, third) = reader.await.unwrap();
        assert!(first.is_err() && second.is_err() && third.is_err());
    }
}
