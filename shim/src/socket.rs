//! What systems do differently with a unix socket.
//!
//! Nowhere is a write asked not to raise SIGPIPE, which only some systems can be asked: Rust's programs ignore it from
//! their start.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Result;
use rustix::net::{AddressFamily, SocketType};

/// A stream socket, which no program that is started later inherits.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn stream() -> Result<OwnedFd> {
    use rustix::net::{SocketFlags, socket_with};
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

/// The same in two steps, between which nothing is started.
#[cfg(target_vendor = "apple")]
pub(crate) fn stream() -> Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// The user whose process listened at the other end.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn peer(socket: impl AsFd) -> Result<u32> {
    rustix::net::sockopt::socket_peercred(socket).map(|peer| peer.uid.as_raw())
}

/// The same by getpeereid(3).
#[cfg(target_vendor = "apple")]
pub(crate) fn peer(socket: impl AsFd) -> Result<u32> {
    let known = nix::unistd::getpeereid(socket).map(|(user, _)| user.as_raw());
    known.map_err(|errno| rustix::io::Errno::from_raw_os_error(errno as i32))
}
