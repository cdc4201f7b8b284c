//! How a call ended, as this program knows it.

use crate::voice::Voice;
use natssh_wire::frame::{BadFrame, FromBroker};
use natssh_wire::head::decode_failure;
use natssh_wire::{Failure, FailureKind};

/// How the command ended, or why that is not known.
#[derive(Debug)]
pub(super) enum End {
    /// With this status.
    Exit(u32),
    /// By the signal of that name.
    Killed(String),
    /// Its end was not seen; whether it ran is in the message.
    Failed(Failure),
    /// This program was told by a signal to leave.
    Signalled(usize),
    /// This program was told by its escape character to leave.
    GivenUp,
    /// Nobody reads its output, and it does not read its input.
    Stuck,
}

/// What a frame that is no output means: the end, or something to say.
pub(super) fn last(frame: &FromBroker<'_>, voice: &Voice) -> Option<End> {
    match *frame {
        // None of them comes here.
        FromBroker::Output(..) | FromBroker::NoTerminal | FromBroker::StdoutEnd => None,
        FromBroker::Debug(level, line) => {
            match level {
                0 => voice.info(line),
                level => voice.debug(level, line),
            }
            None
        }
        FromBroker::Exit(status) => Some(End::Exit(status)),
        FromBroker::Killed(signal) => Some(End::Killed(signal.to_owned())),
        FromBroker::Failed(json) => Some(End::Failed(decode_failure(502, json))),
    }
}

/// The command's end was not seen, for this reason.
pub(super) fn cut(what: &str) -> Failure {
    Failure::new(
        FailureKind::Cut,
        format!("{what} before the command's end was seen: it may have run, and may run on"),
    )
    .hint("natssh status")
}

/// The same, where the broker sent what it was not.
pub(super) fn not_understood(bad: &BadFrame) -> Failure {
    cut(&format!("the broker sent what is no frame ({bad})"))
}
