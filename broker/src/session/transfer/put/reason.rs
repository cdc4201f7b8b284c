//! Why a node could not write.

use super::{Put, refused};
use crate::session::transfer::packet::{Answer, Request, Status, code, decode_room};
use crate::session::transfer::place::folder_of;
use crate::session::transfer::sftp::{Asked, words};
use crate::session::transfer::{Remote, Stopped};

/// Room for less than this is none.
const NO_ROOM: u64 = 64 << 10;

impl<R: Remote> Put<'_, R> {
    /// What a status means. OpenSSH's server says `Failure` to most of what can happen to a file system; how much room
    /// there is tells more.
    pub(super) async fn explained(&mut self, path: &[u8], status: &Status) -> Result<Stopped, Stopped> {
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
        let Answer::Extended(reply) = self.sftp.answer_to(asked).await? else {
            return Ok(None);
        };
        let Ok(room) = decode_room(reply) else { return Ok(None) };
        Ok(match room {
            room if room.read_only => Some("Read-only file system"),
            room if room.bytes < NO_ROOM => Some("No space left on device"),
            _ => None,
        })
    }
}
