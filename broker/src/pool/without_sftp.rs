//! The nodes that have no SFTP, so that only the first file there pays for finding out.

use super::Key;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A node may be given SFTP, and is asked again after so long.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Nodes that are remembered at a time; one more, and all are asked again.
const MOST: usize = 4096;

/// Nodes without SFTP, as those who log in there see it.
#[derive(Debug, Default)]
pub struct WithoutSftp(Mutex<HashMap<Arc<Key>, Instant>>);

impl WithoutSftp {
    /// Whether a node has turned out to be one.
    #[must_use]
    pub fn holds(&self, key: &Key, now: Instant) -> bool {
        self.lock().get(key).is_some_and(|since| now.duration_since(*since) < REMEMBERED)
    }

    /// It has.
    pub fn note(&self, key: &Arc<Key>, now: Instant) {
        let mut nodes = self.lock();
        if nodes.len() >= MOST {
            nodes.clear();
        }
        nodes.insert(key.clone(), now);
    }

    /// Somebody wants them asked again.
    pub fn forget(&self, which: impl Fn(&Key) -> bool) {
        self.lock().retain(|key, _| !which(key));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Key>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::tests::fake::target;
    use crate::reach::Way;

    #[test]
    fn a_node_is_remembered_for_a_while_and_forgotten_when_asked() {
        let key = |host: &str| Arc::new(Key { target: target(host), way: Way { picked: None, number: 0 } });
        let (nodes, now) = (WithoutSftp::default(), Instant::now());
        nodes.note(&key("web-1"), now);
        nodes.note(&key("web-2"), now);
        assert!(nodes.holds(&key("web-1"), now) && !nodes.holds(&key("web-3"), now));
        assert!(!nodes.holds(&key("web-1"), now + REMEMBERED));
        nodes.forget(|key| key.is_of("WEB-1"));
        assert!(!nodes.holds(&key("web-1"), now) && nodes.holds(&key("web-2"), now));
    }
}
