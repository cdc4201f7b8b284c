//! Meeting a node: its key is judged, one's own keys are shown, and a refusal is put into words.

use super::proof::{self, Proofs};
use super::trust::Trusted;
use crate::ssh::{Budget, Connection, Hello, Keeping, Logins, NotConnected};
use crate::target::Target;
use natssh_wire::{Failure, FailureKind};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

/// Keys that are shown at most. A server stops sooner by itself: at the sixth, unless it is told otherwise.
const MOST_KEYS: usize = 20;

/// For who has more keys than a server has patience.
const ONE_KEY: &str = "offer the right key alone: ssh -o IdentitiesOnly=yes -i KEY";

/// Why there is no session. Nothing has run on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotOpened {
    /// It failed, and would fail for ssh.
    Failed(Failure),
    /// ssh can do what natssh cannot; why, in lower case, without a full stop.
    RealSsh(String),
}

impl From<Failure> for NotOpened {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Shakes hands with the server at the other end of `stream`, and proves who one is, for streams that lead on from there.
///
/// # Errors
/// See [`NotOpened`]; nothing takes longer than until `deadline`.
pub async fn connect_hop<S>(
    stream: S,
    target: &Target,
    budget: &Arc<Budget>,
    deadline: Instant,
) -> Result<Connection, NotOpened>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // What ssh would have told at the opening is of no session's.
    Ok(connect(stream, target, Keeping::Streams(budget.clone()), deadline).await?.0)
}

/// A connection, and what ssh would have told at the opening.
pub(super) async fn connect<S>(
    stream: S,
    target: &Target,
    keeping: Keeping,
    deadline: Instant,
) -> Result<(Connection, Option<String>), NotOpened>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = target.peer();
    let read = timeout_at(deadline, async { (Trusted::read(target).await, proof::read(target).await) });
    let Ok((trusted, proofs)) = read.await else {
        let text = "the keys and the known hosts were not read in time";
        return Err(Failure::new(FailureKind::Timeout, text).hint("ssh-add -l").into());
    };
    let trusted = trusted?;
    let hello = Hello {
        peer: peer.clone(),
        login: target.user.clone(),
        offers: proofs.offers.iter().take(MOST_KEYS).cloned().collect(),
        algorithms: target.algorithms.clone(),
        expected: trusted.expected(),
        check: trusted.check(),
        agent_logins: Logins::default(),
        keeping,
    };
    let opened = Connection::open(stream, hello, deadline).await;
    let warning = trusted.settle().await?;
    Ok((opened.map_err(|error| refusal(error, &peer, &proofs, &target.proof.other_ways))?, warning))
}

/// What a refusal means for who asked, and has `ways` beside keys.
fn refusal(error: NotConnected, peer: &str, proofs: &Proofs, ways: &[&str]) -> NotOpened {
    let not = match error {
        NotConnected::Failed(failure) => return NotOpened::Failed(failure),
        NotConnected::NoAlgorithm(list) => {
            return NotOpened::RealSsh(format!("natssh has none of the algorithms in {list}"));
        }
        NotConnected::NothingCommon(text) => return NotOpened::RealSsh(format!("{peer}: {text}")),
        NotConnected::NotAdmitted(not) => not,
    };
    let other_ways = not.other_ways().filter(|way| ways.contains(way)).collect::<Vec<_>>().join(", ");
    if not.wants_more {
        return NotOpened::RealSsh(format!("{peer} wants more than a key: {}", not.methods.join(", ")));
    }
    if let Some(why) = not.unsigned.as_ref().or(proofs.locked.as_ref()) {
        return NotOpened::RealSsh(why.clone());
    }
    let all = proofs.offers.len();
    if let Some(words) = &not.cut_off {
        let text = format!("{peer} had enough after {} of {all} keys: {words}", not.shown);
        return NotOpened::Failed(Failure::new(FailureKind::Denied, text).hint(ONE_KEY));
    }
    if !other_ways.is_empty() {
        return NotOpened::RealSsh(format!("{peer} accepts none of the keys, and leaves {other_ways}"));
    }
    let text = format!("{peer}: Permission denied ({})", not.methods.join(","));
    let failure = match (&proofs.unusable, not.shown) {
        (Some(why), _) => Failure::new(FailureKind::Denied, format!("{text}, and {why}")).hint("ssh -v"),
        (None, 0) => {
            Failure::new(FailureKind::Denied, format!("{text}; there was no key to offer")).hint("ssh-add -l")
        }
        (None, shown) if shown < all => {
            Failure::new(FailureKind::Denied, format!("{text} for {shown} of {all} keys")).hint(ONE_KEY)
        }
        (None, 1) => Failure::new(FailureKind::Denied, format!("{text} for the one key that was offered"))
            .hint("ssh -v"),
        (None, shown) => Failure::new(FailureKind::Denied, format!("{text} for {shown} keys")).hint("ssh -v"),
    };
    NotOpened::Failed(failure)
}
