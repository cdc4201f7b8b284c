//! A client's frames, read from its socket as they come.

use bytes::{Buf, Bytes, BytesMut};
use natssh_wire::frame::{BadFrame, FromClient, HEADER, Output};
use natssh_wire::terminal::Size;
use std::io;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

/// What is read at once at first: commands have little input, or none.
const LITTLE: usize = 4 << 10;
/// And once that was full: what a unix socket holds, roughly.
const MUCH: usize = 128 << 10;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Standard input.
    Stdin(Bytes),
    /// Its end.
    StdinEnd,
    /// Nobody reads that output any more.
    Closed(Output),
    /// A signal for the command.
    Signal(String),
    /// The terminal's size now.
    Window(Size),
    /// Keys are to be exchanged anew.
    Rekey,
}

/// Why there is no further frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The client is gone.
    Gone,
    /// It sent what is no frame.
    Bad(BadFrame),
}

/// The client's side of the socket. [`Frames::next`] may be dropped while it waits: nothing is lost.
pub(super) struct Frames {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    /// What is read at once.
    sip: usize,
}

impl Frames {
    /// `early` was read together with the request.
    pub(super) fn new(socket: OwnedReadHalf, early: Bytes) -> Self {
        Self { socket, buffer: early.into(), sip: LITTLE }
    }

    /// The next frame.
    pub(super) async fn next(&mut self) -> Result<Frame, Left> {
        loop {
            if let Some(frame) = take(&mut self.buffer).map_err(Left::Bad)? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// The socket itself.
    pub(super) fn socket(&self) -> &UnixStream {
        self.socket.as_ref()
    }

    async fn fill(&mut self) -> Result<(), Left> {
        loop {
            // A buffer that is held only while there is something to read keeps a silent client small.
            self.socket.ready(Interest::READABLE).await.map_err(|_| Left::Gone)?;
            self.buffer.reserve(self.sip);
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(Left::Gone),
                Ok(count) => {
                    if count >= self.sip {
                        self.sip = MUCH;
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.buffer.is_empty() {
                        self.buffer = BytesMut::new();
                    }
                }
                Err(_) => return Err(Left::Gone),
            }
        }
    }
}

/// The first frame of `buffer`, if it is all there. Input is not copied.
fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, BadFrame> {
    let Some((frame, taken)) = FromClient::decode(buffer)? else { return Ok(None) };
    let frame = match frame {
        FromClient::Stdin(_) => {
            let mut bytes = buffer.split_to(taken).freeze();
            bytes.advance(HEADER);
            return Ok(Some(Frame::Stdin(bytes)));
        }
        FromClient::StdinEnd => Frame::StdinEnd,
        FromClient::Closed(output) => Frame::Closed(output),
        FromClient::Signal(name) => Frame::Signal(name.to_owned()),
        FromClient::Window(size) => Frame::Window(size),
        FromClient::Rekey => Frame::Rekey,
    };
    buffer.advance(taken);
    Ok(Some(frame))
}
