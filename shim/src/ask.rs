//! One request that has to be answered: by the broker that listens, by one that is started, or by the next one.
//!
//! While one broker leaves and another comes, nothing has been done yet, and asking again is safe.

use crate::call::{Call, Missed};
use crate::start;
use natssh_wire::paths::Paths;
use natssh_wire::{Failure, FailureKind};
use std::time::{Duration, Instant};

/// Between two requests while a broker goes and another comes.
const PAUSE: Duration = Duration::from_millis(100);

/// How long is waited for what.
#[derive(Debug)]
pub(crate) struct Waits {
    /// From when on.
    pub(crate) begun: Instant,
    /// For everything, the start of a broker included.
    pub(crate) limit: Duration,
    /// For the answer; where a broker has to be started, from its start on.
    pub(crate) answer: Duration,
    /// For the next broker while one leaves, within the wait for the answer.
    pub(crate) handover: Duration,
}

/// Asks on a connection, by a deadline, until there is an answer.
///
/// # Errors
/// What the broker refused, or that none answered.
pub(crate) fn until_answered<T>(
    paths: &Paths,
    waits: &Waits,
    mut ask: impl FnMut(Call, Instant) -> Result<T, Missed>,
) -> Result<T, Failure> {
    let limit = waits.begun + waits.limit;
    let mut deadline = limit.min(waits.begun + waits.answer);
    let mut handed_over_by = None;
    loop {
        let call = match Call::open(&paths.socket, deadline) {
            Ok(call) => call,
            Err(Missed::Absent) => {
                let call = start::start(paths, limit)?;
                // Waiting for a broker takes nothing from the patience with its answer.
                deadline = limit.min(Instant::now() + waits.answer);
                call
            }
            Err(Missed::Failed(failure)) => return Err(failure),
        };
        let missed = match ask(call, deadline) {
            Ok(answer) => return Ok(answer),
            Err(Missed::Failed(failure)) if failure.kind != FailureKind::Draining => return Err(failure),
            Err(missed) => missed,
        };
        let by = *handed_over_by.get_or_insert_with(|| Instant::now() + waits.handover);
        if Instant::now() + PAUSE >= deadline.min(by) {
            return Err(last_word(missed, paths));
        }
        std::thread::sleep(PAUSE);
    }
}

fn last_word(missed: Missed, paths: &Paths) -> Failure {
    match missed {
        Missed::Failed(failure) => failure,
        Missed::Absent => {
            Failure::new(FailureKind::Unreachable, "the broker left without an answer; nothing ran")
                .hint(format!("see {}", paths.log.display()))
        }
    }
}
