//! A file to a node, by SFTP.
//!
//! Four round trips: one for the subsystem, before which the node takes nothing; one for the greeting, a look at the
//! place and the temporary file together; one for the bytes, until the last is written; and one for the rename, which
//! waits for that: a disk may be full. A file that is there already costs a fifth, for its permissions and its owner.

use super::packet::{Extensions, Opening, Request, Status, code, decode_room};
use super::place::{Place, beside, folder_of};
use super::sftp::{Asked, Sftp, words};
use super::{Left, Order, Remote, Source, Stopped};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;

/// The bytes of one request: what every server takes.
pub(super) const WRITE: usize = 32 << 10;
/// Requests that may be without an answer: four times what OpenSSH's window of a channel lets pass.
const AHEAD: usize = 256;
/// How long a node may take to remove a temporary file, where somebody waits for the reason.
const FAREWELL: Duration = Duration::from_secs(5);
/// Room for less than this is none.
const NO_ROOM: u64 = 64 << 10;
/// So often a link is followed: the first time to its end.
const LINKS: usize = 2;

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

/// Puts a file. The channel must have been asked for the subsystem.
///
/// # Errors
/// See [`Unfinished`]. Nothing of `source` has been read where the node turned out to have no SFTP.
pub async fn put<R: Remote>(remote: &R, order: &Order, source: &mut impl Source) -> Result<(), Unfinished> {
    let mut put = Put { sftp: Sftp::new(remote), temporary: None, handle: None, harm: Harm::None };
    let Err(why) = put.run(order, source).await else { return Ok(()) };
    let left = put.clear_away(&why).await;
    Err(Unfinished { why, left, harm: put.harm })
}

/// Removes what a put that was cut off may have left. The channel must have been asked for the subsystem.
///
/// # Errors
/// It may still be there.
pub async fn remove<R: Remote>(remote: &R, path: &[u8]) -> Result<(), Stopped> {
    let mut sftp = Sftp::new(remote);
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

/// Where the bytes go, and what is to be done once they are there.
struct Opened {
    handle: Bytes,
    /// The name that the temporary file gets, and whether a file has it.
    rename: Option<(Vec<u8>, bool)>,
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

    /// Decides where the bytes go.
    async fn open(&mut self, order: &Order) -> Result<Opened, Stopped> {
        let permissions = order.mode.bits();
        let mut path = order.path.clone();
        for _ in 0..LINKS {
            let temporary = beside(&path, order.number);
            let looked = self.sftp.ask(&Request::Lstat { path: &path });
            let opened = self.sftp.ask(&Request::Open { path: &temporary, how: Opening::New, permissions });
            self.temporary = Some(temporary);
            self.sftp.send().await?;
            let looked = self.sftp.answer_to(looked).await?.attributes();
            let opened = self.sftp.answer_to(opened).await?.handle();
            match &opened {
                Ok(handle) => self.handle = Some(handle.clone()),
                Err(_) => self.temporary = None,
            }
            match (Place::of(&looked), opened) {
                (Place::Free, Ok(handle)) => return Ok(Opened { handle, rename: Some((path, false)) }),
                (Place::Taken { permissions, owner }, Ok(handle)) => {
                    if self.resembles(&path, &handle, permissions, owner).await? {
                        return Ok(Opened { handle, rename: Some((path, true)) });
                    }
                    break;
                }
                (Place::Taken { .. }, Err(status)) if is_of_the_folder(&status) => break,
                (Place::Free | Place::Taken { .. }, Err(status)) => {
                    return Err(self.explained(&order.path, &status).await?);
                }
                (Place::Folder, _) => return Err(refused("write", &order.path, "Is a directory")),
                (Place::Special, _) => break,
                (Place::Link, _) => {
                    self.forget_temporary().await?;
                    let real = self.sftp.ask(&Request::RealPath { path: &path });
                    self.sftp.send().await?;
                    match self.sftp.answer_to(real).await?.name() {
                        Ok(real) => path = real.to_vec(),
                        Err(status) => return Err(refused("write", &order.path, &words(&status))),
                    }
                }
            }
        }
        self.forget_temporary().await?;
        self.open_in_place(&path, permissions).await
    }

    async fn open_in_place(&mut self, path: &[u8], permissions: u32) -> Result<Opened, Stopped> {
        let opened = self.sftp.ask(&Request::Open { path, how: Opening::Over, permissions });
        self.sftp.send().await?;
        match self.sftp.answer_to(opened).await?.handle() {
            Ok(handle) => {
                self.harm = Harm::Part;
                Ok(Opened { handle, rename: None })
            }
            Err(status) => Err(self.explained(path, &status).await?),
        }
    }

    /// Gives the temporary file the user, group and permissions of the one that it replaces; false where the login may
    /// not. The user first: to change it takes setuid away. What cannot be written to is not replaced either.
    async fn resembles(
        &mut self,
        path: &[u8],
        handle: &[u8],
        permissions: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<bool, Stopped> {
        let tried = self.sftp.ask(&Request::Open { path, how: Opening::Write, permissions });
        let owned = owner.map(|(user, group)| self.sftp.ask(&Request::Own { handle, user, group }));
        let permitted = self.sftp.ask(&Request::Permit { handle, permissions });
        self.sftp.send().await?;
        match self.sftp.answer_to(tried).await?.handle() {
            // Answered with the writes.
            Ok(handle) => drop(self.sftp.ask(&Request::Close { handle: &handle })),
            Err(status) if status.code == code::PERMISSION_DENIED => {
                return Err(refused("write", path, &words(&status)));
            }
            // A program that runs can be replaced, and nothing more.
            Err(_) => {}
        }
        let is_owned = match owned {
            Some(asked) => self.sftp.answer_to(asked).await?.done().is_ok(),
            None => true,
        };
        let is_permitted = self.sftp.answer_to(permitted).await?.done().is_ok();
        Ok(is_owned && is_permitted)
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
            drop(self.sftp.answer_to(removed).await?);
            done = self.sftp.answer_to(renamed).await?.done();
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

    /// What a status means. OpenSSH's server says `Failure` to most of what can happen to a file system; how much room
    /// there is tells more.
    async fn explained(&mut self, path: &[u8], status: &Status) -> Result<Stopped, Stopped> {
        let mut said = words(status);
        if status.code == code::FAILURE && self.sftp.greeting().await?.room {
            let folder = folder_of(path);
            let folder = if folder.is_empty() { b".".as_slice() } else { folder };
            let asked = self.sftp.ask(&Request::Room { path: folder });
            self.sftp.send().await?;
            if let Some(reason) = self.reason_by_room(asked).await? {
                said = reason.into();
            }
        }
        Ok(refused("write", path, &said))
    }

    async fn reason_by_room(&mut self, asked: Asked) -> Result<Option<&'static str>, Stopped> {
        let super::packet::Answer::Extended(reply) = self.sftp.answer_to(asked).await? else {
            return Ok(None);
        };
        let Ok(room) = decode_room(reply) else { return Ok(None) };
        Ok(match room {
            room if room.read_only => Some("Read-only file system"),
            room if room.bytes < NO_ROOM => Some("No space left on device"),
            _ => None,
        })
    }

    /// Closes and removes the temporary file, whose folder or kind was not the right one.
    async fn forget_temporary(&mut self) -> Result<(), Stopped> {
        let Some(path) = self.temporary.clone() else { return Ok(()) };
        let closed = self.handle.take().map(|handle| self.sftp.ask(&Request::Close { handle: &handle }));
        let removed = self.sftp.ask(&Request::Remove { path: &path });
        self.sftp.send().await?;
        if let Some(closed) = closed {
            drop(self.sftp.answer_to(closed).await?);
        }
        match self.sftp.answer_to(removed).await?.done() {
            Err(status) if status.code != code::NO_SUCH_FILE => {
                Err(refused("remove", &path, &words(&status)))
            }
            _ => {
                self.temporary = None;
                Ok(())
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

/// A status that speaks of the folder of a file that is there: none can be made in it, or none of such a long name.
fn is_of_the_folder(status: &Status) -> bool {
    matches!(status.code, code::PERMISSION_DENIED | code::BAD_MESSAGE | code::NO_SUCH_FILE)
}
