//! A file to a node, by SFTP.
//!
//! Three round trips: one for a look at the place and the temporary file together; one for the bytes, until the last is
//! written; and one for the rename, which waits for that: a disk may be full. A file that is there already costs one
//! more, for its permissions and its owner; and so does a new conversation, for the subsystem, before which the node takes
//! nothing.

mod opening;
mod reason;

use super::packet::{Extensions, Request, Status, code};
use super::sftp::{Sftp, words};
use super::{Left, Order, Remote, Source, Stopped, Talk};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;

/// The bytes of one request: what every server takes.
pub(super) const WRITE: usize = 32 << 10;
/// Requests that may be without an answer: four times what OpenSSH's window of a channel lets pass.
const AHEAD: usize = 256;
/// How long a node may take to remove a temporary file, where somebody waits for the reason.
const FAREWELL: Duration = Duration::from_secs(5);

/// A put that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Why.
    pub why: Stopped,
    /// A temporary file that may still be there.
    pub left: Option<Vec<u8>>,
    /// What has become of the file that was meant.
    pub harm: Harm,
}

/// What has become of a file that was not put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It is as it was.
    None,
    /// It is as it was, or already the new one, whole.
    Replaced,
    /// It is as it was, unless it was written in place.
    Perhaps,
    /// It was written in place, and may hold a part.
    Part,
}

/// Puts a file. The channel must have been asked for the subsystem, where the conversation is a new one.
///
/// # Errors
/// See [`Unfinished`]. Nothing of `source` has been read where the node turned out to have no SFTP.
pub async fn put<R: Remote>(
    remote: &R,
    talk: &mut Talk,
    order: &Order,
    source: &mut impl Source,
) -> Result<(), Unfinished> {
    let mut put = Put { sftp: Sftp::new(remote, talk), temporary: None, handle: None, harm: Harm::None };
    let Err(why) = put.run(order, source).await else { return Ok(()) };
    let left = put.clear_away(&why).await;
    Err(Unfinished { why, left, harm: put.harm })
}

/// Removes what a put that was cut off may have left. The channel must have been asked for the subsystem, where the
/// conversation is a new one.
///
/// # Errors
/// It may still be there.
pub async fn remove<R: Remote>(remote: &R, talk: &mut Talk, path: &[u8]) -> Result<(), Stopped> {
    let mut sftp = Sftp::new(remote, talk);
    let asked = sftp.ask(&Request::Remove { path });
    sftp.send().await?;
    match sftp.answer_to(asked).await?.done() {
        Err(status) if status.code != code::NO_SUCH_FILE => Err(refused("remove", path, &words(&status))),
        _ => Ok(()),
    }
}

/// The sentence for a node that cannot do something to a path.
pub(super) fn refused(verb: &str, path: &[u8], words: &str) -> Stopped {
    Stopped::File(format!("cannot {verb} {}: {words}", crate::text::one_line(&String::from_utf8_lossy(path))))
}

struct Put<'r, R: Remote> {
    sftp: Sftp<'r, R>,
    temporary: Option<Vec<u8>>,
    handle: Option<Bytes>,
    harm: Harm,
}

impl<R: Remote> Put<'_, R> {
    async fn run(&mut self, order: &Order, source: &mut impl Source) -> Result<(), Stopped> {
        let opened = self.open(order).await?;
        self.handle = Some(opened.handle.clone());
        self.carry(&order.path, &opened.handle, source).await?;
        let closed = self.sftp.ask(&Request::Close { handle: &opened.handle });
        self.handle = None;
        self.sftp.send().await?;
        let closed = self.sftp.answer_to(closed).await?.done();
        while self.sftp.open() > 0 {
            self.written(&order.path).await?;
        }
        self.checked(&order.path, closed).await?;
        if !source.is_there() {
            return Err(Stopped::Client(Left::Gone));
        }
        match opened.rename {
            Some((to, is_taken)) => self.rename(&to, is_taken).await,
            None => Ok(()),
        }
    }

    /// Writes what the client sends, and waits for no answer but where too many are missing.
    async fn carry(&mut self, path: &[u8], handle: &[u8], source: &mut impl Source) -> Result<(), Stopped> {
        let mut offset = 0;
        loop {
            while self.sftp.open() >= AHEAD {
                self.written(path).await?;
            }
            let next = tokio::select! {
                biased;
                written = self.sftp.any_answer() => {
                    let written = written?.done();
                    self.checked(path, written).await?;
                    continue;
                }
                next = source.next() => next,
            };
            let Some(bytes) = next.map_err(Stopped::Client)? else { return Ok(()) };
            for part in bytes.chunks(WRITE) {
                self.sftp.ask(&Request::Write { handle, offset, bytes: part });
                offset += part.len() as u64;
                if self.sftp.is_full() {
                    self.sftp.send().await?;
                }
            }
            self.sftp.send().await?;
        }
    }

    /// The outcome of a write, whichever is told next.
    async fn written(&mut self, path: &[u8]) -> Result<(), Stopped> {
        let written = self.sftp.any_answer().await?.done();
        self.checked(path, written).await
    }

    async fn checked(&mut self, path: &[u8], done: Result<(), Status>) -> Result<(), Stopped> {
        match done {
            Ok(()) => Ok(()),
            Err(status) => Err(self.explained(path, &status).await?),
        }
    }

    async fn rename(&mut self, to: &[u8], is_taken: bool) -> Result<(), Stopped> {
        let Some(from) = self.temporary.clone() else { return Ok(()) };
        let Extensions { replace, .. } = self.sftp.greeting().await?;
        self.harm = Harm::Replaced;
        let mut renamed = self.sftp.ask(&match replace {
            true => Request::Replace { from: &from, to },
            false => Request::Rename { from: &from, to },
        });
        self.sftp.send().await?;
        let mut done = self.sftp.answer_to(renamed).await?.done();
        if done.is_err() && !replace && is_taken {
            // Version 3 alone replaces nothing.
            let removed = self.sftp.ask(&Request::Remove { path: to });
            renamed = self.sftp.ask(&Request::Rename { from: &from, to });
            self.sftp.send().await?;
            let is_removed = self.sftp.answer_to(removed).await?.done().is_ok();
            done = self.sftp.answer_to(renamed).await?.done();
            if let (true, Err(status)) = (is_removed, &done) {
                // Nothing else of either is left.
                self.temporary = None;
                let kept = String::from_utf8_lossy(&from);
                let words = format!("{}; what was there is gone, and the new one is {kept}", words(status));
                return Err(refused("write", to, &words));
            }
        }
        match done {
            Ok(()) => {
                self.temporary = None;
                Ok(())
            }
            Err(status) => {
                self.harm = Harm::None;
                Err(self.explained(to, &status).await?)
            }
        }
    }

    /// Leaves nothing behind, where the node can still be told; what may be there if it cannot.
    async fn clear_away(&mut self, why: &Stopped) -> Option<Vec<u8>> {
        match why {
            Stopped::NoSftp(_) | Stopped::NotSftp(_) => return None,
            // What cannot be removed is told of below.
            Stopped::File(_) | Stopped::Client(_) => {
                drop(timeout(FAREWELL, self.forget_temporary()).await);
            }
            Stopped::Cut(_) | Stopped::Stalled => {}
        }
        self.temporary.take()
    }
}
