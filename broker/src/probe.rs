//! Asks the running broker to dial every upstream once and to say what it found.
//!
//! For commands that are better with the answer and do without it: no broker, or
//! none that answers in time, is no answer.

use natssh_wire::Failure;
use natssh_wire::head::{BODY_LIMIT, Decoded, decode_failure, decode_response};
use natssh_wire::request::encode_post;
use natssh_wire::status::Status;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// The broker gives its dials 5 s; a little more for the way.
const PATIENCE: Duration = Duration::from_millis(5500);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody listens.
    Absent,
    /// Somebody does, and gave no answer in time, or none that makes sense.
    Silent,
    /// The broker's own words.
    Refused(Failure),
}

/// What the broker behind a socket found, within 5.5 s; none when it did not answer.
#[must_use]
pub fn ask(socket: &Path) -> Option<Status> {
    question(socket).ok()
}

/// The same, with the reason.
///
/// # Errors
/// Why there is no answer.
pub fn question(socket: &Path) -> Result<Status, NoAnswer> {
    let (answer, answered) = mpsc::sync_channel(1);
    let socket = socket.to_owned();
    // A thread bounds connecting too: a full backlog would block it.
    std::thread::spawn(move || {
        let _ = answer.send(exchange(&socket));
    });
    answered.recv_timeout(PATIENCE).unwrap_or(Err(NoAnswer::Silent))
}

fn exchange(socket: &Path) -> Result<Status, NoAnswer> {
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => NoAnswer::Absent,
        _ => NoAnswer::Silent,
    })?;
    let bytes = say(&mut stream).ok_or(NoAnswer::Silent)?;
    let Decoded::Head(head) = decode_response(&bytes) else { return Err(NoAnswer::Silent) };
    let body = &bytes[head.consumed..];
    match head.status {
        200 => serde_json::from_slice(body).map_err(|_| NoAnswer::Silent),
        status => Err(NoAnswer::Refused(decode_failure(status, body))),
    }
}

fn say(stream: &mut UnixStream) -> Option<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(&encode_post("/v1/probe").ok()?).ok()?;
    let mut bytes = Vec::new();
    stream.take(BODY_LIMIT as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn an_answer_that_is_no_status_is_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        assert_eq!(question(&socket), Err(NoAnswer::Absent));
        let listener = UnixListener::bind(&socket).unwrap();
        for answer in
            ["", "HTTP/1.1 404 Not Found\r\n\r\n{}", "HTTP/1.1 200 OK\r\n\r\n{\"version\":", "garbage"]
        {
            let asked = std::thread::spawn({
                let socket = socket.clone();
                move || ask(&socket)
            });
            let (mut peer, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let n = peer.read(&mut request).unwrap();
            assert!(request[..n].starts_with(b"POST /v1/probe HTTP/1.1\r\n"));
            peer.write_all(answer.as_bytes()).unwrap();
            drop(peer);
            assert_eq!(asked.join().unwrap(), None, "{answer:?}");
        }
    }
}
