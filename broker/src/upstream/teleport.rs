//! A Teleport proxy: one truth about its address, its clusters and its names.
//!
//! Streams are opened by the SSH subsystem `proxy:host:port@cluster` on the
//! proxy's SSH listener (lib/srv/regular/proxy.go, the same from v4 to v18).

mod dial;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(super) mod refusal;

use super::sets::{Sets, Way, retry, usable};
use super::trunks::{Dialled, Terms, Trunks};
use super::{Ask, Means, Stream};
use crate::admission::Gates;
use crate::config;
use crate::dial::Servers;
use crate::failures::Failures;
use crate::identity::Watched;
use crate::metrics::Meter;
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
    proxy: NodeAddr,
    /// What is known of its addresses, by all ways of authenticating.
    servers: Arc<Servers>,
    failures: Arc<Failures>,
    meter: Arc<Meter>,
    budget: Arc<Budget>,
    gates: Gates,
    sets: Sets<Set>,
}

/// Trunks, and what belongs to all of them.
struct Set {
    trunks: Arc<Trunks>,
    watched: Arc<Watched>,
    logins: Logins,
    /// The proxy records sessions: streams must offer the agent.
    records: Arc<AtomicBool>,
}

impl Teleport {
    /// A proxy that nobody has asked for yet.
    pub fn new(settings: config::Upstream, proxy: NodeAddr, means: Means) -> Arc<Self> {
        let Means { identities, failures, meter, budget, gates } = means;
        let (identity, login) = (settings.identity.as_ref(), settings.login.as_ref());
        let sets = Sets::new(&settings.name, identity, login, identities);
        let servers = settings.proxies().into_iter().cloned().collect();
        let servers = Arc::new(Servers::new("proxy", servers));
        Arc::new(Self { settings, proxy, servers, failures, meter, budget, gates, sets })
    }

    pub(super) async fn open(&self, ask: &Ask) -> Result<Stream, Failure> {
        let set = self.set(ask).await?;
        match &ask.node_login {
            Some(login) => set.logins.allow(login),
            None => set.allow_all_logins().await,
        }
        let gate = self.gates.behind(self.cluster(ask), &ask.node);
        let mut offer_agent = set.records.load(Relaxed);
        loop {
            let identity = usable(&set.watched).await?;
            let lease = set.trunks.lease_to(&gate, identity.generation, ask.deadline).await?;
            let request = self.request(ask);
            let opening = lease.connection().subsystem(&request, offer_agent || set.records.load(Relaxed));
            let refused = match timeout_at(ask.deadline, opening).await {
                Ok(Ok(channel)) => {
                    lease.stream_opened();
                    return Ok(Stream::Channel(channel, lease));
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
                    set.records.store(true, Relaxed);
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
        let nobody = Ask::for_trunk(&self.proxy, None, deadline);
        let set = self.set(&nobody).await?;
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
        for set in self.sets.all() {
            set.trunks.drain();
        }
    }

    pub(super) fn report(&self) -> status::Upstream {
        let mut entry = super::blank(&self.settings.name, "teleport", &self.addresses());
        entry.cluster.clone_from(&self.settings.cluster);
        entry.identity.clone_from(&self.settings.identity);
        (entry.handshakes, entry.told_busy) = self.gates.report();
        for set in self.sets.all() {
            set.trunks.report(&mut entry);
        }
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
        format!("proxy {}", self.addresses())
    }

    /// Where it listens, for messages.
    fn addresses(&self) -> String {
        self.settings.proxies().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    async fn set(&self, ask: &Ask) -> Result<Arc<Set>, Failure> {
        self.sets.of(ask, |way| self.new_set(way)).await
    }

    fn new_set(&self, way: Way) -> Set {
        let gate = self.gates.dialled(&self.proxy);
        let circuit = way.circuit(&gate);
        let Way { login, watched, .. } = way;
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
        let (logins, records) = (Logins::default(), Arc::new(AtomicBool::new(false)));
        let dialler = Arc::new(Dialler {
            servers: self.servers.clone(),
            login,
            cluster: self.settings.cluster.clone(),
            known_hosts: self.settings.known_hosts.clone(),
            connect_timeout: self.settings.connect_timeout,
            watched: watched.clone(),
            logins: logins.clone(),
            records: records.clone(),
            budget: self.budget.clone(),
        });
        let dial = Box::new(move || {
            let dialler = dialler.clone();
            Box::pin(async move { dialler.dial().await })
                as std::pin::Pin<Box<dyn Future<Output = Dialled> + Send>>
        });
        let trunks = Trunks::new(terms, dial, self.failures.clone());
        Set { trunks, watched, logins, records }
    }
}

impl Set {
    /// A caller that does not say its login may use any the certificate names.
    async fn allow_all_logins(&self) {
        if let Ok(identity) = usable(&self.watched).await {
            identity.principals().iter().for_each(|login| self.logins.allow(login));
        }
    }
}
