//! The clients' listener: one SSH connection for each socket, and the means to
//! close a socket from outside.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream as Socket};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use russh::server::{Config, run_stream};
use ssh_key::public::KeyData;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::either::Either;

use super::connection::Connection;
use super::nodes::Nodes;
use super::tally::{Tally, count};
use super::tls::Routing;
use super::{Face, Policy, TlsRouting, algorithms, watchman};
use crate::ca::{Authority, Credential};

/// A client that says nothing for so long is hung up on: the real listener is
/// shared with other protocols, and waits to learn which one this is.
pub(super) const FIRST_WORD: Duration = Duration::from_secs(3);

/// What every connection of a proxy shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) face: Face,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) policy: watch::Receiver<Policy>,
    pub(crate) tally: Tally,
    pub(crate) lines: Lines,
    identity: Mutex<Identity>,
}

/// Who the proxy is and whom it trusts; a connection keeps what it began with.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: Arc<str>,
    pub(crate) user_ca: Arc<KeyData>,
    config: Arc<Config>,
    tls: Option<Routing>,
    host: Credential,
    face: Face,
}

impl Identity {
    /// The proxy of `authority`'s cluster, proving itself with `host`.
    pub(crate) fn new(
        authority: &Authority,
        host: Credential,
        tls: Option<Routing>,
        face: Face,
        keepalive: Duration,
    ) -> Self {
        Self {
            tls,
            cluster: authority.cluster().into(),
            user_ca: Arc::new(authority.user_ca().key_data().clone()),
            config: Arc::new(algorithms::config(face, &host, keepalive)),
            host,
            face,
        }
    }

    /// Sets the interval of keepalives.
    pub(crate) fn keepalive(&mut self, keepalive: Duration) {
        self.config = Arc::new(algorithms::config(self.face, &self.host, keepalive));
    }
}

impl Shared {
    pub(crate) fn new(
        identity: Identity,
        face: Face,
        nodes: Arc<Nodes>,
        policy: watch::Receiver<Policy>,
    ) -> Arc<Self> {
        Arc::new(Self {
            face,
            nodes,
            policy,
            tally: Tally::default(),
            lines: Lines::default(),
            identity: Mutex::new(identity),
        })
    }

    /// Changes what the next connections see.
    pub(crate) fn renew(&self, change: impl FnOnce(&mut Identity)) {
        change(&mut self.identity.lock().unwrap_or_else(|e| e.into_inner()));
    }

    pub(crate) fn tls_routing(&self) -> TlsRouting {
        self.identity().tls.map_or(TlsRouting::Off, |routing| routing.kind())
    }

    fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// The sockets of open connections, kept so that they can be closed.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<Numbered>);

#[derive(Debug, Default)]
struct Numbered {
    last: u64,
    sockets: HashMap<u64, Socket>,
}

impl Lines {
    /// Closes every one of them.
    pub(crate) fn close_all(&self) {
        for socket in self.lock().sockets.values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn close(&self, number: u64) {
        if let Some(socket) = self.lock().sockets.get(&number) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn add(&self, socket: Socket) -> u64 {
        let mut lines = self.lock();
        lines.last += 1;
        let number = lines.last;
        lines.sockets.insert(number, socket);
        number
    }

    fn remove(&self, number: u64) {
        self.lock().sockets.remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// Takes clients for as long as the proxy lives.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
                // Out of descriptors: they come back when connections end.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection from accept to its end.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    count(&shared.tally.connections);
    let _ = stream.set_nodelay(true);
    let Some((stream, socket)) = twice(stream) else { return };
    let line = Line::open(&shared, socket);
    let identity = shared.identity();
    let stream = match &identity.tls {
        Some(routing) => match routing.accept(stream).await {
            Ok(Some(stream)) => Either::Right(stream),
            Ok(None) => return,
            Err(error) => return tracing::debug!("a client did not get through TLS: {error}"),
        },
        None if speaks_ssh(&stream).await => Either::Left(stream),
        None => return,
    };
    let config = Arc::clone(&identity.config);
    let connection = Connection::new(Arc::clone(&shared), identity);
    let channels = connection.channels();
    // Go's library reads through a buffer too; this one asks the system for each packet's length.
    match run_stream(config, BufReader::new(stream), connection).await {
        Ok(session) => {
            tokio::select! {
                ended = session => if let Err(error) = ended {
                    tracing::debug!("a client's connection ended: {error}");
                },
                reason = watchman::watch(channels, shared.policy.clone()) => {
                    tracing::info!("closed a client's connection: {reason}");
                    count(&shared.tally.evicted);
                    shared.lines.close(line.number);
                }
            }
        }
        Err(error) => tracing::debug!("a client did not get far: {error}"),
    }
}

/// Whether the client begins as one of SSH does, and in time.
async fn speaks_ssh(stream: &TcpStream) -> bool {
    let mut first = [0; 4];
    match timeout(FIRST_WORD, stream.peek(&mut first)).await {
        Ok(Ok(n)) => n > 0 && b"SSH-".starts_with(&first[..n]),
        _ => false,
    }
}

/// A socket and a second handle to it, by which it can be closed.
fn twice(stream: TcpStream) -> Option<(TcpStream, Socket)> {
    let socket = stream.into_std().ok()?;
    let stream = TcpStream::from_std(socket.try_clone().ok()?).ok()?;
    Some((stream, socket))
}

/// An open connection, counted and closable. When it is dropped the socket
/// closes, because the library's own task may outlive this one.
struct Line<'a> {
    shared: &'a Shared,
    number: u64,
}

impl<'a> Line<'a> {
    fn open(shared: &'a Shared, socket: Socket) -> Self {
        count(&shared.tally.connections_open);
        let number = shared.lines.add(socket);
        Self { shared, number }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.shared.lines.close(self.number);
        self.shared.lines.remove(self.number);
        self.shared.tally.connections_open.fetch_sub(1, Relaxed);
    }
}
