//! Breaks a running lab on purpose, and mends it.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use super::Supervisor;
use crate::control::ProxyState;
use crate::faults::{self, CertFault, Fault, HostCaFault, NatFault, NodeFault, ProxyFault, Switch};
use crate::netns;
use crate::node::Node;
use crate::proxy::{Face, NodeState, Recording};

/// How long the proxy may take to notice what became of a node. On a silent
/// path it does not notice at all, and that is no error.
const NOTICE: Duration = Duration::from_secs(3);
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(10);

impl Supervisor {
    /// Breaks or mends; the answer says what was done.
    pub(super) async fn apply(&mut self, fault: Fault) -> Result<String> {
        tracing::info!(?fault, "fault");
        match fault {
            Fault::Proxy(fault) => self.proxy_fault(fault).await,
            Fault::Nat(fault) => self.nat_fault(fault),
            Fault::Node(fault) => self.node_fault(fault).await,
            Fault::Cert(fault) => {
                self.credentials.apply(fault, &self.authority, &self.account)?;
                Ok(certificate_words(fault).to_owned())
            }
            Fault::HostCa(HostCaFault::Replace) => self.replace_host_ca().await,
            Fault::Idle { after } => {
                self.front.set_policy(|policy| policy.idle_timeout = after.0);
                Ok(match after.0 {
                    Some(limit) => format!("the proxy ends connections idle for {limit:?}"),
                    None => "the proxy has no idle limit".to_owned(),
                })
            }
            Fault::Expiry(switch) => {
                let ends = switch == Switch::On;
                self.front.set_policy(|policy| policy.disconnect_expired = ends);
                Ok(match switch {
                    Switch::On => "the proxy ends connections together with their certificate",
                    Switch::Off => "the proxy lets connections outlive their certificate",
                }
                .to_owned())
            }
            Fault::Recording(switch) => {
                let (recording, words) = match switch {
                    Switch::On => (Recording::Proxy, "the proxy records, and wants the user's agent"),
                    Switch::Off => (Recording::Node, "the proxy does not record"),
                };
                self.front.set_policy(|policy| policy.recording = recording);
                Ok(words.to_owned())
            }
            Fault::Face(face) => {
                let (face, words) = match face {
                    faults::Face::Old => (Face::Old, "the proxy was restarted as one of an old cluster"),
                    faults::Face::New => (Face::New, "the proxy was restarted as one of a current cluster"),
                };
                self.front.set_face(face).await?;
                Ok(words.to_owned())
            }
        }
    }

    async fn proxy_fault(&mut self, fault: ProxyFault) -> Result<String> {
        let words = match fault {
            ProxyFault::Stop => {
                self.front.stop();
                "the proxy is stopped"
            }
            ProxyFault::Start => {
                self.front.resume_service().await?;
                "the proxy listens; its nodes come back within a second"
            }
            ProxyFault::Cut => {
                self.front.cut()?;
                "the clients' connections are closed"
            }
            ProxyFault::Freeze => {
                self.front.freeze().await?;
                "the proxy hangs"
            }
            ProxyFault::Resume => {
                self.front.resume();
                "the proxy goes on"
            }
        };
        Ok(words.to_owned())
    }

    fn nat_fault(&mut self, fault: NatFault) -> Result<String> {
        match (&self.plan.topology, fault) {
            (Some(topology), NatFault::Drop) => netns::silence_nat(topology)?,
            (Some(topology), NatFault::Restore) => netns::restore_nat(topology)?,
            (None, NatFault::Drop) => self.nodes.iter().for_each(Node::cut_off),
            (None, NatFault::Restore) => self.nodes.iter().for_each(Node::reconnect),
        }
        let words = match fault {
            NatFault::Drop => "the NAT drops every packet",
            NatFault::Restore => "the NAT forwards again",
        };
        Ok(words.to_owned())
    }

    async fn node_fault(&mut self, fault: NodeFault) -> Result<String> {
        match fault {
            NodeFault::Freeze { node } => {
                self.node(&node)?.freeze();
                Ok(format!("{node} is frozen"))
            }
            NodeFault::Thaw { node } => {
                self.node(&node)?.thaw();
                Ok(format!("{node} goes on"))
            }
            NodeFault::Offline { node } => {
                for twin in self.node(&node)?.offline()? {
                    self.front.forget(&twin);
                }
                self.noticed(&node, |known| known.iter().all(|node| !node.online)).await;
                Ok(format!("{node} is offline"))
            }
            NodeFault::Online { node } => {
                self.node(&node)?.online()?;
                self.noticed(&node, |known| known.iter().any(|node| node.online)).await;
                Ok(format!("{node} is online"))
            }
            NodeFault::Duplicate { node } => {
                let number = self.node(&node)?.duplicate()?;
                self.noticed(&node, |known| known.len() > number).await;
                Ok(format!("there is another {node}"))
            }
        }
    }

    /// The proxy and the nodes prove themselves by a new authority from now on.
    async fn replace_host_ca(&mut self) -> Result<String> {
        self.authority.replace_host_ca()?;
        self.front.set_authority(&self.authority)?;
        let names: Vec<_> = self.nodes.iter().map(|node| node.identity().clone()).collect();
        self.write_hosts(&names)?;
        for node in &mut self.nodes {
            node.reload().await?;
        }
        Ok("proxy and nodes have certificates of a new host authority; \
            the user trusts it after: natssh-lab fault cert replace"
            .to_owned())
    }

    /// Waits a while until the proxy's nodes of this name are as they should be.
    async fn noticed(&self, name: &str, done: impl Fn(&[NodeState]) -> bool) {
        let deadline = Instant::now() + NOTICE;
        while self.front.state() == ProxyState::Running && Instant::now() < deadline {
            let nodes = self.front.nodes().into_iter();
            let named: Vec<_> = nodes.filter(|node| node.name.hostname == name).collect();
            if done(&named) {
                return;
            }
            sleep(LOOK).await;
        }
    }

    fn node(&mut self, name: &str) -> Result<&mut Node> {
        let names = self.plan.nodes.join(", ");
        let found = self.nodes.iter_mut().find(|node| node.name() == name);
        found.with_context(|| format!("the lab has no node {name}; it has {names}"))
    }
}

fn certificate_words(fault: CertFault) -> &'static str {
    match fault {
        CertFault::Expire => "the user's certificate ended an hour ago",
        CertFault::Brief { .. } => "the user has a new certificate that ends soon",
        CertFault::Rotate => "the user has a new certificate for the same key",
        CertFault::Replace => "the user has a new key and a new certificate",
        CertFault::ForeignLogin => "the user's certificate is for another login",
        CertFault::Remove => "the user is logged out",
    }
}
