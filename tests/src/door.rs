//! The broker's local door, knocked at by hand: what `curl --unix-socket` would do.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use natssh_wire::Failure;

use crate::wait::PATIENCE;

/// An answer: its status and its body.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

/// Connects; none when nobody listens.
pub fn knock(socket: &Path) -> Option<UnixStream> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// `METHOD PATH`, and the whole answer; none when nobody answers.
pub fn ask(socket: &Path, method: &str, path: &str) -> Option<Answer> {
    let mut stream = knock(socket)?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: natssh\r\nConnection: close\r\n\r\n").ok()?;
    let (status, _) = head(&mut stream)?;
    let mut body = String::new();
    stream.read_to_string(&mut body).ok()?;
    Some(Answer { status, body })
}

/// `CONNECT host:port`: the open stream.
///
/// # Panics
/// With the broker's answer, when that is not 200.
pub fn connect(socket: &Path, node: &str) -> UnixStream {
    let mut stream = knock(socket).expect("a broker listens");
    write!(stream, "CONNECT {node} HTTP/1.1\r\nHost: {node}\r\nNatssh-Protocol: 1\r\n\r\n").expect("written");
    let (status, head) = head(&mut stream).expect("a whole head");
    assert_eq!(status, 200, "{head}");
    stream
}

/// `CONNECT host:port` with this patience: the open stream, or the refusal.
///
/// # Errors
/// The broker's answer, when that is not 200.
///
/// # Panics
/// When nobody answers.
pub fn try_connect(socket: &Path, node: &str, patience: Duration) -> Result<UnixStream, Failure> {
    try_connect_with(socket, node, patience, "")
}

/// The same of a client that speaks SSH and does not wait for the verdict.
///
/// # Errors
/// The broker's answer, when that is not 200.
///
/// # Panics
/// When nobody answers.
pub fn try_connect_unheard(socket: &Path, node: &str, patience: Duration) -> Result<UnixStream, Failure> {
    try_connect_with(socket, node, patience, "Natssh-Verdict: in-stream\r\n")
}

fn try_connect_with(
    socket: &Path,
    node: &str,
    patience: Duration,
    header: &str,
) -> Result<UnixStream, Failure> {
    let mut stream = knock(socket).expect("a broker listens");
    let millis = patience.as_millis();
    write!(stream, "CONNECT {node} HTTP/1.1\r\nHost: {node}\r\nNatssh-Timeout-Ms: {millis}\r\n{header}\r\n")
        .expect("written");
    let (status, head) = head(&mut stream).expect("a whole head");
    if status == 200 {
        return Ok(stream);
    }
    Err(failure(&mut stream, &head))
}

/// The failure behind the head of an answer.
pub(crate) fn failure(stream: &mut UnixStream, head: &str) -> Failure {
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.expect("a body")];
    stream.read_exact(&mut body).expect("a whole body");
    serde_json::from_slice(&body).expect("a failure as JSON")
}

/// The head of an answer, and not one byte past it.
pub fn head(stream: &mut UnixStream) -> Option<(u16, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head))
}
