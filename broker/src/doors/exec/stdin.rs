//! Standard input that was sent to a command of which nobody knows yet whether it started.
//!
//! A node that refuses to run a command has run nothing, so another session may
//! be tried; it needs the same input from its first byte.

use bytes::Bytes;

/// Input that is kept at most. Whoever has sent more is not sent elsewhere.
const HELD: usize = 2 << 20;

/// What the client has sent.
#[derive(Debug, Default)]
pub(super) struct Stdin {
    held: Vec<Bytes>,
    bytes: usize,
    is_broken: bool,
    has_ended: bool,
}

impl Stdin {
    /// Keeps bytes that are sent, unless the command has started.
    pub(super) fn hold(&mut self, bytes: &Bytes, is_started: bool) {
        self.bytes += bytes.len();
        if is_started || self.bytes > HELD {
            (self.held, self.is_broken) = (Vec::new(), true);
        } else if !self.is_broken {
            self.held.push(bytes.clone());
        }
    }

    /// No more follows.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    /// Whether no more follows.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether all of it is still there.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_broken
    }

    /// What is kept.
    pub(super) fn held(&self) -> Vec<Bytes> {
        self.held.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_kept_until_the_command_starts_or_there_is_too_much() {
        let chunk = Bytes::from(vec![0; HELD / 2]);
        let mut stdin = Stdin::default();
        assert!(stdin.is_whole());
        stdin.hold(&chunk, false);
        stdin.hold(&chunk, false);
        assert_eq!((stdin.is_whole(), stdin.held().len()), (true, 2));
        stdin.hold(&Bytes::from_static(b"x"), false);
        assert_eq!((stdin.is_whole(), stdin.held().len()), (false, 0));

        let mut stdin = Stdin::default();
        stdin.hold(&Bytes::from_static(b"x"), true);
        assert!(!stdin.is_whole());
    }
}
