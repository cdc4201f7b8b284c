//! A TCP relay that adds a round-trip time to a loopback path, and can be cut,
//! frozen or spoiled: loopback hides what a distant proxy costs, and how paths die.
//!
//! Bandwidth is not limited. Half of the round trip is added each way, and a
//! whole one to the connect. Half-close passes.

mod spoil;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

pub use spoil::{Spoil, Then};

/// What is read at a time.
const CHUNK: usize = 256 * 1024;
/// Chunks on their way in one direction: 64 MiB when they are full, which is
/// 1.6 GB/s at 40 ms each way.
const IN_FLIGHT: usize = 256;

/// What the relay does with its connections, which are counted from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    /// Nothing passes, nothing is closed: a path that went silent.
    frozen: bool,
    /// Connections before this one are reset.
    reset: u64,
    /// New ones are reset too.
    refusing: bool,
    /// Nothing passes on connections before this one.
    forgotten: u64,
    /// How many there were.
    accepted: u64,
    /// What happens to what the server says on new ones.
    spoil: Option<Spoil>,
}

/// A relay at work; dropping it closes everything it carries.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    task: AbortHandle,
}

/// Starts a relay from `listener` to `target` that adds the round-trip time `rtt`.
///
/// # Errors
/// When the listener has no address.
pub fn start(listener: TcpListener, target: SocketAddr, rtt: Duration) -> io::Result<Relay> {
    let address = listener.local_addr()?;
    let state = Arc::new(watch::Sender::new(State::default()));
    let task = tokio::spawn(accept(listener, target, rtt, Arc::clone(&state)));
    Ok(Relay { address, state, task: task.abort_handle() })
}

impl Relay {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every open connection, and every new one until [`Relay::resume`].
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.reset = state.accepted;
            state.refusing = true;
        });
    }

    /// Stops forwarding and keeps every connection open: both sides wait for
    /// the other, as when a path goes silent.
    pub fn freeze(&self) {
        self.state.send_modify(|state| state.frozen = true);
    }

    /// Forwards again, what was held first, and takes new connections as they are.
    pub fn resume(&self) {
        self.state.send_modify(|state| {
            (state.frozen, state.refusing, state.spoil) = (false, false, None);
        });
    }

    /// Lets open connections go silent for good, while new ones pass: a NAT
    /// gateway has forgotten them, or gives them another port.
    pub fn forget(&self) {
        self.state.send_modify(|state| state.forgotten = state.accepted);
    }

    /// Resets every open connection; what the server says on new ones comes to harm until [`Relay::resume`].
    pub fn spoil(&self, spoil: Spoil) {
        self.state.send_modify(|state| {
            state.reset = state.accepted;
            state.spoil = Some(spoil);
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, rtt: Duration, state: Arc<watch::Sender<State>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let mut number = 0;
                    state.send_modify(|state| {
                        number = state.accepted;
                        state.accepted += 1;
                        if state.refusing {
                            state.reset = state.accepted;
                        }
                    });
                    connections.spawn(carry(client, target, rtt, Path { number, state: state.subscribe() }));
                }
                // Out of descriptors: they come back when connections end.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The relay as one connection sees it.
#[derive(Clone)]
struct Path {
    number: u64,
    state: watch::Receiver<State>,
}

impl Path {
    /// Waits until bytes may pass.
    async fn open(&mut self) {
        let number = self.number;
        let _ = self.state.wait_for(|state| !state.frozen && number >= state.forgotten).await;
    }

    /// Waits until the connection is to be reset.
    async fn cut(&mut self) {
        let number = self.number;
        let _ = self.state.wait_for(|state| number < state.reset).await;
    }
}

/// One connection from accept to its end.
async fn carry(mut client: TcpStream, target: SocketAddr, rtt: Duration, mut path: Path) {
    let _ = client.set_nodelay(true);
    let (mut server, spoilt) = (None, Notify::new());
    let work = forward(&mut client, &mut server, target, rtt, path.clone(), &spoilt);
    tokio::select! {
        () = work => return,
        () = path.cut() => {}
        () = spoilt.notified() => {}
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
    mut path: Path,
    spoilt: &Notify,
) {
    let spoil = path.state.borrow().spoil.clone();
    sleep(rtt).await;
    path.open().await;
    let Ok(connected) = TcpStream::connect(target).await else { return };
    let _ = connected.set_nodelay(true);
    let (server_in, server_out) = server.insert(connected).split();
    let (client_in, client_out) = client.split();
    tokio::join!(
        direction(client_in, server_out, rtt / 2, path.clone(), None),
        direction(server_in, client_out, rtt / 2, path, spoil.map(|spoil| (spoil, spoilt))),
    );
}

/// Carries one direction to its end of file, each chunk `delay` after it came.
async fn direction(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    delay: Duration,
    path: Path,
    spoil: Option<(Spoil, &Notify)>,
) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::join!(read(from, sender, delay), write(receiver, to, path, spoil));
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
    mut path: Path,
    mut spoil: Option<(Spoil, &Notify)>,
) {
    // One that comes before the server's first byte does not wait for it.
    if let Some((spoil, spoilt)) = spoil.take_if(|(spoil, _)| spoil.after == 0) {
        return spoil.then.happen(Bytes::new(), &mut queue, &mut to, spoilt).await;
    }
    while let Some((due, mut chunk)) = queue.recv().await {
        // Tokio's timer counts in milliseconds: with no delay there is nothing to wait for.
        if due > Instant::now() {
            sleep_until(due).await;
        }
        path.open().await;
        if let Some((spoil, spoilt)) = &mut spoil {
            let good = chunk.split_to(chunk.len().min(spoil.after));
            spoil.after -= good.len();
            if to.write_all(&good).await.is_err() {
                return;
            }
            if spoil.after == 0 {
                return spoil.then.clone().happen(chunk, &mut queue, &mut to, spoilt).await;
            }
        }
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
    path.open().await;
    let _ = to.shutdown().await;
}
