//! The caller's standard streams, used without changing them.
//!
//! Whether a descriptor blocks belongs to the open file, which whoever started
//! this program may share: a shell left with a stdin that does not block breaks.
//! So a pipe is opened again for ourselves, a socket is asked each time not to
//! wait, and files and terminals are left to wait as they do under any program.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, read, write};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::time::{Duration, Instant};

/// What a pipe takes at once if it takes anything: `PIPE_BUF` of pipe(7), and elsewhere the least that POSIX allows.
const SIP: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// How a stream is used without waiting for it.
#[derive(Debug)]
enum Way {
    /// A pipe, opened again: it does not block.
    Own(OwnedFd),
    /// A socket.
    Socket,
    /// A pipe of another user's, which cannot be opened again.
    Foreign,
    /// A file, a terminal or another device.
    Waits,
}

impl Way {
    fn of(fd: BorrowedFd<'_>, how: OFlags) -> Self {
        let kind = fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::Socket) => Self::Socket,
            Ok(FileType::Fifo) => {
                let path = format!("/proc/self/fd/{}", rustix::fd::AsRawFd::as_raw_fd(&fd));
                let own = open(path, how | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
                own.map_or(Self::Foreign, Self::Own)
            }
            _ => Self::Waits,
        }
    }
}

/// Standard input.
#[derive(Debug)]
pub(super) struct Input {
    fd: BorrowedFd<'static>,
    way: Way,
}

impl Input {
    pub(super) fn of(fd: BorrowedFd<'static>) -> Self {
        Self { fd, way: Way::of(fd, OFlags::RDONLY) }
    }

    /// Reads what is there; 0 at the end of file.
    ///
    /// # Errors
    /// `AGAIN` where nothing is there; everything else is as good as the end.
    pub(super) fn read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        match &self.way {
            Way::Own(own) => read(own, into),
            Way::Socket => recv(self.fd, into, RecvFlags::DONTWAIT).map(|(count, _)| count),
            Way::Foreign | Way::Waits => read(self.fd, into),
        }
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

/// Standard output or standard error, and what it has not taken yet.
#[derive(Debug)]
pub(super) struct Sink {
    fd: BorrowedFd<'static>,
    way: Way,
    held: Vec<u8>,
    taken: usize,
    /// When it last took something, or began to take nothing.
    last: Option<Instant>,
    is_closed: bool,
    /// Nothing follows what is held.
    ends: bool,
}

impl Sink {
    pub(super) fn of(fd: BorrowedFd<'static>) -> Self {
        Self {
            fd,
            way: Way::of(fd, OFlags::WRONLY),
            held: Vec::new(),
            taken: 0,
            last: None,
            is_closed: false,
            ends: false,
        }
    }

    /// Nothing follows: whoever reads standard output sees its end as soon as it has taken what is held.
    pub(super) fn end(&mut self) {
        self.ends = true;
        self.close_at_end();
    }

    /// Only standard output ends before the program does.
    fn close_at_end(&mut self) {
        if !self.ends || self.held() > 0 {
            return;
        }
        match std::mem::replace(&mut self.way, Way::Waits) {
            // Standard input may be the same socket.
            Way::Socket => drop(shutdown(self.fd, Shutdown::Write)),
            _ => {
                let nowhere = open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
                let _ = nowhere.and_then(|nowhere| rustix::stdio::dup2_stdout(&nowhere));
            }
        }
    }

    /// Writes bytes behind those that are held; holds what is not taken at once.
    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while self.held() == 0 && !bytes.is_empty() && !self.is_closed {
            match self.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.is_closed = true,
            }
        }
        if !self.is_closed && !bytes.is_empty() {
            self.held.extend_from_slice(bytes);
            self.last.get_or_insert_with(Instant::now);
        }
    }

    /// Writes of what is held as much as is taken.
    pub(super) fn flush(&mut self) {
        while self.held() > 0 {
            match self.try_write(&self.held[self.taken..]) {
                Ok(count) => {
                    self.taken += count;
                    self.last = Some(Instant::now());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.is_closed = true;
                    self.taken = self.held.len();
                }
            }
        }
        if self.taken > self.held.len() / 2 {
            self.held.drain(..self.taken);
            self.taken = 0;
        }
        if self.held.is_empty() {
            self.last = None;
            self.close_at_end();
        }
    }

    /// For how long it has taken nothing of what waits for it.
    pub(super) fn stuck(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |last| last.elapsed())
    }

    /// Bytes that wait for it.
    pub(super) fn held(&self) -> usize {
        self.held.len() - self.taken
    }

    /// True once a write has failed: nobody reads what was written, or the disk is full.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn try_write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.way {
            Way::Own(own) => write(own, bytes),
            Way::Socket => send(self.fd, bytes, SendFlags::DONTWAIT),
            Way::Foreign => {
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                match poll(&mut [PollFd::from_borrowed_fd(self.fd, PollFlags::OUT)], Some(&now))? {
                    0 => Err(Errno::AGAIN),
                    _ => write(self.fd, &bytes[..bytes.len().min(SIP)]),
                }
            }
            Way::Waits => write(self.fd, bytes),
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}
