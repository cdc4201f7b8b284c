//! Why there is no connection.

use super::authenticate::NotAdmitted;
use natssh_wire::{Failure, FailureKind};

/// Why there is no connection.
#[derive(Debug)]
pub enum NotConnected {
    /// The handshake failed.
    Failed(Failure),
    /// The server let nobody in.
    NotAdmitted(NotAdmitted),
    /// The library has no algorithm of this list of the user's.
    NoAlgorithm(&'static str),
    /// It has none in common with the server; a sentence.
    NothingCommon(String),
}

impl NotConnected {
    /// For who asked: `peer` is the server, `login` whom it was asked to let in.
    #[must_use]
    pub fn to_failure(self, peer: &str, login: &str) -> Failure {
        let not = match self {
            Self::Failed(failure) => return failure,
            Self::NoAlgorithm(list) => {
                return Failure::new(FailureKind::Protocol, format!("{peer}: natssh has nothing of {list}"));
            }
            Self::NothingCommon(text) => {
                let text = format!("{peer} broke off the SSH handshake: {text}");
                return Failure::new(FailureKind::Protocol, text);
            }
            Self::NotAdmitted(not) => not,
        };
        if not.wants_more {
            let text = format!("{peer} wants more of {login:?} than a key, and natssh has nothing more");
            return Failure::new(FailureKind::Denied, text);
        }
        if let Some(why) = not.unsigned {
            let text = format!("nothing was signed for {peer}: {why}");
            return Failure::new(FailureKind::Identity, text).hint("ssh-add -l");
        }
        Failure::new(FailureKind::Denied, format!("{peer} refused {login:?} with this identity"))
    }
}
