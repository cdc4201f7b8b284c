//! The way through a load balancer that ends TLS: HTTP turns the connection into a tunnel to the proxy, and TLS with the
//! proxy begins anew inside it (RFD 0123; api/client/alpn_conn_upgrade.go and lib/web/conn_upgrade.go, 14).
//!
//! Two kinds of tunnel are asked for at once, and the answer says which it is: a WebSocket, which newer proxies offer,
//! and frames with their length in front, an empty one now and then to keep the balancer from forgetting it.

use super::tls::{self, Io};
use crate::config::TlsRouting;
use crate::ssh::CLOSED;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use http_body_util::Empty;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use sha1::{Digest as _, Sha1};
use std::future::ready;
use std::io;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

const PATH: &str = "/webapi/connectionupgrade";
/// The tunnel with pings: a trunk may be silent for longer than a load balancer waits.
const TUNNEL: &str = "alpn-ping";
/// For balancers that take away the `Upgrade` that they do not know.
const TELEPORT_UPGRADE: &str = "X-Teleport-Upgrade";
/// RFC 6455, 1.3.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Asks for a tunnel to the proxy, through what answers at its address.
///
/// # Errors
/// `HostKey` where no authority of the machine's has signed what the balancer shows, `Protocol` where it offers no tunnel,
/// `Timeout`.
pub(super) async fn tunnel(
    stream: TcpStream,
    server: &NodeAddr,
    settings: &TlsRouting,
    deadline: Instant,
) -> Result<Box<dyn Io>, Failure> {
    let asked = timeout_at(deadline, ask(stream, server, settings)).await;
    asked.unwrap_or_else(|_| {
        let text = format!("proxy {server} did not answer during the connection upgrade");
        Err(Failure::new(FailureKind::Timeout, text))
    })
}

async fn ask(stream: TcpStream, server: &NodeAddr, settings: &TlsRouting) -> Result<Box<dyn Io>, Failure> {
    let outer = tls::connect_to_balancer(stream, server, settings).await?;
    let key = BASE64.encode(rand::random::<[u8; 16]>());
    let broken = |error: hyper::Error| {
        let text = format!("proxy {server} broke off the connection upgrade: {}", in_words(&error));
        Failure::new(FailureKind::Unreachable, text)
    };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(outer)).await;
    let (mut sender, connection) = handshake.map_err(broken)?;
    // It ends with the tunnel, which it becomes.
    tokio::spawn(connection.with_upgrades());
    let request = request(server, &key).map_err(|error| {
        let text = format!("proxy {server} cannot be asked for a connection upgrade: {error}");
        Failure::new(FailureKind::Config, text).hint("natssh config show")
    })?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let kind =
        Kind::of(answer.status(), answer.headers(), &key).map_err(|why| refused(server, &answer, &why))?;
    let upgraded = hyper::upgrade::on(answer).await.map_err(broken)?;
    Ok(kind.over(upgraded).await)
}

/// The library has three names for a peer that hung up.
fn in_words(error: &hyper::Error) -> String {
    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        return CLOSED.into();
    }
    error.to_string()
}

fn request(server: &NodeAddr, key: &str) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    Request::get(PATH)
        .header(HOST, server.to_string())
        // The one that is preferred comes first.
        .header(UPGRADE, "websocket")
        .header(UPGRADE, TUNNEL)
        .header(TELEPORT_UPGRADE, TUNNEL)
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_PROTOCOL, TUNNEL)
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key)
        .body(Empty::new())
}

fn refused(server: &NodeAddr, answer: &Response<hyper::body::Incoming>, why: &str) -> Failure {
    let kind = match answer.status() {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => FailureKind::Busy,
        _ => FailureKind::Protocol,
    };
    Failure::new(kind, format!("proxy {server} gave no connection upgrade: {why}"))
}

/// What the connection has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    WebSocket,
    Frames,
}

impl Kind {
    /// Reads the answer; why it is none.
    fn of(status: StatusCode, headers: &HeaderMap, key: &str) -> Result<Self, String> {
        match status {
            StatusCode::SWITCHING_PROTOCOLS => {}
            StatusCode::NOT_FOUND => return Err("it knows none (HTTP 404), as before Teleport 12".into()),
            other => return Err(format!("HTTP {other}")),
        }
        let has = |name, value: &str| {
            headers.get_all(name).iter().any(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
        };
        if has(&UPGRADE, TUNNEL)
            || headers.get_all(TELEPORT_UPGRADE).iter().any(|found| found == TUNNEL)
                && !has(&UPGRADE, "websocket")
        {
            return Ok(Self::Frames);
        }
        if !has(&UPGRADE, "websocket") {
            return Err("it answered with a tunnel that was not asked for".into());
        }
        let accept = BASE64.encode(Sha1::digest(format!("{key}{WEBSOCKET_GUID}")));
        if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|found| found != &accept) {
            return Err("its WebSocket is an answer to somebody else's question".into());
        }
        if !has(&SEC_WEBSOCKET_PROTOCOL, TUNNEL) {
            return Err("its WebSocket leads to no proxy".into());
        }
        Ok(Self::WebSocket)
    }

    async fn over(self, upgraded: Upgraded) -> Box<dyn Io> {
        let stream = TokioIo::new(upgraded);
        match self {
            Self::Frames => {
                let (sink, frames) = Framed::new(stream, LengthDelimitedCodec::new()).split();
                // An empty one is a ping, and there is no end of file in it.
                let frames =
                    frames.filter(|frame| ready(!frame.as_ref().is_ok_and(|frame| frame.is_empty())));
                joined(frames, sink)
            }
            Self::WebSocket => {
                let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
                let (sink, messages) = socket.split();
                let bytes = messages.filter_map(|message| {
                    // The library answers pings by itself.
                    ready(match message {
                        Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
                        Ok(_) => None,
                        Err(error) => Some(Err(in_io(error))),
                    })
                });
                let sink = sink.with(|bytes: Bytes| ready(Ok(Message::Binary(bytes)))).sink_map_err(in_io);
                joined(bytes, sink)
            }
        }
    }
}

/// Both directions as one stream of bytes.
fn joined<B: bytes::Buf + Send + Unpin + 'static>(
    from: impl Stream<Item = io::Result<B>> + Send + Unpin + 'static,
    to: impl Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
) -> Box<dyn Io> {
    Box::new(tokio::io::join(StreamReader::new(from), SinkWriter::new(CopyToBytes::new(to))))
}

fn in_io(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            io::ErrorKind::UnexpectedEof.into()
        }
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (hyper::header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_balancer_that_says_nothing_is_given_up_in_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (server, settings) = (NodeAddr { host: "localhost".into(), port }, TlsRouting::default());
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        let failure = tunnel(stream, &server, &settings, deadline).await.err().unwrap();
        assert_eq!((failure.kind, Instant::now()), (FailureKind::Timeout, deadline));
        assert_eq!(failure.message, format!("proxy {server} did not answer during the connection upgrade"));
    }

    #[test]
    fn the_answer_says_which_tunnel_it_is_or_why_there_is_none() {
        let switched = |pairs: &[_]| Kind::of(StatusCode::SWITCHING_PROTOCOLS, &headers(pairs), KEY);
        // RFC 6455, 1.3: the key's answer.
        let accept = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let (websocket, protocol) = (("upgrade", "websocket"), ("sec-websocket-protocol", "alpn-ping"));
        assert_eq!(switched(&[websocket, accept, protocol]), Ok(Kind::WebSocket));
        assert_eq!(switched(&[("upgrade", "alpn-ping"), ("connection", "Upgrade")]), Ok(Kind::Frames));
        assert_eq!(switched(&[("x-teleport-upgrade", "alpn-ping")]), Ok(Kind::Frames));
        for (pairs, words) in [
            (&[websocket, protocol][..], "somebody else's"),
            (&[websocket, ("sec-websocket-accept", "x"), protocol], "somebody else's"),
            (&[websocket, accept], "leads to no proxy"),
            (&[websocket, accept, ("sec-websocket-protocol", "chat")], "leads to no proxy"),
            (&[("upgrade", "h2c")], "not asked for"),
            (&[], "not asked for"),
        ] {
            let why = switched(pairs).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        let none = |status| Kind::of(status, &HeaderMap::new(), KEY).unwrap_err();
        assert!(none(StatusCode::NOT_FOUND).contains("before Teleport 12"));
        assert_eq!(none(StatusCode::BAD_GATEWAY), "HTTP 502 Bad Gateway");
    }
}
