//! What an ssh agent holds. Asking it to sign is the SSH connection's business.
//!
//! One request of the agent protocol (draft-ietf-sshm-ssh-agent, section 3.5):
//! list the identities. Every size and every wait has an end, because the
//! socket may be a forwarded one whose other side is gone.

use super::error::{AgentFault, IdentityError};
use super::{Credential, Found, SshFiles};
use crate::known_hosts::KnownHosts;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, sockopt};
use ssh_key::public::KeyData;
use ssh_key::{Certificate, PublicKey};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One key that an agent can sign with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentKey {
    /// A certificate and its key.
    Certificate(Box<Certificate>),
    /// A key alone.
    Key(Box<PublicKey>),
}

impl AgentKey {
    /// The certificate, if it is one.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Certificate(certificate) => Some(certificate),
            Self::Key(_) => None,
        }
    }

    /// The key, under whatever certificate.
    #[must_use]
    pub fn key_data(&self) -> &KeyData {
        match self {
            Self::Certificate(certificate) => certificate.public_key(),
            Self::Key(key) => key.key_data(),
        }
    }
}

const REQUEST_IDENTITIES: [u8; 5] = [0, 0, 0, 1, 11];
const IDENTITIES_ANSWER: u8 = 12;
/// OpenSSH's own limits on an answer (`AGENT_MAX_LEN`) and on the keys in it.
const LARGEST_ANSWER: usize = 256 * 1024;
const MOST_KEYS: usize = 2048;
/// For the whole exchange; a local agent takes a millisecond, one forwarded round the world a second.
const PATIENCE: Duration = Duration::from_secs(2);

/// The user's keys in an agent.
pub(super) fn find(socket: Option<&Path>) -> Result<Found, IdentityError> {
    let Some(socket) = socket else { return Err(IdentityError::Agent { fault: AgentFault::Unset }) };
    let keys = list(socket)?;
    if keys.is_empty() {
        return Err(IdentityError::Agent { fault: AgentFault::Empty { socket: socket.into() } });
    }
    Ok(Found {
        credential: Credential::Agent { socket: socket.into(), keys },
        authorities: KnownHosts::default(),
        tls_authorities: Vec::new(),
        ssh_files: SshFiles { agent: Some(socket.into()), ..SshFiles::default() },
        renew: "tsh login, or ssh-add a key with a new certificate".into(),
    })
}

/// The keys that an agent can use for a user, those with the most to offer first.
///
/// # Errors
/// `Agent`, when it does not answer in time or not in its protocol.
pub fn list(socket: &Path) -> Result<Vec<AgentKey>, IdentityError> {
    list_as_held(socket).map(in_order_of_use)
}

/// The same in the agent's own order, which is ssh's.
///
/// # Errors
/// The same.
pub fn list_as_held(socket: &Path) -> Result<Vec<AgentKey>, IdentityError> {
    let silent = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("nothing came within {} s", PATIENCE.as_secs())
            }
            _ => error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
        };
        IdentityError::Agent { fault: AgentFault::Silent { socket: PathBuf::from(socket), why } }
    };
    let answer = exchange(socket).map_err(silent)?;
    let blobs = decode(&answer).ok_or_else(|| silent(io::Error::other("its answer makes no sense")))?;
    Ok(blobs.into_iter().filter_map(key_of).collect())
}

/// Certificates before keys, Teleport's before others, and what lasts longest before the rest.
fn in_order_of_use(mut keys: Vec<AgentKey>) -> Vec<AgentKey> {
    keys.sort_by_key(|key| {
        let certificate = key.certificate();
        let teleport =
            certificate.is_some_and(|c| c.extensions().keys().any(|name| name.starts_with("teleport-")));
        std::cmp::Reverse((certificate.is_some(), teleport, certificate.map(Certificate::valid_before)))
    });
    keys
}

/// A key that can serve a user; one of an unknown kind, or a host's certificate, cannot.
pub(super) fn key_of(blob: &[u8]) -> Option<AgentKey> {
    if let Ok(certificate) = Certificate::from_bytes(blob) {
        return certificate.cert_type().is_user().then(|| AgentKey::Certificate(Box::new(certificate)));
    }
    let key = PublicKey::from_bytes(blob).ok()?;
    use ssh_key::public::KeyData::{Certificate as Other, Other as Unknown};
    (!matches!(key.key_data(), Other(_) | Unknown(_))).then(|| AgentKey::Key(Box::new(key)))
}

/// The public halves in an answer, without its length; nothing if it is damaged.
pub(super) fn decode(answer: &[u8]) -> Option<Vec<&[u8]>> {
    let (&kind, rest) = answer.split_first()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
    if kind != IDENTITIES_ANSWER || count > MOST_KEYS {
        return None;
    }
    let mut blobs = Vec::new();
    for _ in 0..count {
        let (blob, after) = take_string(rest)?;
        let (_comment, after) = take_string(after)?;
        blobs.push(blob);
        rest = after;
    }
    rest.is_empty().then_some(blobs)
}

fn take_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn exchange(socket: &Path) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&REQUEST_IDENTITIES)?;
    let mut length = [0; 4];
    read_until(&mut stream, &mut length, deadline)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LARGEST_ANSWER {
        return Err(io::Error::other("its answer is far too long"));
    }
    let mut answer = vec![0; length];
    read_until(&mut stream, &mut answer, deadline)?;
    Ok(answer)
}

/// Connects within [`PATIENCE`]: std would wait forever for an agent that does not accept.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let fd = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(PATIENCE))?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
    Ok(fd.into())
}

fn read_until(stream: &mut UnixStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::Error::other("it closed the connection")),
            Ok(n) => buffer = &mut buffer[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
