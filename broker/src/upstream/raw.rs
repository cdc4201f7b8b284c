//! A stream to a node as plain bytes, for a session of natssh's own.
//!
//! A TCP connection is handed over as it is: a session's bytes are copied once less, and acknowledged at once.

use super::direct::OpenStream;
use super::prompt::Prompt;
use crate::metrics::Carried;
use crate::splice::Traffic;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The bytes of a stream.
pub enum Raw {
    /// A TCP connection.
    Tcp(Box<Tcp>),
    /// One end of a socket pair; the other is carried.
    Socket(UnixStream),
}

/// A TCP connection, counted for as long as it lives.
pub struct Tcp {
    socket: Prompt,
    counted: Arc<OpenStream>,
    traffic: Traffic,
    has_spoken: bool,
    _carried: Carried,
}

impl Tcp {
    /// That connection; its place in front of the node is `counted`'s.
    pub(super) fn new(socket: TcpStream, counted: Arc<OpenStream>, carried: Carried) -> Self {
        let traffic = Traffic::part_of(&carried.traffic);
        Self { socket: Prompt(socket), counted, traffic, has_spoken: false, _carried: carried }
    }

    fn read(&mut self, bytes: usize) {
        self.traffic.add_from_node(bytes as u64);
        if bytes > 0 && !self.has_spoken {
            self.has_spoken = true;
            self.counted.handshake().spoke();
        }
    }
}

impl AsyncRead for Raw {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => {
                let before = to.filled().len();
                ready!(Pin::new(&mut tcp.socket).poll_read(cx, to))?;
                tcp.read(to.filled().len() - before);
                Poll::Ready(Ok(()))
            }
            Self::Socket(socket) => Pin::new(socket).poll_read(cx, to),
        }
    }
}

impl AsyncWrite for Raw {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => {
                let written = ready!(Pin::new(&mut tcp.socket).poll_write(cx, bytes))?;
                tcp.traffic.add_to_node(written as u64);
                Poll::Ready(Ok(written))
            }
            Self::Socket(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => {
                let written = ready!(Pin::new(&mut tcp.socket).poll_write_vectored(cx, bytes))?;
                tcp.traffic.add_to_node(written as u64);
                Poll::Ready(Ok(written))
            }
            Self::Socket(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(&mut tcp.socket).poll_flush(cx),
            Self::Socket(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(&mut tcp.socket).poll_shutdown(cx),
            Self::Socket(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};
    use crate::reach::{Reach, Request};
    use crate::ssh::Early;
    use natssh_wire::NodeAddr;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    #[tokio::test]
    async fn a_session_s_bytes_over_tcp_are_counted_and_its_place_is_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let home = tempfile::tempdir().unwrap();
        let environment = Environment { home: home.path().to_owned(), ..Environment::default() };
        let reach = Reach::new(load(&environment).unwrap(), Arc::default(), home.path().join("state"));
        let deadline = Instant::now() + Duration::from_secs(30);
        let node = NodeAddr { host: "127.0.0.1".into(), port };
        let request = Request {
            node,
            login: None,
            agent: None,
            caller: None,
            early: Early::Nothing,
            begun: std::time::Instant::now(),
            deadline,
        };
        let opened = reach.open(request).await.unwrap();
        let carried = opened.carried.traffic.clone();
        let (mut near, shaken) = opened.stream.into_session(opened.carried).unwrap();
        assert!(matches!(near, Raw::Tcp(_)));
        let (mut far, _) = listener.accept().await.unwrap();
        let of_direct = || reach.upstreams().into_iter().find(|entry| entry.name == "direct").unwrap();

        near.write_all(b"hello").await.unwrap();
        far.read_exact(&mut [0; 5]).await.unwrap();
        far.write_all(b"yes").await.unwrap();
        near.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!((carried.to_node(), carried.from_node()), (5, 3));
        assert_eq!((of_direct().handshakes.len(), of_direct().streams), (1, 1));
        shaken.hands();
        while !of_direct().handshakes.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(of_direct().streams, 1);
        drop(near);
        assert_eq!(of_direct().streams, 0);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
