//! Any OpenSSH server as a way to nodes: ProxyJump, but shared and kept.
//!
//! A stream is a `direct-tcpip` channel (RFC 4254, 7.2), or `direct-streamlocal` where a socket's path is
//! configured (OpenSSH's PROTOCOL, 2.4). The trunk itself may stand on a stream of another upstream.

mod dial;

use super::sets::{Sets, Way, usable};
use super::trunks::{Dial, dial_by};
use super::{Ask, Means, Stream, Upstream, forward};
use crate::config;
use crate::ssh::{Budget, Target};
use dial::Dialler;
use natssh_wire::{Failure, FailureKind, NodeAddr, status};
use std::sync::Arc;
use tokio::time::Instant;

/// One bastion.
pub struct Bastion {
    settings: config::Upstream,
    bastion: config::Bastion,
    via: Option<Arc<Upstream>>,
    budget: Arc<Budget>,
    sets: Sets<()>,
}

impl Bastion {
    /// A bastion that nobody has asked for yet; `via` reaches it, or plain TCP does.
    pub fn new(
        settings: config::Upstream,
        bastion: config::Bastion,
        via: Option<Arc<Upstream>>,
        means: Means,
    ) -> Arc<Self> {
        let budget = means.budget.clone();
        let on_the_way = via.as_ref().is_some_and(|via| via.needs_agent());
        let sets = Sets::new(settings.clone(), peer(&bastion), bastion.host.clone(), means);
        let sets = sets.with_agent_on_the_way(on_the_way);
        Arc::new(Self { settings, bastion, via, budget, sets })
    }

    pub(super) async fn open(&self, ask: &Ask) -> Result<Stream, Failure> {
        let target = self.target(&ask.node)?;
        let set = self.sets.of(ask, |way| (self.dial(way), ())).await?;
        let gate = self.sets.gate_to(None, &ask.node);
        let (set, gate) = (&set, &gate);
        let mut since = ask.begun;
        let lease = || {
            let begun = std::mem::replace(&mut since, std::time::Instant::now());
            async move {
                let identity = usable(&set.watched, begun).await?;
                set.trunks.lease_to(gate, identity.generation, ask.deadline).await
            }
        };
        forward::open(&self.peer(), &ask.node, target, lease, ask.deadline).await
    }

    pub(super) async fn probe(&self, deadline: Instant) -> Result<(), Failure> {
        self.sets.probe(deadline, |way| (self.dial(way), ())).await
    }

    pub(super) async fn retry(&self, deadline: Instant) -> Result<(), Failure> {
        self.sets.retry(deadline, |way| (self.dial(way), ())).await
    }

    pub(super) fn drain(&self) {
        self.sets.drain();
    }

    /// Whether a caller's agent is needed on the way.
    pub(super) fn needs_agent(&self) -> bool {
        self.sets.needs_agent()
    }

    pub(super) fn report(&self) -> status::Upstream {
        self.sets.report("bastion", &self.bastion.host.to_string())
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

    fn peer(&self) -> String {
        peer(&self.bastion)
    }

    fn dial(&self, way: &Way) -> Dial {
        let dialler = Arc::new(Dialler {
            bastion: self.bastion.host.clone(),
            peer: self.peer(),
            login: way.login.clone().unwrap_or_else(|| self.bastion.login.clone()),
            via: self.via.clone(),
            agent: way.agent.clone(),
            known_hosts: self.settings.known_hosts.clone(),
            connect_timeout: self.settings.connect_timeout,
            watched: way.watched.clone(),
            budget: self.budget.clone(),
        });
        dial_by(move || {
            let dialler = dialler.clone();
            async move { dialler.dial().await }
        })
    }
}

fn peer(bastion: &config::Bastion) -> String {
    format!("bastion {}", bastion.host)
}
