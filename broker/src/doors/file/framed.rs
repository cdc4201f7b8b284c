//! A client that speaks frames: the Ansible plugin's way.

use super::trip::{Client, Incoming, Lent, Outgoing, Trip};
use crate::doors::batch::Batch;
use crate::doors::frames::{self, Frame, Frames};
use crate::doors::greeting::greeting;
use crate::pool::{Leased, Node, Use};
use crate::session::transfer::{Left, Sink, Source};
use crate::splice::has_hung_up;
use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use natssh_wire::frame::{FromBroker, Output};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::timeout;

/// A client reads its last frame within this.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a client sends.
struct FramesIn {
    frames: Frames,
    begun: bool,
    ended: bool,
}

/// What it is sent.
struct FramesOut {
    socket: OwnedWriteHalf,
    begun: bool,
}

impl Trip {
    /// Carries the file of a client that was answered 101, and tells how that went.
    pub(super) async fn carry(self: &Arc<Self>, upgraded: Upgraded, lent: Lent, how: Use) {
        // The door serves nothing but unix sockets.
        let Ok(parts) = upgraded.downcast::<TokioIo<UnixStream>>() else { return };
        let (read, socket) = parts.io.into_inner().into_split();
        let frames = Frames::new(read, parts.read_buf);
        let incoming = FramesIn { frames, begun: false, ended: false };
        let mut client = Client { incoming, outgoing: FramesOut { socket, begun: false } };
        client.outgoing.greet(self, &lent.channel).await;
        match self.go(&mut client, lent, how).await {
            Ok(over) => {
                client.outgoing.tell(&[FromBroker::Exit(0)]).await;
                over.wind_down().await;
            }
            Err(Some(failure)) => {
                let json = serde_json::to_vec(&failure).unwrap_or_default();
                client.outgoing.tell(&[FromBroker::Failed(&json)]).await;
            }
            Err(None) => {}
        }
    }
}

impl Incoming for FramesIn {
    fn has_begun(&self) -> bool {
        self.begun || self.ended
    }

    async fn leaves(&mut self) -> Left {
        match self.frames.next().await {
            Ok(_) => Left::Unfit,
            Err(left) => left.into(),
        }
    }
}

impl Source for FramesIn {
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

impl FramesOut {
    /// What ssh would say at its start.
    async fn greet(&mut self, trip: &Trip, leased: &Leased<Node>) {
        let level = trip.wishes.level;
        let lines = [(1, format!("natssh: the file goes over a session of {}", trip.target.peer()))];
        let frames: Vec<_> = greeting(level, leased.session(), &lines).collect();
        if !frames.is_empty() {
            self.tell(&frames).await;
        }
    }

    /// Sends frames, to a client that may be gone.
    async fn tell(&mut self, frames: &[FromBroker<'_>]) {
        let mut batch = Batch::default();
        frames.iter().for_each(|frame| batch.frame(frame));
        drop(timeout(FAREWELL, self.socket.write_all_buf(&mut batch)).await);
    }
}

impl Outgoing for FramesOut {
    fn has_begun(&self) -> bool {
        self.begun
    }
}

impl Sink for FramesOut {
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
