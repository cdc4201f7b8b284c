//! One connection to the broker: one request, one answer, each within a deadline.
//!
//! Nothing is sent before the kernel has said that the socket is served by the
//! caller's own user. The head of an answer is peeked at and consumed exactly,
//! because the node's first bytes may stand right behind it.

use crate::{place, socket};
use natssh_wire::head::{BODY_LIMIT, Decoded, HEAD_LIMIT, ResponseHead, decode_failure, decode_response};
use natssh_wire::{Failure, FailureKind, PROTOCOL};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, SocketAddrUnix};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a broker may take to answer a question.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Missed {
    /// No broker listens, or it left before it answered: nothing has happened yet, and asking again is safe.
    Absent,
    /// Something that asking again does not help.
    Failed(Failure),
}

/// A connection to the user's broker.
#[derive(Debug)]
pub(crate) struct Call {
    socket: OwnedFd,
}

impl Call {
    /// Connects, and makes sure of who listens.
    pub(crate) fn open(path: &Path, deadline: Instant) -> Result<Self, Missed> {
        let failed = |e: Errno| Missed::Failed(unreachable(path, &e));
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        let socket = socket::stream().map_err(failed)?;
        // The socket stays a blocking one, as ssh expects it: a full backlog is bounded by this timeout.
        set_socket_timeout(&socket, Timeout::Send, Some(left(deadline))).map_err(failed)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR) => return Err(Missed::Absent),
            Err(Errno::AGAIN) => return Err(Missed::Failed(silent())),
            Err(e) => return Err(failed(e)),
        }
        check_server(&socket, path).map_err(Missed::Failed)?;
        Ok(Self { socket })
    }

    /// Sends a request and reads the head of its answer, with whatever status.
    pub(crate) fn ask(&self, request: &[u8], deadline: Instant) -> Result<ResponseHead, Missed> {
        set_socket_timeout(&self.socket, Timeout::Send, Some(left(deadline))).map_err(broken)?;
        let mut rest = request;
        while !rest.is_empty() {
            match rustix::net::send(&self.socket, rest, SendFlags::empty()) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Missed::Failed(silent())),
                // A broker that refuses before it has read all closes early; its answer can still be read.
                Err(Errno::PIPE | Errno::CONNRESET) => break,
                Err(e) => return Err(broken(e)),
            }
        }
        self.head(deadline)
    }

    /// Reads the body behind a head.
    pub(crate) fn body(&self, head: &ResponseHead, deadline: Instant) -> Result<Vec<u8>, Failure> {
        let limit = head.content_length.map_or(BODY_LIMIT, |n| usize::try_from(n).unwrap_or(usize::MAX));
        if limit > BODY_LIMIT {
            return Err(odd(&format!("the answer has {limit} bytes; {BODY_LIMIT} is the limit")));
        }
        let mut body = Vec::new();
        let mut buffer = vec![0; limit.clamp(1, 64 * 1024)];
        while body.len() < limit {
            wait_readable(self.socket.as_fd(), deadline)?;
            let room = buffer.len().min(limit - body.len());
            match rustix::net::recv(&self.socket, &mut buffer[..room], RecvFlags::empty()) {
                Ok((0, _)) if head.content_length.is_some() => {
                    return Err(odd("the answer ends in the middle"));
                }
                Ok((0, _)) => break,
                Ok((n, _)) => body.extend_from_slice(&buffer[..n]),
                Err(Errno::INTR) => {}
                Err(e) => return Err(odd(&format!("reading the answer failed: {e}"))),
            }
        }
        Ok(body)
    }

    /// The failure that an answer other than 200 carries.
    pub(crate) fn refusal(&self, head: &ResponseHead, deadline: Instant) -> Failure {
        match self.body(head, deadline) {
            Ok(body) => decode_failure(head.status, &body),
            Err(failure) => failure,
        }
    }

    /// The connection itself: a blocking socket without timeouts.
    pub(crate) fn into_stream(self) -> Result<OwnedFd, Failure> {
        set_socket_timeout(&self.socket, Timeout::Send, None).map_err(|e| odd(&e.to_string()))?;
        Ok(self.socket)
    }

    fn head(&self, deadline: Instant) -> Result<ResponseHead, Missed> {
        let mut seen = Vec::new();
        let mut window = vec![0; HEAD_LIMIT];
        loop {
            wait_readable(self.socket.as_fd(), deadline).map_err(Missed::Failed)?;
            let peeked = match rustix::net::recv(&self.socket, &mut window[..], RecvFlags::PEEK) {
                Ok((0, _)) | Err(Errno::CONNRESET) if seen.is_empty() => return Err(Missed::Absent),
                Ok((0, _)) => return Err(Missed::Failed(odd("the answer ends in the middle of its head"))),
                Ok((n, _)) => n,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(broken(e)),
            };
            let before = seen.len();
            seen.extend_from_slice(&window[..peeked]);
            match decode_response(&seen) {
                // All of it belongs to the head: consume it, or the next wait would return at once.
                Decoded::Incomplete => self.consume(peeked)?,
                Decoded::Head(head) => {
                    self.consume(head.consumed - before)?;
                    return Ok(head);
                }
                Decoded::Bad(sentence) => return Err(Missed::Failed(odd(&sentence))),
            }
        }
    }

    fn consume(&self, mut count: usize) -> Result<(), Missed> {
        let mut sink = vec![0; count];
        while count > 0 {
            match rustix::net::recv(&self.socket, &mut sink[..count], RecvFlags::empty()) {
                Ok((0, _)) => return Err(broken(Errno::CONNRESET)),
                Ok((n, _)) => count -= n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(broken(e)),
            }
        }
        Ok(())
    }
}

/// Which brokers may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Those of this version of the local API.
    Ours,
    /// All: to be stopped is understood by every one.
    Any,
}

/// A whole question: the body of a 200, or why there is none.
pub(crate) fn question(socket: &Path, request: &[u8], version: Version) -> Result<Vec<u8>, Missed> {
    let deadline = Instant::now() + PATIENCE;
    let call = Call::open(socket, deadline)?;
    let head = call.ask(request, deadline)?;
    if version == Version::Ours {
        check_version(&head).map_err(Missed::Failed)?;
    }
    if head.status != 200 {
        return Err(Missed::Failed(call.refusal(&head, deadline)));
    }
    call.body(&head, deadline).map_err(Missed::Failed)
}

/// What a deadline leaves, at least a millisecond: zero would mean no limit to the kernel.
pub(crate) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn wait_readable(socket: BorrowedFd<'_>, deadline: Instant) -> Result<(), Failure> {
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(remaining).map_err(|e| odd(&e.to_string()))?;
        match poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(silent()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(odd(&format!("waiting for the answer failed: {e}"))),
        }
    }
}

/// Passwords and agent paths pass here: another user's process must not get them.
fn check_server(socket: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let server = socket::peer(socket).map_err(|e| unreachable(path, &e))?;
    match place::uid() {
        own if own == server => Ok(()),
        own => Err(Failure::new(
            FailureKind::Denied,
            format!(
                "{} is served by user {server}, not by you, user {own}; nothing was sent",
                path.display()
            ),
        )
        .hint(format!("ls -l {}", path.display()))),
    }
}

/// Refuses an answer that may mean something else than it says.
pub(crate) fn check_version(head: &ResponseHead) -> Result<(), Failure> {
    let theirs = match head.protocol {
        Some(PROTOCOL) => return Ok(()),
        // What does not understand a request may not know the header either.
        None if head.status >= 400 => return Ok(()),
        Some(other) => {
            format!("the broker speaks version {other} of the local API, this natssh version {PROTOCOL}")
        }
        None => format!("the broker does not say that it speaks version {PROTOCOL} of the local API"),
    };
    Err(Failure::new(FailureKind::Version, theirs).hint("natssh broker restart"))
}

fn unreachable(path: &Path, error: &Errno) -> Failure {
    Failure::new(FailureKind::Unreachable, format!("connect to the broker at {}: {error}", path.display()))
        .hint(format!("ls -l {}", path.display()))
}

fn broken(error: Errno) -> Missed {
    Missed::Failed(odd(&format!("talking to the broker failed: {error}")))
}

fn odd(what: &str) -> Failure {
    Failure::new(FailureKind::Protocol, format!("not understood by natssh: {what}"))
        .hint("natssh broker logs")
}

fn silent() -> Failure {
    Failure::new(FailureKind::Timeout, "the broker did not answer in time").hint("natssh status")
}
