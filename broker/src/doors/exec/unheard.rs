//! A command that goes on printing though nobody reads.
//!
//! ssh tells the server (`eow@openssh.com`), which closes the pipe, and the
//! command's next write ends it by SIGPIPE. The SSH library cannot send that
//! message. What is like it: a command that has printed after the news could
//! have reached it is sent the signal, and if it prints still, its channel is
//! closed, which closes the pipe. One that prints no more runs to its end.
//!
//! Pure; the caller supplies the time.

use std::time::Duration;
use tokio::time::Instant;

/// What was printed before is on its way for so long at most.
const UNDERWAY: Duration = Duration::from_millis(200);
/// Or it is no more than this: what a channel's window lets pass.
const WINDOW: usize = 4 << 20;

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing.
    Wait,
    /// Send the command SIGPIPE.
    Signal,
    /// Close its channel.
    Close,
}

/// What was dropped since the last act.
#[derive(Debug)]
pub(super) struct Unheard {
    since: Instant,
    bytes: usize,
    is_signalled: bool,
}

impl Unheard {
    /// Nobody reads from now on.
    pub(super) fn from(now: Instant) -> Self {
        Self { since: now, bytes: 0, is_signalled: false }
    }

    /// So many bytes were dropped.
    pub(super) fn dropped(&mut self, bytes: usize, now: Instant) -> Act {
        self.bytes += bytes;
        if self.bytes <= WINDOW && now.duration_since(self.since) <= UNDERWAY {
            return Act::Wait;
        }
        (self.since, self.bytes) = (now, 0);
        match std::mem::replace(&mut self.is_signalled, true) {
            false => Act::Signal,
            true => Act::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const LATER: Duration = Duration::from_millis(201);

    #[test]
    fn what_was_underway_ends_no_command() {
        let begun = Instant::now();
        let mut unheard = Unheard::from(begun);
        assert_eq!(unheard.dropped(WINDOW / 2, begun), Act::Wait);
        assert_eq!(unheard.dropped(WINDOW / 2, begun + SOON), Act::Wait);
    }

    #[test]
    fn one_that_prints_on_is_told_and_then_cut_off() {
        let begun = Instant::now();
        for (bytes, pause) in [(1, LATER), (WINDOW + 1, Duration::ZERO)] {
            let mut unheard = Unheard::from(begun);
            assert_eq!(unheard.dropped(bytes, begun + pause), Act::Signal);
            assert_eq!(unheard.dropped(1, begun + pause + SOON), Act::Wait);
            assert_eq!(unheard.dropped(bytes, begun + pause * 2), Act::Close);
        }
    }
}
