//! Hands the stream to ssh: one byte and the descriptor, over the socket that stdout is.
//!
//! ssh's `ProxyUseFdpass` gives its helper one end of a socket pair as both
//! stdin and stdout, waits for a descriptor in silence, and goes on alone.
//! libssh gives the same pair but expects bytes, and sends its own banner at
//! once: what tells them apart is that bytes are already waiting.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::sockopt::socket_type;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, getsockname,
    recv, sendmsg,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;

/// True for a unix stream socket, which alone can carry a descriptor.
pub(crate) fn can_carry(stdout: BorrowedFd<'_>) -> bool {
    // No other descriptor answers these.
    let address = getsockname(stdout).map(|address| address.address_family());
    address == Ok(AddressFamily::UNIX) && socket_type(stdout) == Ok(SocketType::STREAM)
}

/// True when the caller waits for a descriptor, as far as can be seen from its descriptors.
pub(crate) fn is_awaited() -> bool {
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    can_carry(stdout) && is_same_socket(stdin, stdout) && is_silent(stdin)
}

/// True when, besides, the program that waits is called `ssh` (Linux; elsewhere its name is not known).
pub(crate) fn is_ssh_waiting() -> bool {
    is_awaited() && parents_name().is_some_and(|name| name.trim_ascii_end() == b"ssh")
}

/// ssh has its ProxyCommand's shell replaced by the command itself (sshconnect.c), so it is the parent.
fn parents_name() -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{}/comm", rustix::process::getppid()?)).ok()
}

/// Sends `stream` over `stdout`.
pub(crate) fn send(stdout: BorrowedFd<'_>, stream: &OwnedFd) -> rustix::io::Result<()> {
    let descriptors = [stream.as_fd()];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        match sendmsg(stdout, &[IoSlice::new(&[0])], &mut control, SendFlags::empty()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(stdout, PollFlags::OUT)], None)?;
            }
            Err(e) => return Err(e),
        }
    }
}

fn is_same_socket(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>) -> bool {
    let (Ok(input), Ok(output)) = (rustix::fs::fstat(stdin), rustix::fs::fstat(stdout)) else {
        return false;
    };
    FileType::from_raw_mode(input.st_mode) == FileType::Socket
        && (input.st_dev, input.st_ino) == (output.st_dev, output.st_ino)
}

fn is_silent(stdin: BorrowedFd<'_>) -> bool {
    let mut byte = [0; 1];
    !matches!(recv(stdin, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((1.., _)))
}
