//! A host of ProxyJump: a bastion that only the user's ssh_config knows, shared and kept like any other.

use super::trunks::{Dialled, Terms, Trunks, dial_by};
use super::{Stream, forward};
use crate::admission::Gates;
use crate::config::resolve;
use crate::failures::Failures;
use crate::metrics::Meter;
use crate::ssh::{Connection, Target};
use natssh_wire::{Failure, NodeAddr, status};
use std::future::Future;
use std::sync::Arc;
use tokio::time::Instant;

/// One hop, in one way of authenticating. With its last owner its trunks close as they become empty.
pub struct Hop {
    /// For messages: `jump host ops@gate.example.com:22`.
    peer: String,
    address: NodeAddr,
    gates: Gates,
    trunks: Arc<Trunks>,
}

/// What a hop is given.
pub struct HopMeans {
    /// The login there.
    pub login: String,
    /// What tells one way of authenticating from another, for the breaker.
    pub identity: String,
    /// Where it tells of trunks that were lost.
    pub failures: Arc<Failures>,
    /// Counts what it does.
    pub meter: Arc<Meter>,
    /// Where its handshakes wait for their turn.
    pub gates: Gates,
}

impl Hop {
    /// A hop at that address; `connect` dials it and proves who one is, and says by which generation of the identity.
    pub fn new<F>(
        address: NodeAddr,
        means: HopMeans,
        connect: impl Fn() -> F + Send + Sync + 'static,
    ) -> Arc<Self>
    where
        F: Future<Output = (u64, Result<Connection, Failure>)> + Send + 'static,
    {
        let HopMeans { login, identity, failures, meter, gates } = means;
        let peer = format!("jump host {login}@{address}");
        let gate = gates.dialled(&address);
        let terms = Terms {
            upstream: peer.clone(),
            peer: peer.clone(),
            keepalive: resolve::KEEPALIVE,
            streams_per_trunk: u64::from(resolve::STREAMS_PER_TRUNK),
            max_age: resolve::MAX_AGE,
            meter,
            circuit: gate.circuit(Some(&login), &identity, None),
            gate,
            dial_timeout: resolve::CONNECT_TIMEOUT,
        };
        let dial = dial_by(move || {
            let connecting = connect();
            async move {
                let (generation, outcome) = connecting.await;
                Dialled { generation, outcome }
            }
        });
        Arc::new(Self { peer, address, gates, trunks: Trunks::new(terms, dial, failures) })
    }

    /// Opens a stream to a host behind it, as an identity of that generation or a newer one.
    ///
    /// # Errors
    /// One sentence and what to type, before `deadline`.
    pub async fn open(&self, node: &NodeAddr, generation: u64, deadline: Instant) -> Result<Stream, Failure> {
        let gate = self.gates.behind(Some(&self.peer), node);
        let lease = || self.trunks.lease_to(&gate, generation, deadline);
        forward::open(&self.peer, node, Target::Tcp(node.clone()), lease, deadline).await
    }

    /// Streams that are open now.
    #[must_use]
    pub fn streams(&self) -> u64 {
        self.trunks.streams()
    }

    /// Its entry in `status`.
    #[must_use]
    pub fn report(&self) -> status::Upstream {
        let mut entry = super::blank(&self.peer, "jump", &self.address.to_string());
        self.trunks.report(&mut entry);
        entry
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.trunks.drain();
    }
}
