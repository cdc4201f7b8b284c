//! What can happen to the bytes of a server on their way.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::WriteHalf;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

/// So many of the server's bytes pass; then something happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoil {
    /// How many.
    pub after: usize,
    /// What.
    pub then: Then,
}

/// What happens in the place of the server's further bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// A reset.
    Reset,
    /// An end of file, and nothing is read any more.
    End,
    /// Nothing: half of a connection.
    Silence,
    /// These bytes, and then nothing.
    Say(Bytes),
    /// They come one at a time, this far apart.
    Trickle(Duration),
}

impl Then {
    /// Takes over the direction to the client, whose next bytes would be `chunk` and the queue's.
    pub(super) async fn happen(
        self,
        chunk: Bytes,
        queue: &mut mpsc::Receiver<(Instant, Bytes)>,
        to: &mut WriteHalf<'_>,
        spoilt: &Notify,
    ) {
        match self {
            Self::Reset => spoilt.notify_one(),
            Self::End => {
                let _ = to.shutdown().await;
            }
            Self::Silence => {}
            Self::Say(bytes) => {
                let _ = to.write_all(&bytes).await;
            }
            Self::Trickle(pause) => {
                let mut next = Some(chunk);
                while let Some(chunk) = next {
                    for byte in chunk {
                        if to.write_u8(byte).await.is_err() {
                            return;
                        }
                        sleep(pause).await;
                    }
                    next = queue.recv().await.map(|(_, chunk)| chunk);
                }
                return;
            }
        }
        // Only the client, or a reset, ends the connection now.
        pending::<()>().await;
    }
}
