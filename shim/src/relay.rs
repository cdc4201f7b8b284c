//! Copies bytes between the stream and stdio, for callers that take no descriptor.
//!
//! Two threads, one a direction, each read then write: neither direction waits
//! on the other. Inherited descriptors keep their blocking mode, because it is
//! shared with whoever else holds them; where one does not block, the copy waits.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, read, write};
use rustix::net::{Shutdown, shutdown};
use std::sync::Arc;

/// The usual size of a pipe.
const BUFFER: usize = 64 * 1024;

/// How a direction ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The source ended, or nobody reads any more.
    Quiet,
    /// Reading the source failed.
    Cut(Errno),
}

/// Copies until the stream has ended. The end of stdin is passed on and does not end the copy.
pub(crate) fn run(stream: OwnedFd) -> std::io::Result<End> {
    let stream = Arc::new(stream);
    let outward = Arc::clone(&stream);
    std::thread::Builder::new().spawn(move || {
        copy(rustix::stdio::stdin(), outward.as_fd());
        let _ = shutdown(&*outward, Shutdown::Write);
    })?;
    // The process, and with it stdout and the other thread, ends with this direction.
    Ok(copy(stream.as_fd(), rustix::stdio::stdout()))
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> End {
    let mut buffer = vec![0; BUFFER];
    loop {
        match read(from, &mut buffer[..]) {
            Ok(0) => return End::Quiet,
            Ok(count) => {
                if write_all(to, &buffer[..count]).is_err() {
                    return End::Quiet;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(from, PollFlags::IN),
            Err(e) => return End::Cut(e),
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(to, PollFlags::OUT),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn wait(fd: BorrowedFd<'_>, what: PollFlags) {
    // Whatever goes wrong here shows at the next read or write.
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, what)], None);
}
