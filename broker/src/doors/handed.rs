//! A client that holds its stream while the upstream is still asked for the node.
//!
//! It speaks SSH: what it says first is sent after the question, and a refusal
//! reaches it as an SSH server's would. Nobody else could tell it: the process
//! that asked for the stream has handed it on and is gone.

use crate::reach::Opened;
use crate::splice::{FAREWELL, hung_up};
use crate::ssh::{Waiting, refuse};
use bytes::{Bytes, BytesMut};
use natssh_wire::Failure;
use std::future::Future;
use std::io;
use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// An identification is no longer (RFC 4253, 4.2); what comes behind it can wait.
const IDENTIFICATION: usize = 255;

/// Passes on what the client says first until `opening` has come to its end. Nothing if the client has left before.
pub(super) async fn verdict(
    client: &UnixStream,
    read: Bytes,
    waiting: &Waiting,
    opening: impl Future<Output = Result<Opened, Failure>>,
) -> Option<Result<Opened, Failure>> {
    let leaves = async {
        let said = if read.is_empty() { first_bytes(client).await.unwrap_or_default() } else { read };
        if !said.is_empty() {
            waiting.say(said);
        }
        hung_up(client).await;
    };
    tokio::select! {
        verdict = opening => Some(verdict),
        () = leaves => None,
    }
}

/// What there is to read, once there is something; nothing at the end.
async fn first_bytes(client: &UnixStream) -> io::Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(IDENTIFICATION);
    loop {
        client.readable().await?;
        match client.try_read_buf(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.map(|_| buffer.freeze()),
        }
    }
}

/// Tells the client why there is no node.
///
/// It writes before it reads: were the socket closed at once, its greeting would break on it, and the reason stay
/// unread behind that.
pub(super) async fn tell(mut client: UnixStream, failure: &Failure) {
    let told = async {
        client.write_all(&refuse(&format!("natssh: {failure}"))).await?;
        client.shutdown().await?;
        copy(&mut client, &mut sink()).await
    };
    drop(timeout(FAREWELL, told).await);
}
