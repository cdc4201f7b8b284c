//! SFTP's packets, version 3 (draft-ietf-secsh-filexfer-02), as far as whole files need them.
//!
//! Pure. A packet is its length in four bytes (big-endian) and so many more: a kind, the number of the request, and
//! what the kind carries. Names are bytes, and mostly no text at all.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What every server takes and gives in one packet, and what OpenSSH's does at most (`SFTP_MAX_MSG_LENGTH`).
pub(super) const PACKET_LIMIT: usize = 256 << 10;
/// The version that OpenSSH and everybody else speaks.
const VERSION: u32 = 3;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// To be read.
    Read,
    /// To be written; there must be one.
    Write,
    /// To be written; there must not be one.
    New,
    /// To be written from its start, whether there is one or not.
    Over,
}

/// What a server is asked. Paths are the node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// Opens a file; the permissions are those of one that is made.
    Open { path: &'a [u8], how: Opening, permissions: u32 },
    /// Lets go of a file.
    Close { handle: &'a [u8] },
    /// Reads at most so many bytes from there on.
    Read { handle: &'a [u8], offset: u64, length: u32 },
    /// Writes there.
    Write { handle: &'a [u8], offset: u64, bytes: &'a [u8] },
    /// What stands at a path, links followed.
    Stat { path: &'a [u8] },
    /// What stands at a path, be it a link.
    Lstat { path: &'a [u8] },
    /// Gives an open file to that user and group.
    Own { handle: &'a [u8], user: u32, group: u32 },
    /// Sets the permissions of an open file.
    Permit { handle: &'a [u8], permissions: u32 },
    /// Takes a name away.
    Remove { path: &'a [u8] },
    /// The path without links.
    RealPath { path: &'a [u8] },
    /// Gives a file another name, which there must not be, as OpenSSH has it.
    Rename { from: &'a [u8], to: &'a [u8] },
    /// The same, in place of whatever has that name (`posix-rename@openssh.com`).
    Replace { from: &'a [u8], to: &'a [u8] },
    /// How much room there is (`statvfs@openssh.com`).
    Room { path: &'a [u8] },
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// How it went, where that is all there is to say.
    Status(Status),
    /// An open file.
    Handle(Bytes),
    /// What was read.
    Data(Bytes),
    /// A path.
    Name(Bytes),
    /// What stands at a path.
    Attributes(Attributes),
    /// The answer to an extension's request.
    Extended(Bytes),
}

/// How a request went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: u32,
    /// The server's words, which may be none, or `Failure`.
    pub(super) words: Bytes,
}

/// The codes that decide something.
pub(super) mod code {
    pub(in super::super) const OK: u32 = 0;
    pub(in super::super) const END: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
    pub(in super::super) const FAILURE: u32 = 4;
    pub(in super::super) const BAD_MESSAGE: u32 = 5;
    pub(in super::super) const UNSUPPORTED: u32 = 8;
}

/// What stands at a path, as far as the server says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    /// Type and permissions: stat(2)'s `st_mode`.
    pub(super) mode: Option<u32>,
}

/// What a server can do beside version 3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    /// `posix-rename@openssh.com`.
    pub(super) replace: bool,
    /// `statvfs@openssh.com`.
    pub(super) room: bool,
    /// `limits@openssh.com`: it is OpenSSH's since 8.5, which takes and gives [`PACKET_LIMIT`].
    pub(super) limits: bool,
}

/// Bytes that are none of SFTP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nonsense;

mod kind {
    pub(super) const INIT: u8 = 1;
    pub(super) const VERSION: u8 = 2;
    pub(super) const OPEN: u8 = 3;
    pub(super) const CLOSE: u8 = 4;
    pub(super) const READ: u8 = 5;
    pub(super) const WRITE: u8 = 6;
    pub(super) const LSTAT: u8 = 7;
    pub(super) const FSETSTAT: u8 = 10;
    pub(super) const REMOVE: u8 = 13;
    pub(super) const REALPATH: u8 = 16;
    pub(super) const STAT: u8 = 17;
    pub(super) const RENAME: u8 = 18;
    pub(super) const STATUS: u8 = 101;
    pub(super) const HANDLE: u8 = 102;
    pub(super) const DATA: u8 = 103;
    pub(super) const NAME: u8 = 104;
    pub(super) const ATTRS: u8 = 105;
    pub(super) const EXTENDED: u8 = 200;
    pub(super) const EXTENDED_REPLY: u8 = 201;
}

/// Which attributes follow.
mod has {
    pub(super) const SIZE: u32 = 1;
    pub(super) const OWNER: u32 = 2;
    pub(super) const PERMISSIONS: u32 = 4;
    pub(super) const TIMES: u32 = 8;
}

impl Opening {
    fn bits(self) -> u32 {
        let (read, write, create, truncate, exclusive) = (1, 2, 8, 16, 32);
        match self {
            Self::Read => read,
            Self::Write => write,
            Self::New => write | create | exclusive,
            Self::Over => write | create | truncate,
        }
    }
}

/// The first packet of a client's, appended to `to`.
pub(super) fn encode_init(to: &mut BytesMut) {
    packet(to, kind::INIT, |to| to.put_u32(VERSION));
}

impl Request<'_> {
    /// Appends the packet to `to`.
    pub(super) fn encode(&self, id: u32, to: &mut BytesMut) {
        let kind = match self {
            Self::Open { .. } => kind::OPEN,
            Self::Close { .. } => kind::CLOSE,
            Self::Read { .. } => kind::READ,
            Self::Write { .. } => kind::WRITE,
            Self::Stat { .. } => kind::STAT,
            Self::Lstat { .. } => kind::LSTAT,
            Self::Own { .. } | Self::Permit { .. } => kind::FSETSTAT,
            Self::Remove { .. } => kind::REMOVE,
            Self::RealPath { .. } => kind::REALPATH,
            Self::Rename { .. } => kind::RENAME,
            Self::Replace { .. } | Self::Room { .. } => kind::EXTENDED,
        };
        packet(to, kind, |to| {
            to.put_u32(id);
            match *self {
                Self::Open { path, how, permissions } => {
                    string(to, path);
                    to.put_u32(how.bits());
                    to.put_u32(has::PERMISSIONS);
                    to.put_u32(permissions);
                }
                Self::Close { handle } => string(to, handle),
                Self::Read { handle, offset, length } => {
                    string(to, handle);
                    to.put_u64(offset);
                    to.put_u32(length);
                }
                Self::Write { handle, offset, bytes } => {
                    string(to, handle);
                    to.put_u64(offset);
                    string(to, bytes);
                }
                Self::Stat { path }
                | Self::Lstat { path }
                | Self::Remove { path }
                | Self::RealPath { path } => string(to, path),
                Self::Own { handle, user, group } => {
                    string(to, handle);
                    to.put_u32(has::OWNER);
                    to.put_u32(user);
                    to.put_u32(group);
                }
                Self::Permit { handle, permissions } => {
                    string(to, handle);
                    to.put_u32(has::PERMISSIONS);
                    to.put_u32(permissions);
                }
                Self::Rename { from, to: new } => {
                    string(to, from);
                    string(to, new);
                }
                Self::Replace { from, to: new } => {
                    string(to, b"posix-rename@openssh.com");
                    string(to, from);
                    string(to, new);
                }
                Self::Room { path } => {
                    string(to, b"statvfs@openssh.com");
                    string(to, path);
                }
            }
        });
    }
}

/// Writes a packet and then its length, which its content decides.
fn packet(to: &mut BytesMut, kind: u8, content: impl FnOnce(&mut BytesMut)) {
    let start = to.len();
    to.put_u32(0);
    to.put_u8(kind);
    content(to);
    let length = u32::try_from(to.len() - start - 4).unwrap_or(u32::MAX);
    to[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn string(to: &mut BytesMut, bytes: &[u8]) {
    // Far shorter: a request's path, or what it writes.
    to.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    to.put_slice(bytes);
}

/// Takes the first packet off `bytes`, without its length; none while it is not all there.
///
/// # Errors
/// It is longer than any packet, as text that was printed in the way is, or too short for one.
pub(super) fn take(bytes: &mut BytesMut) -> Result<Option<Bytes>, Nonsense> {
    let Some(length) = bytes.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize) else {
        return Ok(None);
    };
    if !(5..=PACKET_LIMIT).contains(&length) {
        return Err(Nonsense);
    }
    if bytes.len() < 4 + length {
        bytes.reserve(4 + length - bytes.len());
        return Ok(None);
    }
    bytes.advance(4);
    Ok(Some(bytes.split_to(length).freeze()))
}

/// What the server says first.
///
/// # Errors
/// It is not that, or another version than 3.
pub(super) fn decode_version(packet: Bytes) -> Result<Extensions, Nonsense> {
    let mut fields = Fields(packet);
    if fields.byte()? != kind::VERSION || fields.number()? != VERSION {
        return Err(Nonsense);
    }
    let mut extensions = Extensions::default();
    while !fields.0.is_empty() {
        let (name, version) = (fields.string()?, fields.string()?);
        match (&name[..], &version[..]) {
            (b"posix-rename@openssh.com", b"1") => extensions.replace = true,
            (b"statvfs@openssh.com", b"2") => extensions.room = true,
            (b"limits@openssh.com", b"1") => extensions.limits = true,
            _ => {}
        }
    }
    Ok(extensions)
}

/// An answer, and the number of the request that it is for.
///
/// # Errors
/// It is not one.
pub(super) fn decode_answer(packet: Bytes) -> Result<(u32, Answer), Nonsense> {
    let mut fields = Fields(packet);
    let kind = fields.byte()?;
    let id = fields.number()?;
    let answer = match kind {
        kind::STATUS => {
            let code = fields.number()?;
            // Servers of before version 3 gave no words.
            let words = fields.string().unwrap_or_default();
            Answer::Status(Status { code, words })
        }
        kind::HANDLE => Answer::Handle(fields.string()?),
        kind::DATA => Answer::Data(fields.string()?),
        kind::NAME => match fields.number()? {
            0 => return Err(Nonsense),
            _ => Answer::Name(fields.string()?),
        },
        kind::ATTRS => Answer::Attributes(fields.attributes()?),
        kind::EXTENDED_REPLY => Answer::Extended(fields.0),
        _ => return Err(Nonsense),
    };
    Ok((id, answer))
}

/// Bytes that can still be written at a place, as `statvfs@openssh.com` answers, and whether anything can.
pub(super) fn decode_room(reply: Bytes) -> Result<Room, Nonsense> {
    let mut fields = Fields(reply);
    let mut numbers = [0; 11];
    for number in &mut numbers {
        *number = fields.long()?;
    }
    let [_, fragment, _, _, available, _, _, files, _, flags, _] = numbers;
    Ok(Room { bytes: available.saturating_mul(fragment), files, read_only: flags & 1 != 0 })
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// For those who are not root.
    pub(super) bytes: u64,
    /// Files that can still be made; 0 as well where the file system does not count them.
    pub(super) files: u64,
    pub(super) read_only: bool,
}

/// What of a packet is still to be read.
struct Fields(Bytes);

impl Fields {
    fn byte(&mut self) -> Result<u8, Nonsense> {
        self.0.try_get_u8().map_err(|_| Nonsense)
    }

    fn number(&mut self) -> Result<u32, Nonsense> {
        self.0.try_get_u32().map_err(|_| Nonsense)
    }

    fn long(&mut self) -> Result<u64, Nonsense> {
        self.0.try_get_u64().map_err(|_| Nonsense)
    }

    fn string(&mut self) -> Result<Bytes, Nonsense> {
        let length = self.number()? as usize;
        if length > self.0.len() {
            return Err(Nonsense);
        }
        Ok(self.0.split_to(length))
    }

    fn attributes(&mut self) -> Result<Attributes, Nonsense> {
        let flags = self.number()?;
        let mut attributes = Attributes::default();
        if flags & has::SIZE != 0 {
            attributes.size = Some(self.long()?);
        }
        if flags & has::OWNER != 0 {
            attributes.owner = Some((self.number()?, self.number()?));
        }
        if flags & has::PERMISSIONS != 0 {
            attributes.mode = Some(self.number()?);
        }
        if flags & has::TIMES != 0 {
            self.long()?;
        }
        Ok(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(request: &Request<'_>) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        request.encode(7, &mut bytes);
        bytes.to_vec()
    }

    #[test]
    fn requests_are_these_bytes() {
        let mut init = BytesMut::new();
        encode_init(&mut init);
        assert_eq!(&init[..], b"\0\0\0\x05\x01\0\0\0\x03");
        let open = Request::Open { path: b"/x", how: Opening::New, permissions: 0o644 };
        assert_eq!(encoded(&open), b"\0\0\0\x17\x03\0\0\0\x07\0\0\0\x02/x\0\0\0\x2a\0\0\0\x04\0\0\x01\xa4");
        let write = Request::Write { handle: b"h", offset: 258, bytes: b"ab" };
        assert_eq!(encoded(&write), b"\0\0\0\x18\x06\0\0\0\x07\0\0\0\x01h\0\0\0\0\0\0\x01\x02\0\0\0\x02ab");
        let replace = encoded(&Request::Replace { from: b"a", to: b"b" });
        assert_eq!(
            replace,
            [
                b"\0\0\0\x2b\xc8\0\0\0\x07\0\0\0\x18posix-rename@openssh.com".as_slice(),
                b"\0\0\0\x01a\0\0\0\x01b"
            ]
            .concat()
        );
    }

    #[test]
    fn what_openssh_answers_is_understood() {
        let answer = |bytes: &'static [u8]| decode_answer(Bytes::from_static(bytes));
        assert_eq!(
            answer(b"\x65\0\0\0\x07\0\0\0\x02\0\0\0\x0cNo such file\0\0\0\0"),
            Ok((7, Answer::Status(Status { code: 2, words: Bytes::from_static(b"No such file") })))
        );
        let attributes = Attributes { size: Some(5), owner: Some((1, 2)), mode: Some(0o100_644) };
        assert_eq!(
            answer(
                b"\x69\0\0\0\x07\0\0\0\x0f\0\0\0\0\0\0\0\x05\0\0\0\x01\0\0\0\x02\0\0\x81\xa4\0\0\0\0\0\0\0\0"
            ),
            Ok((7, Answer::Attributes(attributes)))
        );
        assert_eq!(answer(b"\x69\0\0\0\x07\0\0\0\x01"), Err(Nonsense));
        assert_eq!(answer(b"\x02\0\0\0\x03"), Err(Nonsense));
        let version = b"\x02\0\0\0\x03\0\0\0\x12limits@openssh.com\0\0\0\x011\0\0\0\x01x\0\0\0\0";
        let limits = Extensions { limits: true, ..Extensions::default() };
        assert_eq!(decode_version(Bytes::from_static(version)), Ok(limits));
        assert_eq!(decode_version(Bytes::from_static(b"\x02\0\0\0\x06")), Err(Nonsense));
    }
}
