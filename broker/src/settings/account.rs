//! What the user's ssh says unasked: the defaults that it was built with, and whom it takes the user for.
//!
//! ssh looks the user up in the system's accounts, whatever `HOME` and `USER` say, and only the
//! system knows these: so ssh is asked, once for each ssh program.

use super::ask::{self, Question};
use super::call::Around;
use super::printed::Printed;
use natssh_wire::word::Word;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// No more programs than this are remembered.
const PROGRAMS: usize = 16;

/// What an ssh says with no configuration at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Basis {
    /// Every setting's default.
    pub(super) usual: Printed,
    /// The user's home.
    pub(super) home: String,
    /// The user's name.
    pub(super) name: String,
}

/// By program: which file it was, and what it said.
#[derive(Debug, Default)]
pub(super) struct Bases(Mutex<HashMap<PathBuf, (Build, Arc<Basis>)>>);

/// A program's file: it changes with an update.
pub(super) type Build = (u64, u64, i64);

impl Bases {
    /// Which file that program is, and what it said, if it was asked (blocking).
    ///
    /// # Errors
    /// There is none.
    pub(super) fn look(&self, ssh: &Path) -> io::Result<(Build, Option<Arc<Basis>>)> {
        let data = ssh.metadata()?;
        let build = (data.dev(), data.ino(), data.mtime());
        let bases = self.lock();
        let known = bases.get(ssh).filter(|(known, _)| *known == build);
        Ok((build, known.map(|(_, basis)| basis.clone())))
    }

    /// Asks that program.
    ///
    /// # Errors
    /// It cannot be run, or says what no ssh says.
    pub(super) async fn ask(&self, ssh: &Path, build: Build, around: &Around<'_>) -> io::Result<Arc<Basis>> {
        let words = ["-F", "none", "-o", "ControlPath=~/%u", "natssh", "true"].map(Word::from);
        let question =
            Question { ssh, words: &words, directory: &Word::from("/"), environment: around.environment() };
        let answer = ask::ask(question).await?;
        let printed = answer.printed.ok_or_else(|| io::Error::other(answer.complaint.unwrap_or_default()))?;
        let basis = Arc::new(Basis::read(&printed).ok_or_else(|| io::Error::other("it is no ssh"))?);
        let mut bases = self.lock();
        if bases.len() >= PROGRAMS {
            bases.clear();
        }
        bases.insert(ssh.to_owned(), (build, basis.clone()));
        Ok(basis)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, (Build, Arc<Basis>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Basis {
    fn read(printed: &[u8]) -> Option<Self> {
        let usual = Printed::parse(printed).ok()?;
        // Every ssh expands ControlPath before it prints it; no account's name holds a slash.
        let (home, name) = usual.one("controlpath")?.rsplit_once('/')?;
        let home = if home.is_empty() { "/" } else { home };
        let (home, name) = (home.to_owned(), name.to_owned());
        Some(Self { home, name, usual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_and_name_are_what_ssh_expands_them_to() {
        for (path, home, name) in [("/home/a b/alice", "/home/a b", "alice"), ("/root", "/", "root")] {
            let basis = Basis::read(format!("port 22\ncontrolpath {path}\n").as_bytes()).unwrap();
            assert_eq!((basis.home.as_str(), basis.name.as_str()), (home, name));
            assert_eq!(basis.usual.one("port"), Some("22"));
        }
        assert_eq!(Basis::read(b"port 22\n"), None);
    }
}
