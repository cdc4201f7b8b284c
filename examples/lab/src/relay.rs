//! A TCP relay that adds a round-trip time to a loopback path, and can be cut
//! or frozen: loopback hides what a distant proxy costs, and how paths die.
//!
//! Bandwidth is not limited. Half of the round trip is added each way, and a
//! whole one to the connect. Half-close passes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// What is read at a time.
const CHUNK: usize = 256 * 1024;
/// Chunks on their way in one direction: 64 MiB when they are full, which is
/// 1.6 GB/s at 40 ms each way.
const IN_FLIGHT: usize = 256;

/// What the relay does with the bytes it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Everything passes.
    Open,
    /// Nothing passes, nothing is closed: a path that went silent.
    Frozen,
    /// Open connections are reset, and new ones too.
    Cut,
}

/// A relay at work; dropping it closes everything it carries.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    task: AbortHandle,
}

/// Starts a relay from `listener` to `target` that adds the round-trip time `rtt`.
///
/// # Errors
/// When the listener has no address.
pub fn start(listener: TcpListener, target: SocketAddr, rtt: Duration) -> io::Result<Relay> {
    let address = listener.local_addr()?;
    let mode = Arc::new(watch::Sender::new(Mode::Open));
    let task = tokio::spawn(accept(listener, target, rtt, Arc::clone(&mode)));
    Ok(Relay { address, mode, task: task.abort_handle() })
}

impl Relay {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every open connection, and every new one until [`Relay::resume`].
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Stops forwarding and keeps every connection open: both sides wait for
    /// the other, as when a NAT gateway has forgotten them.
    pub fn freeze(&self) {
        self.mode.send_replace(Mode::Frozen);
    }

    /// Forwards again, what was held first.
    pub fn resume(&self) {
        self.mode.send_replace(Mode::Open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, rtt: Duration, mode: Arc<watch::Sender<Mode>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(carry(client, target, rtt, mode.subscribe()));
                }
                // Out of descriptors: they come back when connections end.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection from accept to its end.
async fn carry(mut client: TcpStream, target: SocketAddr, rtt: Duration, mut mode: watch::Receiver<Mode>) {
    let _ = client.set_nodelay(true);
    let mut server = None;
    let work = forward(&mut client, &mut server, target, rtt, mode.clone());
    tokio::select! {
        () = work => return,
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
    // A reset, not a polite end, is what a cut path gives.
    for socket in [Some(client), server].iter().flatten() {
        let _ = socket.set_zero_linger();
    }
}

/// Connects to the target, and carries both directions to their end.
async fn forward(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    target: SocketAddr,
    rtt: Duration,
    mut mode: watch::Receiver<Mode>,
) {
    sleep(rtt).await;
    open(&mut mode).await;
    let Ok(connected) = TcpStream::connect(target).await else { return };
    let _ = connected.set_nodelay(true);
    let (server_in, server_out) = server.insert(connected).split();
    let (client_in, client_out) = client.split();
    tokio::join!(
        direction(client_in, server_out, rtt / 2, mode.clone()),
        direction(server_in, client_out, rtt / 2, mode.clone()),
    );
}

/// Carries one direction to its end of file, each chunk `delay` after it came.
async fn direction(from: ReadHalf<'_>, to: WriteHalf<'_>, delay: Duration, mode: watch::Receiver<Mode>) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::join!(read(from, sender, delay), write(receiver, to, mode));
}

async fn read(mut from: ReadHalf<'_>, queue: mpsc::Sender<(Instant, Bytes)>, delay: Duration) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let due = Instant::now() + delay;
        if queue.send((due, buffer.split().freeze())).await.is_err() {
            return;
        }
    }
}

async fn write(
    mut queue: mpsc::Receiver<(Instant, Bytes)>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
) {
    while let Some((due, chunk)) = queue.recv().await {
        // Tokio's timer counts in milliseconds: with no delay there is nothing to wait for.
        if due > Instant::now() {
            sleep_until(due).await;
        }
        open(&mut mode).await;
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
    open(&mut mode).await;
    let _ = to.shutdown().await;
}

/// Waits until bytes may pass.
async fn open(mode: &mut watch::Receiver<Mode>) {
    let _ = mode.wait_for(|mode| *mode == Mode::Open).await;
}
