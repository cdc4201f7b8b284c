//! Which files an answer of `ssh -G` was made of, and whether the same answer would come again.
//!
//! This is no second parser of ssh_config: it looks for `Include` lines, and for what makes an
//! answer depend on more than files. Where it is not sure it says so, and nothing is kept.
//!
//! Limit: the system's file is looked for in `/etc/ssh`, and below the folder that the ssh program is in. A
//! program built with yet another folder has its system file noticed only when an answer has grown old.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// As deep as ssh follows `Include` (`READCONF_MAX_DEPTH`).
const DEPTH: usize = 16;
/// No more files than this are watched.
const FILES: usize = 512;
/// No file is read further than this.
const LENGTH: u64 = 1 << 20;
/// A file that was written within this time may be written again without its times showing it: the coarsest clock of
/// a file system ticks every two seconds.
const FRESH: Duration = Duration::from_secs(2);

/// What has to stay the same for an answer to stay good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Every file and folder that had a say, be it by not being there.
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    /// The names of environment variables that stand in the files as `${NAME}`.
    pub(super) variables: BTreeSet<String>,
    /// The keywords at the beginnings of lines, in lower case.
    pub(super) keywords: BTreeSet<String>,
    /// Why the answer may not come again, whatever stays the same.
    pub(super) unsteady: Option<&'static str>,
    /// A line asks for the command: only the real ssh can tell what it means.
    pub(super) asks_for_command: bool,
}

/// A file as the system describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    written: (i64, i64),
    /// Owner and mode too: ssh refuses files that others may write.
    changed: (i64, i64),
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    /// The file of `-F`; none for the user's and the system's.
    pub(super) file: Option<PathBuf>,
    /// This user's home, by the system's accounts.
    pub(super) home: PathBuf,
    /// The caller's `HOME`, which `Include` expands `~` to.
    pub(super) home_variable: Option<PathBuf>,
    /// The ssh program.
    pub(super) ssh: PathBuf,
}

impl Scan {
    /// Reads all files from there on (blocking).
    pub(super) fn of(start: &Start) -> Self {
        let mut scan = Self::default();
        let user = Whose {
            includes: start.home_variable.clone().unwrap_or_else(|| start.home.clone()).join(".ssh"),
        };
        match &start.file {
            Some(file) if file.as_os_str().eq_ignore_ascii_case("none") => {}
            Some(file) => scan.file(file, &user, start, 0),
            None => {
                scan.file(&start.home.join(".ssh/config"), &user, start, 0);
                for folder in system_folders(&start.ssh) {
                    scan.file(&folder.join("ssh_config"), &Whose { includes: folder }, start, 0);
                }
            }
        }
        scan
    }

    /// Whether nothing of what was seen has changed since (blocking).
    pub(super) fn still_holds(&self) -> bool {
        self.unsteady.is_none() && self.stamps.iter().all(|(path, stamp)| Stamp::of(path) == *stamp)
    }

    /// Whether something was written so lately that its next change might not show.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        let edge = now.checked_sub(FRESH).and_then(|edge| edge.duration_since(SystemTime::UNIX_EPOCH).ok());
        let edge = edge.and_then(|edge| i64::try_from(edge.as_secs()).ok()).unwrap_or(i64::MIN);
        self.stamps
            .iter()
            .filter_map(|(_, stamp)| *stamp)
            .any(|stamp| stamp.written.0 >= edge || stamp.changed.0 >= edge)
    }

    fn file(&mut self, path: &Path, whose: &Whose, start: &Start, depth: usize) {
        self.stamp(path);
        if depth > DEPTH || self.stamps.len() > FILES {
            self.unsteady = Some("there are too many files");
            return;
        }
        let Ok(file) = fs::File::open(path) else { return };
        if !file.metadata().is_ok_and(|data| data.is_file()) {
            // A pipe is empty when it has been read.
            self.unsteady = Some("a file is no plain file");
            return;
        }
        let mut bytes = Vec::new();
        if file.take(LENGTH).read_to_end(&mut bytes).is_err() || bytes.len() as u64 == LENGTH {
            self.unsteady = Some("a file is too long, or cannot be read");
        }
        for line in String::from_utf8_lossy(&bytes).lines() {
            self.line(line, whose, start, depth);
        }
    }

    fn line(&mut self, line: &str, whose: &Whose, start: &Start, depth: usize) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        self.variables.extend(variables(line).map(str::to_owned));
        let words = words(line);
        let Some((keyword, arguments)) = words.split_first() else { return };
        let keyword = keyword.to_ascii_lowercase();
        match keyword.as_str() {
            "include" => arguments.iter().for_each(|pattern| self.include(pattern, whose, start, depth + 1)),
            "match" => {
                let text = line.to_ascii_lowercase();
                if text.contains("exec") || text.contains("localnetwork") {
                    self.unsteady = Some("a Match asks a program or the network");
                }
                self.asks_for_command |= text.contains("command");
            }
            _ => {}
        }
        self.keywords.insert(keyword);
    }

    fn include(&mut self, pattern: &str, whose: &Whose, start: &Start, depth: usize) {
        if pattern.contains(['%', '$', '{', '[', '\\'])
            || (pattern.starts_with('~') && !pattern.starts_with("~/"))
        {
            self.unsteady = Some("an Include is not the same for all");
            return;
        }
        let path = match (pattern.strip_prefix("~/"), &start.home_variable) {
            (Some(rest), Some(home)) => home.join(rest),
            (Some(rest), None) => start.home.join(rest),
            (None, _) => whose.includes.join(pattern),
        };
        for file in self.glob(&path) {
            self.file(&file, whose, start, depth);
        }
    }

    /// The files that a path with `*` and `?` means; each folder that was looked through is stamped.
    fn glob(&mut self, path: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::new()];
        for component in path.components() {
            let Component::Normal(name) = component else {
                found.iter_mut().for_each(|path| path.push(component));
                continue;
            };
            let pattern = name.to_string_lossy();
            if !pattern.contains(['*', '?']) {
                found.iter_mut().for_each(|path| path.push(name));
                continue;
            }
            let mut next = Vec::new();
            for folder in found {
                self.stamp(&folder);
                for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    // A dot in front wants a dot in front: glob(7).
                    let hidden = name.as_encoded_bytes().starts_with(b".") && !pattern.starts_with('.');
                    if !hidden && super::environment::matches(name.as_encoded_bytes(), pattern.as_bytes()) {
                        next.push(folder.join(name));
                    }
                }
            }
            next.sort();
            found = next;
        }
        found
    }

    fn stamp(&mut self, path: &Path) {
        if !self.stamps.iter().any(|(stamped, _)| stamped == path) {
            self.stamps.push((path.to_owned(), Stamp::of(path)));
        }
    }
}

/// Where relative paths of `Include` lie.
struct Whose {
    includes: PathBuf,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self {
            device: data.dev(),
            inode: data.ino(),
            length: data.len(),
            written: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

/// The folders where a program may have been told to look for the system's file.
fn system_folders(ssh: &Path) -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/etc/ssh")];
    if let Some(prefix) = ssh.parent().and_then(Path::parent) {
        for folder in [prefix.join("etc/ssh"), prefix.join("etc")] {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    folders
}

/// The names in `${NAME}`.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

/// The words of a line, quotes taken off: the keyword may be parted from the rest by `=`.
fn words(line: &str) -> Vec<String> {
    let at = line.find(|c: char| c.is_whitespace() || c == '=' || c == '"').filter(|at| *at > 0).unwrap_or(0);
    let (keyword, rest) = line.split_at(at);
    let rest = rest.trim_start().strip_prefix('=').unwrap_or(rest);
    let mut words: Vec<String> = Vec::new();
    words.extend(Some(keyword.to_owned()).filter(|keyword| !keyword.is_empty()));
    let mut quote = None;
    let mut word: Option<String> = None;
    for c in rest.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests;
