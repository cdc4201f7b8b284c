//! The web listener of a proxy with TLS routing: which protocol a client is led to.
//!
//! The client's list decides, in the client's order; the first that is known wins. The
//! SSH listener shows the host certificate and selects no protocol; the web pages show
//! a certificate of their own (lib/srv/alpnproxy/proxy.go, `getHandleDescBasedOnALPNVal`, 14).
//!
//! Behind a load balancer that ends TLS there are web pages alone, and one of them turns the
//! connection into a tunnel to the same listener (lib/web/conn_upgrade.go, 14; WebSockets came later).

use std::io;
use std::sync::Arc;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use sha1::{Digest as _, Sha1};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::time::{Duration, interval, timeout};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::TlsRouting;
use super::listen::FIRST_WORD;
use crate::ca::Authority;

/// The longest head of a request that is read.
const HEAD: usize = 16 * 1024;
/// How often a tunnel is kept from being forgotten: 30 s in Teleport, and here soon enough for a test to see some.
const PING: Duration = Duration::from_millis(250);
/// What waits in a tunnel in one direction.
const CARRIED: usize = 256 * 1024;

/// A stream of bytes, whatever carries it.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Who the listener is.
#[derive(Clone, Debug)]
pub(crate) struct Routing {
    kind: TlsRouting,
    ssh: Arc<ServerConfig>,
    web: Arc<ServerConfig>,
}

/// Where a client is led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Ssh,
    Web,
}

impl Routing {
    /// That of a proxy of this cluster; none where it has an SSH listener of its own.
    pub(crate) fn new(
        kind: TlsRouting,
        authority: &Authority,
        uuid: &str,
        public_names: &[&str],
    ) -> Result<Option<Self>> {
        if kind == TlsRouting::Off {
            return Ok(None);
        }
        let ssh = Arc::new(authority.tls().host_config(authority.cluster(), uuid, public_names)?);
        Ok(Some(Self { kind, ssh, web: Arc::new(authority.tls().web_config()?) }))
    }

    /// What stands where clients come in.
    pub(crate) fn kind(&self) -> TlsRouting {
        self.kind
    }

    /// Shakes hands with a client; none of one that was led elsewhere, and served there.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Option<Box<dyn Io>>> {
        if !self.kind.is_balanced() {
            return self.lead(stream).await;
        }
        let outer = in_time(TlsAcceptor::from(self.web.clone()).accept(stream)).await?;
        match in_time(self.upgrade(BufReader::new(outer))).await? {
            Some(tunnel) => self.lead(tunnel).await,
            None => Ok(None),
        }
    }

    /// Leads a client to where its list says.
    async fn lead<S: Io + 'static>(&self, stream: S) -> io::Result<Option<Box<dyn Io>>> {
        let hello = in_time(LazyConfigAcceptor::new(Acceptor::default(), stream)).await?;
        let asked: Vec<Vec<u8>> =
            hello.client_hello().alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
        match way(&asked) {
            Some(Way::Ssh) => {
                let stream: TlsStream<S> = in_time(hello.into_stream(self.ssh.clone())).await?;
                Ok(Some(Box::new(stream)))
            }
            Some(Way::Web) => {
                let mut stream = BufReader::new(in_time(hello.into_stream(self.web.clone())).await?);
                in_time(head(&mut stream)).await?;
                not_found(&mut stream).await?;
                Ok(None)
            }
            None => {
                // The real one hangs up without a word.
                tracing::warn!(?asked, "failed to find ALPN handler");
                Ok(None)
            }
        }
    }

    /// Reads a request, and makes a tunnel where it is for one.
    async fn upgrade(&self, mut stream: BufReader<TlsStream<TcpStream>>) -> io::Result<Option<Box<dyn Io>>> {
        let head = head(&mut stream).await?;
        let mut lines = head.lines();
        let is_upgrade = lines.next() == Some("GET /webapi/connectionupgrade HTTP/1.1");
        let headers: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
        let all = |name: &str| {
            let name = name.to_owned();
            headers
                .iter()
                .filter(move |(found, _)| found.eq_ignore_ascii_case(&name))
                .map(|(_, value)| *value)
        };
        let asked = |kind: &str| all("Upgrade").any(|value| value == kind);
        let tunnels = all("Connection").any(|value| value.eq_ignore_ascii_case("upgrade"));
        match self.kind {
            _ if !is_upgrade || !tunnels => {}
            TlsRouting::WebSocket if asked("websocket") => {
                let key = all("Sec-WebSocket-Key").next().unwrap_or_default();
                let accept =
                    BASE64.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
                let offered = all("Sec-WebSocket-Protocol").any(|value| value == "alpn-ping");
                if key.is_empty() || !offered {
                    not_found(&mut stream).await?;
                    return Ok(None);
                }
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: alpn-ping\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await?;
                stream.flush().await?;
                return Ok(Some(websocket(stream).await));
            }
            TlsRouting::Frames if asked("alpn-ping") => {
                // Headers as 14 writes them.
                let answer =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: alpn-ping\r\n\r\n";
                stream.write_all(answer.as_bytes()).await?;
                stream.flush().await?;
                return Ok(Some(frames(stream)));
            }
            _ => {}
        }
        not_found(&mut stream).await?;
        Ok(None)
    }
}

/// What a client says must come in time.
async fn in_time<T>(heard: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(FIRST_WORD, heard).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn head(stream: &mut BufReader<impl Io>) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 || head.len() > HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

async fn not_found(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(answer).await?;
    stream.shutdown().await
}

/// Frames with their length in front (api/utils/pingconn, 14); an empty one is a ping.
fn frames(stream: impl Io + 'static) -> Box<dyn Io> {
    tunnel(
        Framed::new(stream, LengthDelimitedCodec::new()),
        |frame| Some(frame.freeze()),
        |bytes| bytes,
        Bytes::new(),
    )
}

/// Binary messages, and pings of the protocol's own.
async fn websocket(stream: impl Io + 'static) -> Box<dyn Io> {
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let bytes = |message| match message {
        Message::Binary(bytes) => Some(bytes),
        _ => None,
    };
    tunnel(socket, bytes, Message::Binary, Message::Ping(Bytes::from_static(b"still there?")))
}

/// The bytes in a tunnel's messages, pinged for as long as it is open.
fn tunnel<S, I, O, E>(
    socket: S,
    bytes_of: fn(I) -> Option<Bytes>,
    message: fn(Bytes) -> O,
    ping: O,
) -> Box<dyn Io>
where
    S: Stream<Item = Result<I, E>> + Sink<O> + Send + 'static,
    I: Send + 'static,
    O: Clone + Send + Sync + 'static,
    E: Send + 'static,
    S::Error: Send,
{
    let (near, far) = tokio::io::duplex(CARRIED);
    let (mut from, mut to) = tokio::io::split(far);
    let (mut sink, mut messages) = socket.split();
    tokio::spawn(async move {
        let inward = async {
            while let Some(Ok(heard)) = messages.next().await {
                if let Some(bytes) = bytes_of(heard)
                    && to.write_all(&bytes).await.is_err()
                {
                    break;
                }
            }
            let _ = to.shutdown().await;
        };
        let outward = async {
            let mut ticks = interval(PING);
            let mut read = BytesMut::new();
            loop {
                let next = tokio::select! {
                    count = from.read_buf(&mut read) => match count {
                        Ok(0) | Err(_) => break,
                        Ok(_) => message(read.split().freeze()),
                    },
                    _ = ticks.tick() => ping.clone(),
                };
                if sink.send(next).await.is_err() {
                    break;
                }
            }
            let _ = sink.close().await;
        };
        tokio::join!(inward, outward)
    });
    Box::new(near)
}

fn way(asked: &[Vec<u8>]) -> Option<Way> {
    if asked.is_empty() {
        return Some(Way::Web);
    }
    asked.iter().find_map(|protocol| match protocol.as_slice() {
        b"teleport-proxy-ssh" => Some(Way::Ssh),
        b"http/1.1" | b"h2" | b"acme-tls/1" => Some(Way::Web),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_protocol_that_is_known_wins() {
        let asked =
            |list: &[&str]| way(&list.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(asked(&[]), Some(Way::Web));
        assert_eq!(asked(&["teleport-proxy-ssh"]), Some(Way::Ssh));
        assert_eq!(asked(&["h2", "teleport-proxy-ssh"]), Some(Way::Web));
        assert_eq!(asked(&["unheard-of", "teleport-proxy-ssh", "h2"]), Some(Way::Ssh));
        assert_eq!(asked(&["unheard-of"]), None);
    }
}
