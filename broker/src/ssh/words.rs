//! The library's errors in words that mean something to a person.

use super::shared::Shared;
use natssh_wire::{Failure, FailureKind};
use std::io::{self, ErrorKind};
use std::sync::PoisonError;

/// The library's errors in words that mean something to a person.
pub(super) fn describe(error: &russh::Error) -> String {
    use russh::Error as E;
    match error {
        E::Disconnect | E::HUP | E::SendError | E::RecvError => CLOSED.into(),
        E::IO(io) => describe_io(io),
        E::KeepaliveTimeout => "the server stopped answering".into(),
        E::NoCommonAlgo { kind, theirs, .. } => {
            format!("no common {kind:?} algorithm; the server offers {}", theirs.join(", "))
        }
        E::Version => "the server's first line is not SSH-2.0".into(),
        other => other.to_string(),
    }
}

/// What is said of a peer that closed.
pub const CLOSED: &str = "the connection was closed by the other side";

/// The system's words. A peer that closed is one state, whatever the system saw of it.
pub fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => CLOSED.into(),
        _ => error.to_string(),
    }
}

/// A failure to get through the handshake.
pub(super) fn handshake_failure(peer: &str, shared: &Shared, error: &russh::Error) -> Failure {
    if let Some(failure) = shared.refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return failure;
    }
    let kind = match error {
        russh::Error::IO(io) if io.kind() == ErrorKind::InvalidData => FailureKind::Protocol,
        russh::Error::IO(_) | russh::Error::Disconnect | russh::Error::HUP => FailureKind::Unreachable,
        _ => FailureKind::Protocol,
    };
    Failure::new(kind, format!("{peer} broke off the SSH handshake: {}", describe(error)))
}
