//! What a client is told of a file that was not carried to its end.

use crate::session::transfer::{Harm, Left, STALLED, Stopped};
use crate::target::Target;
use crate::text::one_line;
use natssh_wire::{Failure, FailureKind};

/// The failure, in a sentence; none where nobody is left to be told. `fate` says what has become of the file.
pub(super) fn failure(why: &Stopped, fate: &str, target: &Target) -> Option<Failure> {
    let (peer, host) = (target.peer(), &target.host);
    let fail = |kind: FailureKind, text: String| Failure::new(kind, text);
    Some(match why {
        Stopped::File(words) => fail(FailureKind::File, format!("{peer} {words}{fate}")),
        Stopped::NoSftp(_) => {
            // It is served by commands, and those tell what they lack.
            fail(FailureKind::Internal, format!("{peer} has no SFTP, and was asked for it twice"))
        }
        Stopped::NotSftp(said) => {
            fail(FailureKind::Protocol, format!("{peer} says {said:?} where SFTP begins{fate}"))
                .hint("look for what the start-up files of the login's shell print (.bashrc)")
        }
        Stopped::Cut(reason) => {
            fail(FailureKind::Cut, format!("the way to {peer} ended under a file: {reason}{fate}"))
                .hint(format!("natssh why {host}"))
        }
        Stopped::Stalled => {
            let seconds = STALLED.as_secs();
            fail(FailureKind::Timeout, format!("{peer} did nothing with a file for {seconds} s{fate}"))
                .hint("natssh status")
        }
        Stopped::Client(Left::Gone) => return None,
        Stopped::Client(Left::Bad(bad)) => {
            fail(FailureKind::BadRequest, format!("the client sent what is no frame: {bad}{fate}"))
                .hint("natssh --version")
        }
        Stopped::Client(Left::Unfit) => {
            fail(FailureKind::BadRequest, format!("the client sent a frame that has no place here{fate}"))
                .hint("natssh --version")
        }
    })
}

/// What has become of the file that was meant; to be added to a sentence.
pub(super) fn fate(harm: Harm, path: &[u8]) -> String {
    let path = one_line(&String::from_utf8_lossy(path));
    match harm {
        Harm::None => String::new(),
        Harm::Replaced => format!("; {path} is as it was, or the new one and whole"),
        Harm::Perhaps => format!("; {path} is as it was, unless it had to be written in place"),
        Harm::Part => format!("; {path} was being written in place, and may hold a part"),
    }
}
