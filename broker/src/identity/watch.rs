//! An identity that is read again when its files change.
//!
//! There is no file notification: [`Watched::refresh`] costs a few `stat` calls
//! and is made before every dial, so a dial never uses what the user has already
//! replaced or logged out of, on any file system. Dials that wait together share
//! one look: [`Watched::refreshed_since`]. A slow clock does the same for
//! `status` and for trunks that nobody dials on.

use super::files::Files;
use super::notice::Notices;
use super::{Identity, IdentityError, Meaning, Source, Validity};
use crate::failures::unix_now;
use natssh_wire::status;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinError;

/// What an identity is at one moment, or why it is not usable.
#[derive(Debug)]
pub struct Snapshot {
    /// That of the last identity that could be read; 0 before the first.
    pub generation: u64,
    /// The identity.
    pub identity: Result<Identity, IdentityError>,
}

/// One identity and its place.
#[derive(Debug)]
pub struct Watched {
    name: Arc<str>,
    source: Source,
    state: Mutex<State>,
    notices: Mutex<Notices>,
    published: watch::Sender<Arc<Snapshot>>,
}

#[derive(Debug)]
struct State {
    files: Files,
    /// The last one that could be read: when it comes back unchanged, it keeps its generation.
    last_good: Option<Meaning>,
    generation: u64,
    /// When the last look began.
    looked: Instant,
}

impl Snapshot {
    /// The identity, if it can be used at this moment.
    ///
    /// # Errors
    /// Why it cannot: what was wrong when it was read, or its certificate's lifetime.
    pub fn usable(&self, now: u64) -> Result<&Identity, IdentityError> {
        let identity = self.identity.as_ref().map_err(Clone::clone)?;
        identity.check(now)?;
        Ok(identity)
    }
}

impl Watched {
    /// Reads an identity for the first time; one that cannot be read may come later. Blocks.
    #[must_use]
    pub fn open(name: &str, source: Source) -> Self {
        let looked = Instant::now();
        let (result, files) = Identity::load_noting(name, &source);
        let mut state = State { files, last_good: None, generation: 0, looked };
        let snapshot = Arc::new(state.snapshot(result));
        report(name, &snapshot);
        let (state, published) = (Mutex::new(state), watch::Sender::new(snapshot));
        Self { name: name.into(), source, state, notices: Mutex::default(), published }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The last snapshot, without a look at the files.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.published.borrow().clone()
    }

    /// Tells of each change in meaning.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    /// The snapshot that is true now: reads the files again if one looks different, and asks an agent each time.
    ///
    /// Blocks: microseconds as a rule, a second at most for files that are just being
    /// rewritten, two seconds for an agent that hangs.
    pub fn refresh(&self) -> Arc<Snapshot> {
        self.refreshed_since(Instant::now())
    }

    /// A snapshot that was true at `since` or later: what a look found that began by then, or a look now, as
    /// [`Watched::refresh`] is. Blocks like that.
    pub fn refreshed_since(&self, since: Instant) -> Arc<Snapshot> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        if state.looked > since {
            return current;
        }
        state.looked = Instant::now();
        let is_agent = matches!(self.source, Source::Agent(_));
        // For want of descriptors, or of a file server, a file cannot be read that has not changed, and later can be.
        let was_unreadable = matches!(current.identity, Err(IdentityError::Unreadable { .. }));
        if !is_agent && !was_unreadable && state.files.unchanged() {
            return current;
        }
        let (result, files) = Identity::load_noting(&self.name, &self.source);
        state.files = files;
        if means_the_same(&current.identity, &result) {
            return current;
        }
        let snapshot = Arc::new(state.snapshot(result));
        report(&self.name, &snapshot);
        self.published.send_replace(snapshot.clone());
        snapshot
    }

    /// The same without a look, and without waiting for one; nothing where that does not do.
    pub fn seen_since(&self, since: Instant) -> Option<Arc<Snapshot>> {
        let state = self.state.try_lock().ok()?;
        (state.looked > since).then(|| self.current())
    }

    /// The same as [`Watched::refreshed_since`], which gets a thread of its own where it has to look.
    ///
    /// # Errors
    /// The look ended in the middle.
    pub async fn snapshot_since(self: &Arc<Self>, since: Instant) -> Result<Arc<Snapshot>, JoinError> {
        if let Some(snapshot) = self.seen_since(since) {
            return Ok(snapshot);
        }
        let watched = self.clone();
        tokio::task::spawn_blocking(move || watched.refreshed_since(since)).await
    }

    /// Says in the log what of its lifetime has not been said yet; how many lines that took.
    pub fn announce(&self, now: u64) -> usize {
        let snapshot = self.current();
        let Ok(identity) = &snapshot.identity else { return 0 };
        let validity = identity.validity(now);
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if !notices.is_news(snapshot.generation, validity) {
            return 0;
        }
        let sentence = identity.check(now).err().map(|error| error.to_string());
        let sentence = sentence.or_else(|| identity.warning(now)).unwrap_or_default();
        let (identity, hint) = (&*self.name, &identity.renew);
        tracing::warn!(identity, generation = snapshot.generation, hint, "{sentence}");
        1
    }

    /// Refreshes from time to time, for as long as it is polled.
    pub async fn keep_fresh(self: Arc<Self>, every: Duration) {
        let mut clock = tokio::time::interval(every);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let watched = self.clone();
            if tokio::task::spawn_blocking(move || watched.refresh()).await.is_err() {
                return;
            }
            self.announce(unix_now());
        }
    }

    /// For `natssh status`.
    #[must_use]
    pub fn status(&self, now: u64) -> status::Identity {
        let snapshot = self.current();
        let mut status = status::Identity {
            name: self.name.to_string(),
            source: self.source.to_string(),
            kind: self.source.kind().into(),
            cluster: None,
            upstreams: Vec::new(),
            state: status::IdentityState::Unusable,
            user: None,
            principals: Vec::new(),
            valid_from: None,
            valid_until: None,
            generation: snapshot.generation,
            message: None,
            hint: None,
        };
        if let Ok(identity) = &snapshot.identity {
            status.user = identity.user.clone();
            status.cluster = identity.cluster.clone();
            status.principals = identity.principals.clone();
            status.valid_from = identity.lifetime.from;
            status.valid_until = identity.lifetime.until;
            status.state = match identity.validity(now) {
                Validity::Valid => status::IdentityState::Valid,
                Validity::Expiring { .. } => status::IdentityState::Expiring,
                Validity::Expired { .. } => status::IdentityState::Expired,
                Validity::NotYetValid { .. } => status::IdentityState::NotYetValid,
            };
            if let Some(warning) = identity.warning(now) {
                (status.message, status.hint) = (Some(warning), Some(identity.renew.clone()));
            }
        }
        if let Err(error) = snapshot.usable(now) {
            let failure = error.to_failure();
            status.message = Some(failure.message);
            status.hint = failure.hint;
        }
        status
    }
}

impl State {
    /// Numbers what was read: a change counts up, a failure keeps the number of what it replaced.
    fn snapshot(&mut self, result: Result<Identity, IdentityError>) -> Snapshot {
        let identity = result.map(|mut identity| {
            let meaning = identity.meaning();
            if self.last_good.as_ref() != Some(&meaning) {
                self.generation += 1;
                self.last_good = Some(meaning);
            }
            identity.generation = self.generation;
            identity
        });
        Snapshot { generation: self.generation, identity }
    }
}

fn means_the_same(old: &Result<Identity, IdentityError>, new: &Result<Identity, IdentityError>) -> bool {
    match (old, new) {
        (Ok(old), Ok(new)) => old.meaning() == new.meaning(),
        (Err(old), Err(new)) => old == new,
        _ => false,
    }
}

/// The operator's story: one line a change.
fn report(name: &str, snapshot: &Snapshot) {
    match &snapshot.identity {
        Ok(identity) => {
            let (user, valid_until) = (&identity.user, identity.lifetime.until);
            tracing::info!(
                identity = name,
                generation = snapshot.generation,
                user,
                valid_until,
                "identity read"
            );
        }
        Err(error) => {
            tracing::warn!(identity = name, generation = snapshot.generation, %error, "identity unusable");
        }
    }
}

#[cfg(test)]
mod tests;
