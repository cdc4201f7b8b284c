//! One authenticated connection to one node, and the commands that run on it.
//!
//! The pool opens sessions over whatever stream a route gives, and leases channels of them. Who one is, and whom one
//! trusts, is in the [`Target`]: [`proof`] makes keys to show of it and [`trust`] judges the node's key, both as ssh
//! does. What only a person can do, or natssh does not, is answered with [`NotOpened::RealSsh`].

pub mod alive;
pub mod exec;
mod proof;
mod remember;
#[cfg(test)]
pub(crate) mod tests;
mod trust;

pub use crate::ssh::{Ended, OpenError, Stores};
pub use alive::{Alive, Health};
pub use exec::{Event, Gone, Running};
pub use proof::Proved;

use crate::ssh::{Budget, Connection, Hello, Keeping, Logins, NotConnected, Unread};
use crate::target::Target;
use natssh_wire::{Failure, FailureKind};
use proof::Proofs;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use trust::Trusted;

/// Keys that are shown at most. A server stops sooner by itself: at the sixth, unless it is told otherwise.
const MOST_KEYS: usize = 20;

/// For who has more keys than a server has patience.
const ONE_KEY: &str = "offer the right key alone: ssh -o IdentitiesOnly=yes -i KEY";

/// An authenticated connection to one node.
pub struct Session {
    connection: Arc<Connection>,
    unread: Arc<Unread>,
    pulse: Arc<alive::Pulse>,
    warning: Option<String>,
}

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

impl Session {
    /// Shakes hands with the node at the other end of `stream`, and proves who one is.
    ///
    /// # Errors
    /// See [`NotOpened`]; nothing takes longer than until `deadline`.
    pub async fn open<S>(
        stream: S,
        target: &Target,
        stores: &Arc<Stores>,
        alive: Alive,
        deadline: Instant,
    ) -> Result<Self, NotOpened>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let unread = Unread::new(stores.clone());
        let (connection, warning) =
            connect(stream, target, Keeping::Commands(unread.clone()), deadline).await?;
        let connection = Arc::new(connection);
        let pulse = alive::watch(&connection, alive);
        Ok(Self { connection, unread, pulse, warning })
    }

    /// Opens a channel, on which nothing runs yet: it may be done ahead of need.
    /// If the caller stops waiting, the channel is closed, also when its confirmation comes late.
    ///
    /// # Errors
    /// `NoChannel` where the node gives no more (`MaxSessions`), `Lost` where the session has ended; never `Refused`.
    pub async fn channel(self: &Arc<Self>) -> Result<Running, OpenError> {
        Ok(Running::new(self.connection.command().await?, self.clone()))
    }

    /// By what the node let one in; none where it wanted nothing.
    #[must_use]
    pub fn proof(&self) -> Option<Proved> {
        self.connection.proof().map(Proved::of)
    }

    /// How the session ended, once it has.
    #[must_use]
    pub fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.connection.ended()
    }

    /// Whether the node answers.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.pulse.health()
    }

    /// Whether somebody's output is so far behind that nothing new should run beside it.
    #[must_use]
    pub fn private(&self) -> watch::Receiver<bool> {
        self.unread.private()
    }

    /// The same, now.
    #[must_use]
    pub fn is_private(&self) -> bool {
        *self.unread.private().borrow()
    }

    /// One round trip.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn ping(&self) -> Result<Duration, ()> {
        self.connection.ping().await
    }

    /// The last round trip that was measured, if one was.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.pulse.round_trip()
    }

    /// Bytes of all commands' input so far, and of their output.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        self.unread.bytes()
    }

    /// Channels that are open now, used or not.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.connection.channels()
    }

    /// What ssh would have told at the opening: `Warning: Permanently added …`.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The identification that the node sent.
    #[must_use]
    pub fn server(&self) -> &str {
        self.connection.server()
    }

    /// Ends the session, with all that runs on it.
    pub fn close(self: &Arc<Self>) {
        self.connection.close();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.close();
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
async fn connect<S>(
    stream: S,
    target: &Target,
    keeping: Keeping,
    deadline: Instant,
) -> Result<(Connection, Option<String>), NotOpened>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = format!("{}@{}", target.user, target.host);
    let trusted = Trusted::read(target).await?;
    let proofs = proof::read(target).await;
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
    Ok((opened.map_err(|error| refusal(error, &peer, &proofs))?, warning))
}

/// What a refusal means for who asked.
fn refusal(error: NotConnected, peer: &str, proofs: &Proofs) -> NotOpened {
    let not = match error {
        NotConnected::Failed(failure) => return NotOpened::Failed(failure),
        NotConnected::NoAlgorithm(list) => {
            return NotOpened::RealSsh(format!("natssh has none of the algorithms in {list}"));
        }
        NotConnected::NotAdmitted(not) => not,
    };
    let other_ways = not.other_ways().collect::<Vec<_>>().join(", ");
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
