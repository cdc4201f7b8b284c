//! A client that speaks no frames: curl's way.
//!
//! The body begins with the request, in JSON on one line; what a put brings follows it. A get is answered once the first
//! bytes are there, so that a refusal has a status of its own; one that fails later breaks off before its end, and the
//! reason is among the failures. What a client sends of a put that was refused is read and dropped for a moment.

use super::trip::{Client, Incoming, Lent, Outgoing, Trip};
use crate::doors::linger::Lingering;
use crate::doors::request::{bad, parse};
use crate::pool::Use;
use crate::session::transfer::{Left, Sink, Source};
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use natssh_wire::Failure;
use natssh_wire::exec::EXEC_BODY_LIMIT;
use natssh_wire::file::FileRequest;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A client has so long to send the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What of a body is still to be read.
pub(super) struct Rest {
    body: Lingering,
    read: BytesMut,
    begun: bool,
}

impl Rest {
    /// The request that the body begins with, and what follows it.
    pub(super) async fn behind_request(body: Lingering) -> Result<(FileRequest, Self), Failure> {
        let mut rest = Self { body, read: BytesMut::new(), begun: false };
        let line = timeout(REQUEST_TIMEOUT, rest.line()).await;
        let late = |_| bad(format!("the request did not come within {} s", REQUEST_TIMEOUT.as_secs()));
        let line = line.map_err(late)??;
        let mut request: FileRequest = parse(&line)?;
        if request.size.is_none() {
            request.size = rest.length();
        }
        Ok((request, rest))
    }

    /// The first line, or all there is.
    async fn line(&mut self) -> Result<Bytes, Failure> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end).freeze();
                drop(self.read.split_to(1));
                return Ok(line);
            }
            if self.read.len() > EXEC_BODY_LIMIT {
                return Err(bad(format!("the request is longer than {} MiB", EXEC_BODY_LIMIT >> 20)));
            }
            match self.data().await {
                Ok(Some(bytes)) => self.read.extend_from_slice(&bytes),
                Ok(None) => return Ok(self.read.split().freeze()),
                Err(_) => return Err(bad("the body ends in the middle".into())),
            }
        }
    }

    async fn data(&mut self) -> Result<Option<Bytes>, Left> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(Left::Gone),
                // Trailers mean nothing here.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// How many bytes will come, where the client has said so.
    fn length(&self) -> Option<u64> {
        Some(self.body.size_hint().exact()? + self.read.len() as u64)
    }
}

impl Source for Rest {
    async fn next(&mut self) -> Result<Option<Bytes>, Left> {
        if !self.read.is_empty() {
            self.begun = true;
            return Ok(Some(self.read.split().freeze()));
        }
        let data = self.data().await;
        self.begun = true;
        data
    }

    fn is_there(&self) -> bool {
        // One that has sent all of it wants it.
        true
    }
}

impl Incoming for Rest {
    fn has_begun(&self) -> bool {
        self.begun
    }

    async fn leaves(&mut self) -> Left {
        // That shows when it is sent something.
        std::future::pending().await
    }
}

/// The client's end of a get.
struct Pipe {
    to: mpsc::Sender<Result<Bytes, Failure>>,
    begun: bool,
}

impl Sink for Pipe {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Left> {
        self.begun = true;
        self.to.send(Ok(bytes)).await.map_err(|_| Left::Gone)
    }
}

impl Outgoing for Pipe {
    fn has_begun(&self) -> bool {
        self.begun
    }
}

/// The body of an answer to a get.
pub(in crate::doors) struct FileBody {
    first: Option<Bytes>,
    from: mpsc::Receiver<Result<Bytes, Failure>>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let came = std::task::ready!(self.from.poll_recv(context));
        Poll::Ready(
            came.map(|came| came.map(Frame::data).map_err(|failure| io::Error::other(failure.message))),
        )
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Trip {
    /// Puts the rest of a body.
    ///
    /// # Errors
    /// Why it was not put.
    pub(super) async fn put_rest(
        self: Arc<Self>,
        rest: Rest,
        lent: Lent,
        how: Use,
        kept: impl Send + 'static,
    ) -> Result<(), Failure> {
        let (to, _from) = mpsc::channel(1);
        let mut client = Client { incoming: rest, outgoing: Pipe { to, begun: false } };
        // In a task of its own: whoever goes away takes its connection's task along, and what was begun must be removed.
        let put = tokio::spawn(async move {
            let over = self.go(&mut client, lent, how).await?;
            // The client does not wait for that.
            tokio::spawn(async move {
                over.wind_down().await;
                drop(kept);
            });
            Ok(())
        });
        match put.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Some(failure))) => Err(failure),
            Ok(Err(None)) | Err(_) => Err(bad("the body ends in the middle".into())),
        }
    }

    /// Reads the file, from its first bytes on.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn get_all(
        self: Arc<Self>,
        rest: Rest,
        lent: Lent,
        how: Use,
        kept: impl Send + 'static,
    ) -> Result<FileBody, Failure> {
        let (to, mut from) = mpsc::channel(1);
        let mut client = Client { incoming: rest, outgoing: Pipe { to, begun: false } };
        tokio::spawn(async move {
            match self.go(&mut client, lent, how).await {
                Ok(over) => {
                    drop(client);
                    over.wind_down().await;
                }
                Err(failure) => {
                    let failure = failure.inspect(|failure| {
                        if client.outgoing.begun {
                            self.note(failure);
                        }
                    });
                    if let Some(failure) = failure {
                        drop(client.outgoing.to.send(Err(failure)).await);
                    }
                }
            }
            drop(kept);
        });
        match from.recv().await {
            Some(Ok(first)) => Ok(FileBody { first: Some(first), from }),
            None => Ok(FileBody { first: None, from }),
            Some(Err(failure)) => Err(failure),
        }
    }
}
