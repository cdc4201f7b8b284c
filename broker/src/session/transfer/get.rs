//! A file of a node, by SFTP.
//!
//! Two round trips: one for a look and the open file together; and one for its bytes, of which as many are asked for as a
//! channel's window holds. A new conversation costs one more, for the subsystem, before which the node takes nothing; the
//! greeting comes along. No more is asked for than the client takes, so a slow one holds back nobody.

use super::packet::{Opening, Request, Status, code};
use super::place::Place;
use super::put::refused;
use super::sftp::{Asked, Sftp, words};
use super::{Remote, Sink, Stopped, Talk};
use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes that are asked for and have not come: what the window of a channel lets pass.
const AHEAD: u64 = 8 << 20;
/// The bytes of one request: what every server gives.
const READ: u32 = 32 << 10;
/// The same, of OpenSSH's own since 8.5.
const LONG_READ: u32 = 128 << 10;

/// How a get went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// All of it is there.
    Whole,
    /// It has too many bytes; none has been read.
    TooLarge,
}

/// Reads a file, unless `fits` says no to so many bytes. The channel must have been asked for the subsystem, where the
/// conversation is a new one.
///
/// # Errors
/// See [`Stopped`].
pub async fn get<R: Remote>(
    remote: &R,
    talk: &mut Talk,
    path: &[u8],
    fits: impl FnOnce(u64) -> bool,
    sink: &mut impl Sink,
) -> Result<Got, Stopped> {
    let mut sftp = Sftp::new(remote, talk);
    let looked = sftp.ask(&Request::Stat { path });
    let opened = sftp.ask(&Request::Open { path, how: Opening::Read, permissions: 0 });
    sftp.send().await?;
    let looked = sftp.answer_to(looked).await?.attributes();
    let opened = sftp.answer_to(opened).await?.handle();
    if Place::of(&looked) == Place::Folder {
        return Err(refused("read", path, "Is a directory"));
    }
    let handle = opened.map_err(|status| refused("read", path, &words(&status)))?;
    let size = looked.ok().and_then(|attributes| attributes.size).unwrap_or_default();
    let got = if fits(size) {
        read(&mut sftp, path, &handle, size, sink).await?;
        Got::Whole
    } else {
        Got::TooLarge
    };
    let closed = sftp.ask(&Request::Close { handle: &handle });
    sftp.forget(closed);
    sftp.send().await?;
    Ok(got)
}

/// Reads an open file to its end.
async fn read<R: Remote>(
    sftp: &mut Sftp<'_, R>,
    path: &[u8],
    handle: &[u8],
    size: u64,
    sink: &mut impl Sink,
) -> Result<(), Stopped> {
    let length = if sftp.greeting().await?.limits { LONG_READ } else { READ };
    let mut parts = Parts { size, length, next: 0, asked: VecDeque::new(), missing: 0 };
    loop {
        parts.ask(sftp, handle);
        sftp.send().await?;
        let Some(part) = parts.first() else { return Ok(()) };
        match sftp.answer_to(part.asked).await?.data() {
            Ok(data) if data.len() > part.length as usize => {
                return Err(Stopped::Cut("its SFTP server gave more than it was asked for".into()));
            }
            Ok(data) if data.is_empty() => break,
            Ok(data) => {
                parts.came(&part, &data, sftp, handle);
                sftp.send().await?;
                sink.write(data).await.map_err(Stopped::Client)?;
            }
            Err(Status { code: code::END, .. }) => break,
            Err(status) => return Err(refused("read", path, &words(&status))),
        }
    }
    // What was asked for behind the end.
    parts.asked.iter().for_each(|part| sftp.forget(part.asked));
    Ok(())
}

/// What is asked for, in the order of the file.
struct Parts {
    /// What the server says the file has; 0 for those that have no size, as in /proc.
    size: u64,
    /// Of one request.
    length: u32,
    /// Where the next one begins.
    next: u64,
    asked: VecDeque<Part>,
    /// The bytes of all that is asked for.
    missing: u64,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    asked: Asked,
    offset: u64,
    length: u32,
}

impl Parts {
    /// Asks for as much as may be missing, and past the size once, to see the end.
    fn ask<R: Remote>(&mut self, sftp: &mut Sftp<'_, R>, handle: &[u8]) {
        loop {
            let left = self.size.saturating_sub(self.next);
            let length = match left {
                0 => self.length,
                left => u32::try_from(left).unwrap_or(u32::MAX).min(self.length),
            };
            let is_past = left == 0;
            let is_past_already = self.asked.back().is_some_and(|part| part.offset >= self.size);
            if self.missing + u64::from(length) > AHEAD || (is_past && is_past_already) {
                return;
            }
            let asked = sftp.ask(&Request::Read { handle, offset: self.next, length });
            self.asked.push_back(Part { asked, offset: self.next, length });
            self.next += u64::from(length);
            self.missing += u64::from(length);
        }
    }

    fn first(&mut self) -> Option<Part> {
        let part = self.asked.pop_front()?;
        self.missing -= u64::from(part.length);
        Some(part)
    }

    /// Some of a part is there; the rest of it comes before everything else.
    fn came<R: Remote>(&mut self, part: &Part, data: &Bytes, sftp: &mut Sftp<'_, R>, handle: &[u8]) {
        // At most its length.
        let came = data.len() as u32;
        let length = part.length - came;
        if length == 0 {
            return;
        }
        // A server that gives less at a time is asked for no more.
        self.length = self.length.min(came.max(READ));
        let offset = part.offset + u64::from(came);
        let asked = sftp.ask(&Request::Read { handle, offset, length });
        self.asked.push_front(Part { asked, offset, length });
        self.missing += u64::from(length);
    }
}
