//! Carries a stream between the proxy and a listening sshd, whose small packets
//! are acknowledged at once.
//!
//! sshd leaves Nagle's algorithm on until it starts a command (OpenSSH
//! packet.c, `ssh_packet_set_interactive`): of two small packets in a row, the
//! second waits for the acknowledgement of the first, and the kernel here
//! delays that by 40 ms in the hope of something to send with it. A Teleport
//! node is the SSH server itself, with no such connection inside it, so what is
//! measured over the lab must not hold that delay, whoever comes through it.

use std::io;

use bytes::BytesMut;
use rustix::net::sockopt::set_tcp_quickack;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_buf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// What a stream carries at a time, each way.
const CHUNK: usize = 128 * 1024;
/// Reads of this many bytes and more are part of a flow, in which acknowledgements are not late.
const FLOW: usize = 4096;

/// Carries both directions, each to its own end of file, or until one breaks.
pub(super) async fn both_ways(server: &mut TcpStream, proxy: &mut TcpStream) -> io::Result<()> {
    let (from_server, to_server) = server.split();
    let (from_proxy, to_proxy) = proxy.split();
    tokio::try_join!(up(from_proxy, to_server), down(from_server, to_proxy)).map(drop)
}

async fn up(proxy: ReadHalf<'_>, mut server: WriteHalf<'_>) -> io::Result<()> {
    copy_buf(&mut tokio::io::BufReader::with_capacity(CHUNK, proxy), &mut server).await?;
    server.shutdown().await
}

async fn down(mut server: ReadHalf<'_>, mut proxy: WriteHalf<'_>) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        let read = server.read_buf(&mut buffer).await?;
        if read == 0 {
            return proxy.shutdown().await;
        }
        if read < FLOW {
            // The kernel forgets it with the next delayed acknowledgement (tcp(7)). Not worth failing for.
            let _ = set_tcp_quickack(server.as_ref(), true);
        }
        proxy.write_all(&buffer).await?;
        buffer.clear();
    }
}
