//! Any OpenSSH server as a way to nodes: ProxyJump, but shared and kept.
//!
//! A stream is a `direct-tcpip` channel (RFC 4254, 7.2), or `direct-streamlocal` where a socket's path is
//! configured (OpenSSH's PROTOCOL, 2.4). The trunk itself may stand on a stream of another upstream.

mod dial;

use super::sets::{Sets, Way, retry, usable};
use super::trunks::{Dialled, Terms, Trunks};
use super::{Ask, Means, Stream, Upstream};
use crate::admission::Gates;
use crate::config;
use crate::failures::Failures;
use crate::identity::Watched;
use crate::metrics::Meter;
use crate::ssh::{Budget, Code, OpenError, RefusedOpen, Target};
use dial::Dialler;
use natssh_wire::{Failure, FailureKind, NodeAddr, status};
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// One bastion.
pub struct Bastion {
    settings: config::Upstream,
    bastion: config::Bastion,
    via: Option<Arc<Upstream>>,
    failures: Arc<Failures>,
    meter: Arc<Meter>,
    budget: Arc<Budget>,
    gates: Gates,
    sets: Sets<Set>,
}

/// Trunks, and the identity that opens them.
struct Set {
    trunks: Arc<Trunks>,
    watched: Arc<Watched>,
}

impl Bastion {
    /// A bastion that nobody has asked for yet; `via` reaches it, or plain TCP does.
    pub fn new(
        settings: config::Upstream,
        bastion: config::Bastion,
        via: Option<Arc<Upstream>>,
        means: Means,
    ) -> Arc<Self> {
        let Means { identities, failures, meter, budget, gates } = means;
        let (identity, login) = (settings.identity.as_ref(), settings.login.as_ref());
        let on_the_way = via.as_ref().is_some_and(|via| via.needs_agent());
        let sets = Sets::new(&settings.name, identity, login, identities).with_agent_on_the_way(on_the_way);
        Arc::new(Self { settings, bastion, via, failures, meter, budget, gates, sets })
    }

    pub(super) async fn open(&self, ask: &Ask) -> Result<Stream, Failure> {
        let target = self.target(&ask.node)?;
        let set = self.sets.of(ask, |way| self.new_set(way)).await?;
        let gate = self.gates.behind(None, &ask.node);
        loop {
            let identity = usable(&set.watched).await?;
            let lease = set.trunks.lease_to(&gate, identity.generation, ask.deadline).await?;
            let opening = lease.connection().direct(target.clone());
            match timeout_at(ask.deadline, opening).await {
                Ok(Ok(channel)) => {
                    lease.stream_opened();
                    return Ok(Stream::Channel(channel, lease));
                }
                // Nothing was started: the next round leases another trunk, or waits for one.
                Ok(Err(OpenError::Lost(_))) => {}
                Ok(Err(OpenError::NoChannel(refused))) => return Err(self.refused(&ask.node, &refused)),
                Ok(Err(OpenError::Refused(text))) => {
                    let text = format!("{} refused node {}: {text}", self.peer(), ask.node);
                    return Err(Failure::new(FailureKind::Protocol, text).hint("natssh status"));
                }
                Err(_) => {
                    let text = format!(
                        "{} got no answer from node {} in time: the node may be frozen, or a firewall drops the connection",
                        self.peer(),
                        ask.node
                    );
                    return Err(Failure::new(FailureKind::Timeout, text).hint("natssh status"));
                }
            }
        }
    }

    pub(super) async fn probe(&self, deadline: Instant) -> Result<(), Failure> {
        let nobody = Ask::for_trunk(&self.bastion.host, None, deadline);
        let set = self.sets.of(&nobody, |way| self.new_set(way)).await?;
        let identity = usable(&set.watched).await?;
        set.trunks.lease(identity.generation, deadline).await.map(drop)
    }

    pub(super) async fn retry(&self, deadline: Instant) -> Result<(), Failure> {
        let sets = self.sets.all();
        if sets.is_empty() {
            return self.probe(deadline).await;
        }
        let ways: Vec<_> = sets.iter().map(|set| (&set.trunks, &set.watched)).collect();
        retry(&ways, deadline).await
    }

    pub(super) fn drain(&self) {
        self.sets.all().iter().for_each(|set| set.trunks.drain());
    }

    /// Whether a caller's agent is needed on the way.
    pub(super) fn needs_agent(&self) -> bool {
        self.sets.needs_agent()
    }

    pub(super) fn report(&self) -> status::Upstream {
        let mut entry = super::blank(&self.settings.name, "bastion", &self.bastion.host.to_string());
        entry.identity.clone_from(&self.settings.identity);
        (entry.handshakes, entry.told_busy) = self.gates.report();
        self.sets.all().iter().for_each(|set| set.trunks.report(&mut entry));
        entry
    }

    fn target(&self, node: &NodeAddr) -> Result<Target, Failure> {
        let Some(template) = &self.bastion.socket else { return Ok(Target::Tcp(node.clone())) };
        if node.host.starts_with('.') {
            let text = format!("node {node} cannot be part of a socket's path");
            return Err(Failure::new(FailureKind::BadRequest, text));
        }
        let path = template.replace("{node}", &node.host).replace("{port}", &node.port.to_string());
        Ok(Target::Socket(path))
    }

    fn refused(&self, node: &NodeAddr, refused: &RefusedOpen) -> Failure {
        let peer = self.peer();
        match refused.code {
            Code::ConnectFailed => {
                let text = format!("{peer} could not connect to node {node}: {refused}");
                Failure::new(FailureKind::Offline, text)
            }
            Code::Prohibited => {
                let text = format!("{peer} does not forward to node {node}: {refused}");
                Failure::new(FailureKind::Denied, text)
                    .hint("look at AllowTcpForwarding, AllowStreamLocalForwarding and PermitOpen in its sshd_config")
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

    fn peer(&self) -> String {
        format!("bastion {}", self.bastion.host)
    }

    fn new_set(&self, way: Way) -> Set {
        let gate = self.gates.dialled(&self.bastion.host);
        let circuit = way.circuit(&gate);
        let Way { login, watched, agent } = way;
        let terms = Terms {
            upstream: self.settings.name.clone(),
            peer: self.peer(),
            keepalive: self.settings.keepalive,
            streams_per_trunk: self.settings.streams_per_trunk as u64,
            max_age: self.settings.max_age,
            meter: self.meter.clone(),
            gate,
            circuit,
            dial_timeout: self.settings.connect_timeout,
        };
        let dialler = Arc::new(Dialler {
            bastion: self.bastion.host.clone(),
            peer: self.peer(),
            login: login.unwrap_or_else(|| self.bastion.login.clone()),
            via: self.via.clone(),
            agent,
            known_hosts: self.settings.known_hosts.clone(),
            connect_timeout: self.settings.connect_timeout,
            watched: watched.clone(),
            budget: self.budget.clone(),
        });
        let dial = Box::new(move || {
            let dialler = dialler.clone();
            Box::pin(async move { dialler.dial().await }) as Pin<Box<dyn Future<Output = Dialled> + Send>>
        });
        Set { trunks: Trunks::new(terms, dial, self.failures.clone()), watched }
    }
}
