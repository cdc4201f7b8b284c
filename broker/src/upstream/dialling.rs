//! What is the same in dialling any trunk: it is done as the newest identity,
//! and a failure says what to type.

use super::sets::usable;
use super::trunks::Dialled;
use crate::identity::{Identity, IdentityError, Snapshot, Watched};
use crate::ssh::Connection;
use natssh_wire::{Failure, FailureKind};
use std::sync::Arc;

/// Connects once, as the newest identity.
pub(super) async fn as_newest<F>(watched: &Arc<Watched>, connect: impl FnOnce(Arc<Snapshot>) -> F) -> Dialled
where
    F: Future<Output = Result<Connection, Failure>>,
{
    match usable(watched, std::time::Instant::now()).await {
        Ok(usable) => Dialled { generation: usable.generation, outcome: connect(usable.snapshot).await },
        Err(failure) => Dialled { generation: watched.current().generation, outcome: Err(failure) },
    }
}

/// The identity of a snapshot.
///
/// # Errors
/// Why there is none.
pub(super) fn identity_of(snapshot: &Snapshot) -> Result<&Identity, Failure> {
    snapshot.identity.as_ref().map_err(IdentityError::to_failure)
}

/// Adds what to type where the handshake itself suggests nothing.
pub(super) fn advise(failure: Failure, identity: &Identity) -> Failure {
    match failure.kind {
        _ if failure.hint.is_some() => failure,
        FailureKind::Denied => failure.hint(identity.renew.clone()),
        // Most often the address is another server's.
        FailureKind::Protocol | FailureKind::HostKey => failure.hint("natssh config show"),
        _ => failure.hint("natssh status"),
    }
}
