//! The client of a file, as frames: where the bytes of a put come from, and where those of a get go.

use crate::doors::exec::batch::Batch;
use crate::doors::exec::frames::{self, Frame, Frames};
use crate::session::transfer::{Left, Sink, Source};
use crate::splice::has_hung_up;
use bytes::Bytes;
use natssh_wire::frame::{FromBroker, Output};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::timeout;

/// A client reads its last frame within this.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a client sends.
pub(super) struct Incoming {
    frames: Frames,
    begun: bool,
    ended: bool,
}

/// What it is sent.
pub(super) struct Outgoing {
    socket: OwnedWriteHalf,
    begun: bool,
}

/// Both ends; `early` was read together with the request.
pub(super) fn ends(socket: UnixStream, early: Bytes) -> (Incoming, Outgoing) {
    let (read, socket) = socket.into_split();
    let incoming = Incoming { frames: Frames::new(read, early), begun: false, ended: false };
    (incoming, Outgoing { socket, begun: false })
}

impl Incoming {
    /// Whether anything of a file's has been taken: then it cannot be begun anew.
    pub(super) fn has_begun(&self) -> bool {
        self.begun || self.ended
    }

    /// Waits until a client that has nothing to send is gone, or sends something.
    pub(super) async fn leaves(&mut self) -> Left {
        match self.frames.next().await {
            Ok(_) => Left::Unfit,
            Err(left) => left.into(),
        }
    }
}

impl Source for Incoming {
    async fn next(&mut self) -> Result<Option<Bytes>, Left> {
        if self.ended {
            return Ok(None);
        }
        match self.frames.next().await? {
            Frame::Stdin(bytes) => {
                self.begun = true;
                Ok(Some(bytes))
            }
            Frame::StdinEnd => {
                self.ended = true;
                Ok(None)
            }
            _ => Err(Left::Unfit),
        }
    }

    fn is_there(&self) -> bool {
        !has_hung_up(self.frames.socket())
    }
}

impl Outgoing {
    /// Whether the client was sent any of the file: then it cannot be begun anew.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Sends frames, to a client that may be gone.
    pub(super) async fn tell(&mut self, frames: &[FromBroker<'_>]) {
        let mut batch = Batch::default();
        frames.iter().for_each(|frame| batch.frame(frame));
        drop(timeout(FAREWELL, self.socket.write_all_buf(&mut batch)).await);
    }
}

impl Sink for Outgoing {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Left> {
        self.begun = true;
        let mut batch = Batch::default();
        batch.output(Output::Stdout, bytes);
        self.socket.write_all_buf(&mut batch).await.map_err(|_| Left::Gone)
    }
}

impl From<frames::Left> for Left {
    fn from(left: frames::Left) -> Self {
        match left {
            frames::Left::Gone => Self::Gone,
            frames::Left::Bad(bad) => Self::Bad(bad),
        }
    }
}
