//! A stream behind an OpenSSH server: a channel on one of its trunks, and what its refusals mean.

use super::Stream;
use super::trunks::Lease;
use crate::ssh::{Code, OpenError, RefusedOpen, Target};
use natssh_wire::{Failure, FailureKind, NodeAddr};
use tokio::time::{Instant, timeout_at};

/// Opens a stream to `node` as the server at `peer` knows it; `lease` gives a place on a trunk.
///
/// # Errors
/// One sentence and what to type, before `deadline`.
pub(super) async fn open<F>(
    peer: &str,
    node: &NodeAddr,
    target: Target,
    mut lease: impl FnMut() -> F,
    deadline: Instant,
) -> Result<Stream, Failure>
where
    F: Future<Output = Result<Lease, Failure>>,
{
    loop {
        let lease = lease().await?;
        let opening = lease.connection().direct(target.clone());
        match timeout_at(deadline, opening).await {
            Ok(Ok(channel)) => {
                lease.stream_opened();
                return Ok(Stream::Channel { channel, lease, sent: 0 });
            }
            // Nothing was started: the next round leases another trunk, or waits for one.
            Ok(Err(OpenError::Lost(_))) => {}
            Ok(Err(OpenError::NoChannel(why))) => return Err(refused(peer, &format!("node {node}"), &why)),
            Ok(Err(OpenError::Refused(text))) => {
                let text = format!("{peer} refused node {node}: {text}");
                return Err(Failure::new(FailureKind::Protocol, text).hint("natssh status"));
            }
            Err(_) => {
                let text = format!(
                    "{peer} got no answer from node {node} in time: the node may be frozen, or a firewall drops the connection"
                );
                return Err(Failure::new(FailureKind::Timeout, text).hint("natssh status"));
            }
        }
    }
}

/// Why an OpenSSH server did not connect to somewhere.
pub(crate) fn refused(peer: &str, to: &str, refused: &RefusedOpen) -> Failure {
    match refused.code {
        Code::ConnectFailed => {
            let text = format!("{peer} could not connect to {to}: {refused}");
            Failure::new(FailureKind::Offline, text)
        }
        Code::Prohibited => {
            let text = format!("{peer} does not forward to {to}: {refused}");
            Failure::new(FailureKind::Denied, text).hint(
                "look at AllowTcpForwarding, AllowStreamLocalForwarding and PermitOpen in its sshd_config",
            )
        }
        Code::UnknownKind => {
            let text = format!("{peer} knows no forwarding of this kind: {refused}");
            Failure::new(FailureKind::Protocol, text).hint("natssh config show")
        }
        Code::Shortage => {
            let text = format!("{peer} has no room for another stream: {refused}");
            Failure::new(FailureKind::Busy, text).hint("natssh status")
        }
    }
}
