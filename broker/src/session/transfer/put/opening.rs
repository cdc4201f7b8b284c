//! Where the bytes of a put go: into a temporary file, nearly always.

use super::{Harm, Put, refused};
use crate::session::transfer::packet::{Opening, Request, Status, code};
use crate::session::transfer::place::{Place, beside};
use crate::session::transfer::sftp::words;
use crate::session::transfer::{Order, Remote, Stopped};
use bytes::Bytes;

/// So often a link is followed: the first time to its end.
const LINKS: usize = 2;

/// Where the bytes go, and what is to be done once they are there.
pub(super) struct Opened {
    pub(super) handle: Bytes,
    /// The name that the temporary file gets, and whether a file has it.
    pub(super) rename: Option<(Vec<u8>, bool)>,
}

impl<R: Remote> Put<'_, R> {
    /// Decides where the bytes go.
    pub(super) async fn open(&mut self, order: &Order) -> Result<Opened, Stopped> {
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

    /// Closes and removes the temporary file, whose folder or kind was not the right one.
    pub(super) async fn forget_temporary(&mut self) -> Result<(), Stopped> {
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
}

/// A status that speaks of the folder of a file that is there: none can be made in it, or none of such a long name.
fn is_of_the_folder(status: &Status) -> bool {
    matches!(status.code, code::PERMISSION_DENIED | code::BAD_MESSAGE | code::NO_SUCH_FILE)
}
