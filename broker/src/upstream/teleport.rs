//! A Teleport proxy: one truth about its address, its clusters and its names.
//!
//! Streams are opened by the SSH subsystem `proxy:host:port@cluster` on the
//! proxy's SSH listener (lib/srv/regular/proxy.go, the same from v4 to v18), which
//! has a port of its own or is behind TLS.

mod dial;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(super) mod refusal;
mod tls;
mod upgrade;

use super::sets::{Sets, Way, usable};
use super::trunks::{Dial, dial_by};
use super::{Ask, Means, Stream};
use crate::config;
use crate::dial::Servers;
use crate::identity::Watched;
use crate::ssh::{Budget, Logins, OpenError};
use crate::text::in_words;
use dial::Dialler;
use natssh_wire::status;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use refusal::Refusal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Pause before a node that may be rejoining is asked for again.
const REJOIN_PAUSE: Duration = Duration::from_millis(250);

/// One Teleport proxy.
pub struct Teleport {
    settings: config::Upstream,
    /// What is known of its addresses, by all ways of authenticating.
    servers: Arc<Servers>,
    budget: Arc<Budget>,
    sets: Sets<Recording>,
}

/// What a proxy that records sessions needs of each way of authenticating.
struct Recording {
    /// Logins that the proxy may use the identity for.
    logins: Logins,
    /// The proxy records sessions: streams must offer the agent.
    records: Arc<AtomicBool>,
}

impl Teleport {
    /// A proxy that nobody has asked for yet.
    pub fn new(settings: config::Upstream, proxy: NodeAddr, means: Means) -> Arc<Self> {
        let budget = means.budget.clone();
        let servers = settings.proxies().into_iter().cloned().collect();
        let servers = Arc::new(Servers::new("proxy", servers));
        let sets = Sets::new(settings.clone(), format!("proxy {}", addresses(&settings)), proxy, means);
        Arc::new(Self { settings, servers, budget, sets })
    }

    pub(super) async fn open(&self, ask: &Ask) -> Result<Stream, Failure> {
        let set = self.sets.of(ask, |way| self.dial(way)).await?;
        let Recording { logins, records } = &set.more;
        match &ask.node_login {
            Some(login) => logins.allow(login),
            None => allow_all(logins, &set.watched, ask).await,
        }
        let gate = self.sets.gate_to(self.cluster(ask), &ask.node);
        let mut offer_agent = records.load(Relaxed);
        let mut since = ask.begun;
        loop {
            let identity = usable(&set.watched, since).await?;
            since = std::time::Instant::now();
            let lease = set.trunks.lease_to(&gate, identity.generation, ask.deadline).await?;
            let request = self.request(ask);
            let agent = offer_agent || records.load(Relaxed);
            let opening = lease.connection().subsystem(&request, agent, ask.early.clone());
            let refused = match timeout_at(ask.deadline, opening).await {
                Ok(Ok((channel, sent))) => {
                    lease.stream_opened();
                    lease.open_ahead();
                    return Ok(Stream::Channel { channel, lease, sent });
                }
                // Nothing was started: the next round leases another trunk, or waits for one.
                Ok(Err(OpenError::Lost(_))) => continue,
                Ok(Err(OpenError::NoChannel(reason))) => {
                    return Err(Failure::new(
                        FailureKind::Busy,
                        format!("{} gave no channel: {reason}", self.peer()),
                    )
                    .hint("natssh status"));
                }
                Ok(Err(OpenError::Refused(text))) => refusal::read(&text, &ask.node),
                Err(_) => return Err(self.silent(&ask.node)),
            };
            let pause = match refused {
                Refusal::WantsAgent(_) if !offer_agent => {
                    offer_agent = true;
                    records.store(true, Relaxed);
                    continue;
                }
                Refusal::WantsAgent(failure) | Refusal::Final(failure) => return Err(failure),
                Refusal::MayRejoin(failure) => {
                    let late = Instant::now() + REJOIN_PAUSE >= ask.deadline;
                    if late || !set.trunks.rejoining() {
                        return Err(failure);
                    }
                    REJOIN_PAUSE
                }
            };
            drop(lease);
            sleep(pause).await;
        }
    }

    pub(super) async fn probe(&self, deadline: Instant) -> Result<(), Failure> {
        self.sets.probe(deadline, |way| self.dial(way)).await
    }

    pub(super) async fn retry(&self, deadline: Instant) -> Result<(), Failure> {
        self.sets.retry(deadline, |way| self.dial(way)).await
    }

    pub(super) fn drain(&self) {
        self.sets.drain();
    }

    pub(super) fn report(&self) -> status::Upstream {
        let mut entry = self.sets.report("teleport", &addresses(&self.settings));
        entry.cluster.clone_from(&self.settings.cluster);
        if entry.sha1 {
            entry
                .warnings
                .push("the proxy knows nothing newer than SHA-1 RSA signatures (Teleport up to v8)".into());
        }
        if let Some(seconds) = entry.idle_limit_seconds {
            entry.warnings.push(format!(
                "the cluster cuts connections after {} of silence: each stream has a trunk of its own",
                in_words(seconds)
            ));
        }
        entry
    }

    /// Whether a caller's agent is needed.
    pub(super) fn needs_agent(&self) -> bool {
        self.sets.needs_agent()
    }

    /// `proxy:host:port@cluster`; the cluster is left out where the certificate decides.
    fn request(&self, ask: &Ask) -> String {
        match self.cluster(ask) {
            Some(cluster) => format!("proxy:{}@{cluster}", ask.node),
            None => format!("proxy:{}", ask.node),
        }
    }

    fn cluster<'a>(&'a self, ask: &'a Ask) -> Option<&'a String> {
        ask.cluster.as_ref().or(self.settings.cluster.as_ref())
    }

    fn silent(&self, node: &NodeAddr) -> Failure {
        let text = format!("{} did not answer for node {node} in time: the node may be frozen", self.peer());
        Failure::new(FailureKind::Timeout, text).hint("natssh status")
    }

    fn peer(&self) -> String {
        format!("proxy {}", addresses(&self.settings))
    }

    fn dial(&self, way: &Way) -> (Dial, Recording) {
        let (logins, records) = (Logins::default(), Arc::new(AtomicBool::new(false)));
        let dialler = Arc::new(Dialler {
            servers: self.servers.clone(),
            login: way.login.clone(),
            cluster: self.settings.cluster.clone(),
            known_hosts: self.settings.known_hosts.clone(),
            tls: match &self.settings.kind {
                config::Kind::Teleport { tls, .. } => tls.clone(),
                _ => None,
            },
            connect_timeout: self.settings.connect_timeout,
            watched: way.watched.clone(),
            logins: logins.clone(),
            records: records.clone(),
            budget: self.budget.clone(),
        });
        let dial = dial_by(move || {
            let dialler = dialler.clone();
            async move { dialler.dial().await }
        });
        (dial, Recording { logins, records })
    }
}

/// Where it listens, for messages.
fn addresses(settings: &config::Upstream) -> String {
    settings.proxies().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A caller that does not say its login may use any the certificate names.
async fn allow_all(logins: &Logins, watched: &Arc<Watched>, ask: &Ask) {
    if let Ok(identity) = usable(watched, ask.begun).await {
        identity.principals().iter().for_each(|login| logins.allow(login));
    }
}
