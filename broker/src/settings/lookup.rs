//! Answers of `ssh -G`, kept or asked for.

use super::account::{Bases, Basis, Build};
use super::ask::{self, Answer, Question};
use super::cache::{Cache, Key, Known};
use super::call::{Around, Call};
use super::printed::Printed;
use super::scan::{self, Scan, Start};
use natssh_wire::Failure;
use natssh_wire::word::Word;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How many `ssh -G` run at a time; those who wait often find their answer kept.
const AT_A_TIME: usize = 4;
/// Nobody waits longer for others: the real ssh asks for itself.
const QUEUE: Duration = Duration::from_secs(8);

/// Everything that is known about ssh's settings.
pub(super) struct Lookup {
    cache: Mutex<Cache>,
    bases: Bases,
    asking: Semaphore,
}

/// An answer, and what it is read with.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) known: Arc<Known>,
    pub(super) basis: Arc<Basis>,
    /// What ssh has to say to the user.
    pub(super) complaint: Option<String>,
    /// What was seen of files since then is not older than the answer: ssh may have been told to renew them before it gave it.
    pub(super) since: Instant,
}

impl Found {
    /// Whether neither the user's words nor any file say something of a setting.
    pub(super) fn leaves_open(&self, keyword: &str) -> bool {
        self.known.printed.all(keyword) == self.basis.usual.all(keyword)
    }
}

/// What is known of a call without asking ssh.
#[derive(Debug)]
pub(super) struct Seen {
    key: Key,
    build: Build,
    basis: Option<Arc<Basis>>,
    known: Option<Arc<Known>>,
    /// When the look began.
    pub(super) since: Instant,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NotFound {
    /// ssh refuses, and says so to the user when it is called: its words.
    Refused(String),
    /// natssh cannot make anything of it, but ssh may.
    Unclear(String),
    /// There is no ssh.
    NoSsh(Failure),
}

/// As a reason.
impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) | Self::Unclear(text) => f.write_str(text),
            Self::NoSsh(failure) => f.write_str(&failure.message),
        }
    }
}

impl Default for Lookup {
    fn default() -> Self {
        Self { cache: Mutex::default(), bases: Bases::default(), asking: Semaphore::new(AT_A_TIME) }
    }
}

impl Lookup {
    /// The settings of a call.
    ///
    /// # Errors
    /// See [`NotFound`].
    pub(super) async fn settings(
        self: &Arc<Self>,
        call: &Call,
        around: &Around<'_>,
    ) -> Result<Found, NotFound> {
        let (lookup, asked, request) = (self.clone(), call.clone(), around.request());
        let seen = spawn_blocking(move || lookup.look(&asked, &Around::of(&request))).await;
        let seen = seen.map_err(|error| unclear(&io::Error::other(error)))??;
        self.found(call, around, seen).await
    }

    /// Looks for an answer that is kept (blocking: homes may be on slow disks).
    ///
    /// # Errors
    /// See [`NotFound`].
    pub(super) fn look(&self, call: &Call, around: &Around<'_>) -> Result<Seen, NotFound> {
        let since = Instant::now();
        let ssh = super::real_ssh::find(around).map_err(NotFound::NoSsh)?;
        let (build, basis) = self.bases.look(&ssh).map_err(|error| unclear(&error))?;
        let named = in_words(&call.words);
        if call.words.iter().any(|word| word.as_bytes().contains(&b'\n')) || breaks_lines(around, &named) {
            return Err(NotFound::Unclear("a value holds a line break".into()));
        }
        let key = Key {
            ssh,
            words: call.words.clone(),
            directory: around.directory().clone(),
            variables: values(
                around,
                ["HOME", "PATH", "SSH_AUTH_SOCK"].into_iter().chain(named.iter().map(String::as_str)),
            ),
        };
        let known = self.kept(&key, around).filter(|known| known.scan.still_holds());
        Ok(Seen { key, build, basis, known, since })
    }

    /// The settings of a call of which that much is known.
    ///
    /// # Errors
    /// See [`NotFound`].
    pub(super) async fn found(
        &self,
        call: &Call,
        around: &Around<'_>,
        seen: Seen,
    ) -> Result<Found, NotFound> {
        let Seen { key, build, basis, known, since } = seen;
        let basis = match basis {
            Some(basis) => basis,
            None => self.bases.ask(&key.ssh, build, around).await.map_err(|error| unclear(&error))?,
        };
        if let Some(known) = known {
            return Ok(Found { known, basis, complaint: None, since });
        }
        let Ok(_place) = timeout(QUEUE, self.asking.acquire()).await else {
            return Err(NotFound::Unclear("too many calls ask ssh -G at once".into()));
        };
        // Who was before may have asked the same.
        if let Some(known) = self.kept(&key, around)
            && holds(&known).await
        {
            return Ok(Found { known, basis, complaint: None, since: Instant::now() });
        }
        let start = Start {
            file: call.file.as_ref().map(|file| match file.as_bytes().eq_ignore_ascii_case(b"none") {
                true => "none".into(),
                false => PathBuf::from(around.directory().as_os_str()).join(file.as_os_str()),
            }),
            home: basis.home.clone().into(),
            home_variable: around
                .variable("HOME")
                .map(|home| home.as_os_str().into())
                .filter(|home: &PathBuf| !home.as_os_str().is_empty()),
            ssh: key.ssh.clone(),
        };
        let scan = scan_off_the_loop(start).await.map_err(|error| unclear(&error))?;
        if scan.asks_for_command {
            return Err(NotFound::Unclear("a Match asks what is run".into()));
        }
        if breaks_lines(around, &scan.variables) {
            return Err(NotFound::Unclear("a value holds a line break".into()));
        }
        let question = Question {
            ssh: &key.ssh,
            words: &call.words,
            directory: around.directory(),
            environment: around.environment(),
        };
        let Answer { printed, complaint } = ask::ask(question).await.map_err(|error| unclear(&error))?;
        let Some(printed) = printed else {
            return Err(NotFound::Refused(complaint.unwrap_or_default()));
        };
        let printed = Printed::parse(&printed).map_err(|why| NotFound::Unclear(why.to_string()))?;
        let variables = values(around, scan.variables.iter().map(String::as_str));
        let known = Arc::new(Known { printed, scan, variables });
        if complaint.is_none()
            && !asks_the_network(&known.printed)
            && !known.scan.is_fresh(SystemTime::now())
            && holds(&known).await
        {
            self.lock().put(key, known.clone(), Instant::now());
        }
        Ok(Found { known, basis, complaint, since: Instant::now() })
    }

    /// What was kept for the same variables; its files may be others now.
    fn kept(&self, key: &Key, around: &Around<'_>) -> Option<Arc<Known>> {
        let known = self.lock().get(key, Instant::now())?;
        let same = values(around, known.variables.iter().map(|(name, _)| name.as_str())) == known.variables;
        same.then_some(known)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the files are as they were. Homes may be on slow disks: it is looked on a thread of its own.
async fn holds(known: &Arc<Known>) -> bool {
    let known = known.clone();
    spawn_blocking(move || known.scan.still_holds()).await.unwrap_or(false)
}

async fn scan_off_the_loop(start: Start) -> io::Result<Scan> {
    spawn_blocking(move || Scan::of(&start)).await.map_err(io::Error::other)
}

/// With these, ssh has asked name servers.
fn asks_the_network(printed: &Printed) -> bool {
    let is = |keyword, quiet: &[&str]| printed.one(keyword).is_some_and(|value| !quiet.contains(&value));
    is("canonicalizehostname", &["false", "no"]) || is("canonicalizepermittedcnames", &["none", ""])
}

/// The variables that stand in the words.
fn in_words(words: &[Word]) -> BTreeSet<String> {
    let text = words.iter().filter_map(Word::as_str);
    text.flat_map(scan::variables).map(str::to_owned).collect()
}

/// Whether a variable would make ssh print lines that nobody wrote.
fn breaks_lines(around: &Around<'_>, names: &BTreeSet<String>) -> bool {
    names.iter().filter_map(|name| around.variable(name)).any(|value| value.as_bytes().contains(&b'\n'))
}

fn values<'n>(around: &Around<'_>, names: impl Iterator<Item = &'n str>) -> Vec<(String, Option<Word>)> {
    names.map(|name| (name.to_owned(), around.variable(name).cloned())).collect()
}

fn unclear(error: &io::Error) -> NotFound {
    NotFound::Unclear(match error.kind() {
        io::ErrorKind::TimedOut => "ssh -G did not answer in time".into(),
        _ => format!("ssh -G: {error}"),
    })
}

#[cfg(test)]
mod tests;
