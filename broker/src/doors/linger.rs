//! What a client still sends when it has its answer already.
//!
//! A socket that is closed with bytes unread resets its peer, which then finds a broken pipe where the answer was. So
//! what nobody wants any more is read and dropped, for a moment, as nginx does (`lingering_close`).

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use std::time::Duration;
use tokio::time::timeout;

/// A client that is still sending then is cut off: it does not look for an answer.
const MOST_BYTES: u64 = 256 << 20;
/// The same for a slow one.
const MOST_TIME: Duration = Duration::from_secs(10);

/// A request's body, whose rest is read when it is dropped.
pub(super) struct Lingering(Option<Incoming>);

impl Lingering {
    /// Keeps a body so.
    pub(super) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }

    /// The next part; none at the end.
    pub(super) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        match &mut self.0 {
            Some(body) => body.frame().await,
            None => None,
        }
    }

    /// How much is still to come.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // Outside of a runtime there is no connection left.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(timeout(MOST_TIME, read_on(body, MOST_BYTES)).await) });
        }
    }
}

/// Reads and drops at most so many bytes. How much was left of them at the end.
async fn read_on<B: Body<Data = Bytes> + Unpin>(mut body: B, mut most: u64) -> u64 {
    while most > 0
        && let Some(Ok(frame)) = body.frame().await
    {
        most = most.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// So many parts of a hundred bytes.
    struct Parts(u32);

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let next = self.0.checked_sub(1);
            self.0 = next.unwrap_or_default();
            Poll::Ready(next.map(|_| Ok(Frame::data(Bytes::from_static(&[0; 100])))))
        }
    }

    #[tokio::test]
    async fn what_is_read_on_has_an_end_and_a_limit() {
        assert_eq!(read_on(Parts(3), 1000).await, 700);
        assert_eq!(read_on(Parts(u32::MAX), 1000).await, 0);
    }
}
