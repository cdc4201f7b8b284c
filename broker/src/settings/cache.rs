//! Answers of `ssh -G` that are still good. No I/O; the caller supplies the time.
//!
//! An answer is good for the same question, as long as every file that had a say is as it
//! was, and no longer than [`LIFE`]: what else there may be, such as another name for this machine, is noticed then.

use super::printed::Printed;
use super::scan::Scan;
use natssh_wire::word::Word;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// No more answers than this are kept: a few KiB each.
const ANSWERS: usize = 1024;
/// An answer grows old after this.
const LIFE: Duration = Duration::from_secs(60);

/// What an answer depends on, besides files and the variables that stand in them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The program.
    pub(super) ssh: PathBuf,
    /// The words, the host among them.
    pub(super) words: Vec<Word>,
    /// The folder.
    pub(super) directory: Word,
    /// `HOME`, `PATH`, `SSH_AUTH_SOCK` and whatever the words name.
    pub(super) variables: Vec<(String, Option<Word>)>,
}

/// An answer that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What ssh printed.
    pub(super) printed: Printed,
    /// The files it was made of.
    pub(super) scan: Scan,
    /// The variables that stand in the files, as they were.
    pub(super) variables: Vec<(String, Option<Word>)>,
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Cache(HashMap<Key, Kept>);

#[derive(Debug)]
struct Kept {
    known: Arc<Known>,
    since: Instant,
    used: Instant,
}

impl Cache {
    /// The answer to a question, if there is one that is not old.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<Arc<Known>> {
        let kept = self.0.get_mut(key).filter(|kept| now.saturating_duration_since(kept.since) < LIFE)?;
        kept.used = now;
        Some(kept.known.clone())
    }

    /// Keeps an answer; the one that was not asked for the longest time makes room.
    pub(super) fn put(&mut self, key: Key, known: Arc<Known>, now: Instant) {
        if self.0.len() >= ANSWERS && !self.0.contains_key(&key) {
            self.0.retain(|_, kept| now.saturating_duration_since(kept.since) < LIFE);
            let oldest = || self.0.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            if self.0.len() >= ANSWERS
                && let Some(oldest) = oldest()
            {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(key, Kept { known, since: now, used: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(host: usize) -> Key {
        Key {
            ssh: "/usr/bin/ssh".into(),
            words: vec![Word::from(host.to_string().as_str())],
            directory: "/".into(),
            variables: Vec::new(),
        }
    }

    fn known() -> Arc<Known> {
        Arc::new(Known { printed: Printed::default(), scan: Scan::default(), variables: Vec::new() })
    }

    #[test]
    fn an_answer_grows_old() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key(1), known(), now);
        assert!(cache.get(&key(1), now + LIFE / 2).is_some());
        assert!(cache.get(&key(2), now).is_none());
        assert!(cache.get(&key(1), now + LIFE).is_none(), "using it does not make it younger");
    }

    #[test]
    fn the_least_used_answer_makes_room() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let later = |n: usize| now + Duration::from_millis(n as u64);
        for n in 0..ANSWERS {
            cache.put(key(n), known(), later(n));
        }
        assert!(cache.get(&key(0), later(ANSWERS)).is_some());
        cache.put(key(ANSWERS), known(), later(ANSWERS + 1));
        assert!(cache.get(&key(0), later(ANSWERS + 2)).is_some());
        assert!(cache.get(&key(1), later(ANSWERS + 2)).is_none());
        assert_eq!(cache.0.len(), ANSWERS);
    }
}
