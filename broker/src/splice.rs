//! Bytes between a local socket and a stream to a node, until both have ended.
//!
//! Closing one direction is not closing both: a client that has sent its last
//! byte still reads, and the node hears of it as an end of file.

#[cfg(test)]
mod tests;
mod traffic;

pub use traffic::Traffic;

use crate::ssh::{Channel, End};
use crate::upstream::{Pipes, Process};
use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, copy, sink};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use traffic::Counted;

/// The largest packet that OpenSSH and Go's library take.
const PACKET: usize = 32 << 10;
/// How often a half-closed client is looked at: a whole close does not show on
/// a socket whose end of file was read already.
const HALF_CLOSED_TICK: Duration = Duration::from_millis(500);
/// How long the other side has to close a stream that the client has left, so
/// that the channel ends in good order, and a client to read what came before a cut.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// How long after a command's end its client is still taken to have left first.
const GOODBYE: Duration = Duration::from_millis(50);
/// An SSH server speaks first, so this is never in order.
const CLOSED_WITHOUT_A_WORD: &str = "it closed the connection without a word, as an sshd does to which too many \
     connections come at once (MaxStartups)";
/// A client that leaves a node before it has spoken, and sooner than this, had a reason of its own.
pub const PATIENT: Duration = Duration::from_secs(2);

/// How a splice ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// One side closed in good order, and the other followed.
    Done,
    /// The stream was cut under its client; why.
    Cut(String),
}

/// Carries bytes between a client and a channel. `early` are bytes of the
/// client's that were read together with its request.
pub async fn channel(client: UnixStream, early: Bytes, channel: &Channel, traffic: &Traffic) -> Ended {
    let begun = Instant::now();
    traffic.add_to_node(early.len() as u64);
    let (mut read, mut write) = client.into_split();
    let outbound = async {
        let mut left = early.is_empty() || channel.write(early).await.is_ok();
        left = left && pump_out(&mut read, channel, traffic).await.is_ok();
        if left && channel.finish_writing().await.is_ok() {
            hung_up(read.as_ref()).await;
        }
    };
    let inbound = pump_in(channel, &mut write, traffic);
    let ended = tokio::select! {
        () = inbound => wordless(traffic, CLOSED_WITHOUT_A_WORD.into()),
        () = cut_short(channel) => Ended::Done,
        () = outbound => {
            // The client is gone. The node closes when it has seen its end of file.
            let farewell = async {
                while channel.read().await.is_some() {}
                channel.closed().await;
            };
            drop(timeout(FAREWELL, farewell).await);
            given_up(traffic, begun.elapsed())
        }
    };
    match channel.ended() {
        Some(End::Cut(reason)) => Ended::Cut(reason.to_string()),
        _ => ended,
    }
}

/// The end of a stream that the node has closed: in order if it had spoken to a client that had.
fn wordless(traffic: &Traffic, reason: String) -> Ended {
    if traffic.to_node() > 0 && traffic.from_node() == 0 { Ended::Cut(reason) } else { Ended::Done }
}

/// The end of a stream that the client has left: ssh's own clock says less than this of a node that was silent.
fn given_up(traffic: &Traffic, lasted: Duration) -> Ended {
    if lasted < PATIENT {
        return Ended::Done;
    }
    let seconds = lasted.as_secs();
    wordless(
        traffic,
        format!("it said nothing for {seconds} s, and the client gave up; the node may be frozen"),
    )
}

/// Client to channel, until the client's end of file. An error if the channel ended.
async fn pump_out(client: &mut OwnedReadHalf, channel: &Channel, traffic: &Traffic) -> Result<(), ()> {
    let mut buffer = BytesMut::new();
    loop {
        // A buffer that is held only while there is something to read keeps
        // an idle stream small.
        if client.ready(Interest::READABLE).await.is_err() {
            return Ok(());
        }
        if buffer.capacity() < PACKET / 4 {
            buffer = BytesMut::with_capacity(PACKET);
        }
        match read_now(client, &mut buffer).await {
            Some(Ok(read)) if read > 0 => {
                traffic.add_to_node(read as u64);
                channel.write(buffer.split().freeze()).await.map_err(drop)?;
            }
            // Its end of file, or a client that was killed, which is the same.
            Some(_) => return Ok(()),
            // Nothing is there after all, or this task has had its turn (tokio's reads count), which only
            // yielding gives back.
            None => {
                buffer = BytesMut::new();
                yield_now().await;
            }
        }
    }
}

/// What is there to be read, if anything is. Other than `try_read_buf` it notices a socket that a short
/// read has emptied, and does not ask it again.
async fn read_now(client: &mut OwnedReadHalf, buffer: &mut BytesMut) -> Option<io::Result<usize>> {
    let mut read = pin!(client.read_buf(buffer));
    poll_fn(|cx| match read.as_mut().poll(cx) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Channel to client, until the channel's last byte or until the client takes no more.
async fn pump_in(channel: &Channel, client: &mut OwnedWriteHalf, traffic: &Traffic) {
    while let Some(bytes) = channel.read().await {
        if client.write_all(&bytes).await.is_err() {
            return;
        }
        traffic.add_from_node(bytes.len() as u64);
    }
    drop(client.shutdown().await);
    // An end of file leaves the other direction open; a close does not.
    if channel.ended().is_none() {
        channel.closed().await;
    }
}

/// Waits until a stream was cut, and then for as long as its client may take
/// over what had arrived: one that reads nothing must not hide the cut.
async fn cut_short(channel: &Channel) {
    match channel.closed().await {
        End::Cut(_) => tokio::time::sleep(FAREWELL).await,
        End::Closed => std::future::pending().await,
    }
}

/// Waits until a client whose end of file was read, or that is not read, has closed the other direction too.
pub async fn hung_up(client: &UnixStream) {
    while !has_hung_up(client) {
        tokio::time::sleep(HALF_CLOSED_TICK).await;
    }
}

/// Whether a client has closed both directions.
#[must_use]
pub fn has_hung_up(client: &UnixStream) -> bool {
    let mut fds = [PollFd::new(client, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Carries bytes between a client and a TCP connection.
pub async fn tcp(client: UnixStream, early: Bytes, mut node: TcpStream, traffic: &Traffic) -> Ended {
    let begun = Instant::now();
    traffic.add_to_node(early.len() as u64);
    let (mut from_node, mut to_node) = node.split();
    let (read, write) = client.into_split();
    let (mut read, mut write) = (Counted::new(read, traffic), Counted::new(write, traffic));
    let (client_finished, node_finished) = (Notify::new(), AtomicBool::new(false));
    let outbound = async {
        to_node.write_all(&early).await?;
        copy(&mut read, &mut to_node).await?;
        to_node.shutdown().await?;
        client_finished.notify_one();
        hung_up(read.inner().as_ref()).await;
        io::Result::Ok(())
    };
    let inbound = async {
        copy(&mut from_node, &mut write).await?;
        node_finished.store(true, Relaxed);
        write.shutdown().await?;
        client_finished.notified().await;
        io::Result::Ok(())
    };
    let all = tokio::select! {
        all = inbound => all,
        all = outbound => all,
    };
    match all {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Ended::Cut("the node stopped answering".into())
        }
        _ if node_finished.load(Relaxed) => wordless(traffic, CLOSED_WITHOUT_A_WORD.into()),
        // A reset by either side is how many programs say goodbye.
        left => {
            // Of a client that is gone, the node hears now, and a server counts it until it has closed too.
            drop(to_node.shutdown().await);
            drop(timeout(FAREWELL, copy(&mut from_node, &mut sink())).await);
            match left {
                Ok(()) => given_up(traffic, begun.elapsed()),
                Err(_) => wordless(traffic, CLOSED_WITHOUT_A_WORD.into()),
            }
        }
    }
}

/// Carries bytes between a client and a ProxyCommand.
pub async fn command(client: UnixStream, early: Bytes, mut process: Process, traffic: &Traffic) -> Ended {
    let Some(Pipes { first, mut stdin, mut stdout }) = process.pipes() else { return Ended::Done };
    let (read, write) = client.into_split();
    let (mut read, mut write) = (Counted::new(read, traffic), Counted::new(write, traffic));
    traffic.add_to_node(early.len() as u64);
    let left = Notify::new();
    let outbound = async {
        // A command that takes no more may still have something to say.
        if stdin.write_all(&early).await.is_ok() && copy(&mut read, &mut stdin).await.is_ok() {
            left.notify_one();
        }
        drop(stdin);
        hung_up(read.inner().as_ref()).await;
    };
    let inbound = async {
        if write.write_all(&first).await.is_err() || copy(&mut stdout, &mut write).await.is_err() {
            return None;
        }
        // A client that says goodbye in its last packet is gone a moment after its server.
        let parted = timeout(GOODBYE, left.notified()).await.is_ok();
        drop(write.shutdown().await);
        process.exited().await;
        if parted { None } else { process.cut().await }
    };
    tokio::select! {
        reason = inbound => reason.map_or(Ended::Done, Ended::Cut),
        () = outbound => {
            // The client is gone. The command ends when it has seen its end of file.
            let farewell = async {
                drop(copy(&mut stdout, &mut sink()).await);
                process.exited().await;
            };
            drop(timeout(FAREWELL, farewell).await);
            Ended::Done
        }
    }
}
