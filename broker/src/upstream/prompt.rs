//! A TCP connection whose small packets are acknowledged at once.
//!
//! sshd leaves Nagle's algorithm on until a channel wants it off (OpenSSH
//! packet.c, ssh_packet_set_interactive): its second small packet waits for the
//! acknowledgement of the first, and the kernel here delays that by 40 ms in
//! the hope of something to send with it. On a bastion's trunk that is the
//! confirmation of a channel and the node's first line behind it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Reads of this many bytes and more are part of a flow, in which acknowledgements are not late.
#[cfg(target_os = "linux")]
const FLOW: usize = 4096;

/// Has what was read acknowledged now, unless it is part of a flow.
#[cfg(target_os = "linux")]
fn acknowledge(connection: &TcpStream, read: usize) {
    if (1..FLOW).contains(&read) {
        // The kernel forgets it with the next delayed acknowledgement (tcp(7)). Not worth failing for.
        let _ = rustix::net::sockopt::set_tcp_quickack(connection, true);
    }
}

/// Other systems cannot be told.
#[cfg(not(target_os = "linux"))]
fn acknowledge(_: &TcpStream, _: usize) {}

/// The connection.
pub(super) struct Prompt(pub(super) TcpStream);

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buffer))?;
        acknowledge(&self.0, buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
