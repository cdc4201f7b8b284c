//! Where a file that is put goes, by what stands there already.
//!
//! Pure.

use super::packet::{Attributes, Status};

/// The bits of `st_mode` that say what a thing is, and the things.
const TYPE: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// Permissions, setuid and its like included.
const PERMISSIONS: u32 = 0o7777;

/// What to do about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing is there, or nothing that can be looked at: a new file gets that name.
    Free,
    /// A file is there: another takes its place, with its permissions and its user and group.
    Taken { permissions: u32, owner: Option<(u32, u32)> },
    /// A link is there: what it leads to is meant.
    Link,
    /// A device, a pipe, or something unknown is there: the bytes go into it.
    Special,
    /// A folder is there.
    Folder,
}

impl Place {
    /// By the server's answer.
    pub(super) fn of(looked: &Result<Attributes, Status>) -> Self {
        let Ok(attributes) = looked else { return Self::Free };
        let Some(mode) = attributes.mode else { return Self::Special };
        match mode & TYPE {
            REGULAR => Self::Taken { permissions: mode & PERMISSIONS, owner: attributes.owner },
            LINK => Self::Link,
            FOLDER => Self::Folder,
            _ => Self::Special,
        }
    }
}

/// A name in the same folder that nobody else has.
pub(super) fn beside(path: &[u8], number: u64) -> Vec<u8> {
    let mut name = folder_of(path).to_vec();
    name.extend_from_slice(format!(".natssh-{number:016x}").as_bytes());
    name
}

/// The folder that a path leads into, with its slash; nothing where that is the folder one is in.
pub(super) fn folder_of(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    &path[..slash.map_or(0, |slash| slash + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn what_stands_there_decides() {
        let of = |mode: u32| {
            Place::of(&Ok(Attributes { mode: Some(mode), owner: Some((7, 8)), ..Attributes::default() }))
        };
        assert_eq!(of(0o100_644), Place::Taken { permissions: 0o644, owner: Some((7, 8)) });
        assert_eq!(of(0o104_755), Place::Taken { permissions: 0o4755, owner: Some((7, 8)) });
        assert_eq!(of(0o120_777), Place::Link);
        assert_eq!(of(0o040_755), Place::Folder);
        for special in [0o020_666, 0o060_660, 0o010_600, 0o140_600, 0] {
            assert_eq!(of(special), Place::Special, "{special:o}");
        }
        assert_eq!(Place::of(&Ok(Attributes::default())), Place::Special);
        assert_eq!(Place::of(&Err(Status { code: 2, words: Bytes::new() })), Place::Free);
    }

    #[test]
    fn the_temporary_name_is_in_the_same_folder() {
        for (path, folder) in [
            ("/etc/motd", "/etc/"),
            ("/motd", "/"),
            ("motd", ""),
            ("a/b", "a/"),
            ("a/", "a/"),
            ("./motd", "./"),
            ("a\n/b", "a\n/"),
        ] {
            assert_eq!(folder_of(path.as_bytes()), folder.as_bytes());
            assert_eq!(beside(path.as_bytes(), 0xab), format!("{folder}.natssh-00000000000000ab").as_bytes());
        }
    }
}
