//! Who shares a session.

use crate::reach::Way;
use crate::target::Target;

/// Whatever changes who one is, whom one trusts, or by which way one comes. What is equal shares sessions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The node, and who one is there.
    pub target: Target,
    /// The way there, as the configuration in force says. Another one is another key, so that a reload keeps
    /// the sessions whose way it did not change.
    pub way: Way,
}

impl Key {
    /// `root@web-3`, for people.
    #[must_use]
    pub fn peer(&self) -> String {
        self.target.peer()
    }

    /// Whether sessions of both are the same to whoever asks for one by its words: what ssh would try where no key was
    /// accepted, as `BatchMode` decides, made no difference to a session that is open.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let alike = |key: &Self| {
            let mut key = key.clone();
            key.target.proof.other_ways.clear();
            key
        };
        self == other || alike(self) == alike(other)
    }

    /// Whether a person means this node: by the name that was typed, or by the one it stands for.
    #[must_use]
    pub fn is_of(&self, host: &str) -> bool {
        [&self.target.typed, &self.target.host].into_iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}
