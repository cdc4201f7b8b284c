//! Files, and a memory of how each looked when it was read.
//!
//! A reader of files that others rewrite has two questions later: did anything
//! change since, and could it have been read in the middle of a change? Both
//! are answered from what `stat` says, files that are missing included.

use super::error::{FileFault, IdentityError};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// More than any key, certificate or known_hosts file has.
const LARGEST: u64 = 16 << 20;

/// Timestamps move in steps of up to 10 ms (one tick); a file written twice within one looks unchanged.
const RACY: Duration = Duration::from_millis(100);

/// What a file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// It holds a private key: nobody else may be able to read it.
    Secret,
    /// Anything else.
    Public,
}

/// What was read, and what it looked like.
#[derive(Debug, Default)]
pub(super) struct Files {
    seen: Vec<(PathBuf, Print)>,
    torn: bool,
    last_change: Option<SystemTime>,
    started: Option<SystemTime>,
}

/// How a file looks from outside. `ctime` is in it for `chmod`, and for copies that keep their date.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Print {
    Absent,
    Present { device: u64, inode: u64, size: u64, modified: (i64, i64), changed: (i64, i64) },
}

impl Files {
    /// A file's bytes, wiped when dropped; nothing when there is no such file.
    ///
    /// # Errors
    /// `Unreadable`, or `Unusable` for a secret that others may read.
    pub(super) fn read(
        &mut self,
        path: &Path,
        content: Content,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
        self.started.get_or_insert_with(SystemTime::now);
        let print = match Print::of(path) {
            Ok(print) => print,
            Err(error) => {
                self.seen.push((path.into(), Print::Absent));
                return Err(unreadable(path, &error));
            }
        };
        self.note_change(path, &print);
        self.seen.push((path.into(), print.clone()));
        if print == Print::Absent {
            return Ok(None);
        }
        self.read_seen(path, content, &print)
    }

    /// The bytes of a file that looked like `print` a moment ago.
    fn read_seen(
        &mut self,
        path: &Path,
        content: Content,
        print: &Print,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
        let unreadable = |error: io::Error| unreadable(path, &error);
        // A fifo would block in `open`, a directory fail in `read`.
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.torn = true;
                self.note_change(path, &Print::Absent);
                return Ok(None);
            }
            Err(error) => return Err(unreadable(error)),
        };
        let meta = file.metadata().map_err(unreadable)?;
        if meta.len() > LARGEST {
            return Err(unreadable(io::Error::other("it is far too large")));
        }
        // The rule of ssh(1): it looks only at files of the caller's own.
        let mode = meta.mode() & 0o7777;
        if content == Content::Secret && mode & 0o077 != 0 && meta.uid() == rustix::process::getuid().as_raw()
        {
            let fault = FileFault::Exposed { mode };
            return Err(IdentityError::Unusable { path: path.into(), fault, renew: String::new() });
        }
        let bytes = read_exactly(&mut file, &meta).map_err(unreadable)?;
        let after = Print::from(&file.metadata().map_err(unreadable)?);
        self.torn |= bytes.is_empty() || Print::from(&meta) != *print || after != *print;
        // It may have looked old before, and be the one that is rewritten now.
        self.note_change(path, &after);
        Ok(Some(bytes))
    }

    /// Whether every file still looks as it did, and was left alone long enough for that to mean something.
    pub(super) fn unchanged(&self) -> bool {
        !self.torn
            && !self.is_racy()
            && self.seen.iter().all(|(path, print)| Print::of(path).is_ok_and(|now| now == *print))
    }

    /// What was read last may be the half of something.
    pub(super) fn doubt(&mut self) {
        self.torn = true;
    }

    /// Whether a file was empty, or changed while it was being read.
    pub(super) fn torn(&self) -> bool {
        self.torn
    }

    /// Whether something changed within this time before the reading began, or since.
    pub(super) fn changed_within(&self, time: Duration) -> bool {
        match (self.last_change, self.started) {
            (Some(change), Some(start)) => start.duration_since(change).map_or(true, |age| age < time),
            _ => false,
        }
    }

    fn is_racy(&self) -> bool {
        self.changed_within(RACY)
    }

    fn note_change(&mut self, path: &Path, print: &Print) {
        let change = match print {
            Print::Present { changed, .. } => Some(time_of(*changed)),
            // Of a missing file only the folder knows when it went.
            Print::Absent => path
                .parent()
                .and_then(|parent| fs::metadata(parent).ok())
                .map(|meta| time_of((meta.ctime(), meta.ctime_nsec()))),
        };
        self.last_change = self.last_change.max(change);
    }
}

impl Print {
    fn of(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Self::from(&meta)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Self::Absent)
            }
            Err(error) => Err(error),
        }
    }
}

impl From<&Metadata> for Print {
    fn from(meta: &Metadata) -> Self {
        Self::Present {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// As much as the file had when it was opened: the buffer never moves, so nothing is left behind unwiped.
fn read_exactly(file: &mut File, meta: &Metadata) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = usize::try_from(meta.len()).map_err(io::Error::other)?;
    let mut bytes = Zeroizing::new(vec![0; size]);
    let mut filled = 0;
    while filled < size {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> IdentityError {
    IdentityError::Unreadable { path: path.into(), why: explain(path, error) }
}

/// The system's words, and for a refusal whose file it is.
fn explain(path: &Path, error: &io::Error) -> String {
    let words = error.to_string();
    let words = words.split(" (os error").next().unwrap_or_default().to_lowercase();
    match fs::metadata(path) {
        Ok(meta) if error.kind() == io::ErrorKind::PermissionDenied => {
            let me = rustix::process::getuid().as_raw();
            format!(
                "{words} (it belongs to uid {}, mode {:04o}; this is uid {me})",
                meta.uid(),
                meta.mode() & 0o7777
            )
        }
        _ => words,
    }
}

fn time_of((seconds, nanoseconds): (i64, i64)) -> SystemTime {
    let whole = Duration::from_secs(seconds.try_into().unwrap_or(0));
    SystemTime::UNIX_EPOCH + whole + Duration::from_nanos(nanoseconds.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::write;

    #[test]
    fn a_look_too_soon_after_a_change_proves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, "text");
        let mut files = Files::default();
        files.read(&path, Content::Secret).unwrap().unwrap();
        let change = files.last_change.unwrap();
        for (age, trusted) in [(0, false), (99, false), (100, true), (5000, true)] {
            files.started = Some(change + Duration::from_millis(age));
            assert_eq!(files.unchanged(), trusted, "read {age} ms after the change");
        }
        fs::remove_file(&path).unwrap();
        assert!(!files.unchanged());
    }

    #[test]
    fn a_file_that_is_rewritten_between_a_look_and_its_reading_has_just_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, "text");
        let mut old = Print::of(&path).unwrap();
        let Print::Present { changed, .. } = &mut old else { panic!("it is there") };
        changed.0 -= 3600;
        for rewrite in [|path: &Path| fs::write(path, ""), |path: &Path| fs::remove_file(path)] {
            rewrite(&path).unwrap();
            let mut files = Files { started: Some(SystemTime::now()), ..Files::default() };
            files.note_change(&path, &old);
            assert!(!files.changed_within(Duration::from_secs(60)));
            let read = files.read_seen(&path, Content::Public, &old);
            assert!(files.torn() && files.changed_within(Duration::from_secs(60)), "{read:?}");
        }
    }

    #[test]
    fn a_missing_file_is_remembered_and_its_folder_tells_when_it_went() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut files = Files::default();
        assert_eq!(files.read(&path, Content::Public).unwrap(), None);
        assert!(files.changed_within(Duration::from_secs(3600)));
        files.started = Some(files.last_change.unwrap() + RACY);
        assert!(files.unchanged());
        write(&path, "text");
        assert!(!files.unchanged());
    }
}
