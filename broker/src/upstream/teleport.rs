//! A Teleport proxy: one truth about its address, its clusters and its names.
//!
//! Streams are opened by the SSH subsystem `proxy:host:port@cluster` on the
//! proxy's SSH listener (lib/srv/regular/proxy.go, the same from v4 to v18).

mod dial;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod refusal;

use super::trunks::{Dialled, Lease, Terms, Trunks};
use super::{Ask, Stream};
use crate::admission::{Admission, Gates};
use crate::config;
use crate::failures::{Failures, unix_now};
use crate::identity::{AgentFault, Identity, IdentityError, Snapshot, Source, Watched};
use crate::metrics::Meter;
use crate::ssh::{Budget, Logins, OpenError};
use crate::text::in_words;
use dial::Dialler;
use natssh_wire::status;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use refusal::Refusal;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Pause before a node that may be rejoining is asked for again.
const REJOIN_PAUSE: Duration = Duration::from_millis(250);

/// One Teleport proxy.
pub struct Teleport {
    settings: config::Upstream,
    proxy: NodeAddr,
    identities: Arc<BTreeMap<String, Arc<Watched>>>,
    failures: Arc<Failures>,
    meter: Arc<Meter>,
    budget: Arc<Budget>,
    gates: Gates,
    /// Trunks for each way of authenticating; nearly always one.
    sets: Mutex<BTreeMap<Who, Arc<Set>>>,
}

/// What a trunk's authentication depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    identity: String,
    login: Option<String>,
    /// The caller's agent, where the identity is "the caller's agent".
    agent: Option<PathBuf>,
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
    pub fn new(
        settings: config::Upstream,
        proxy: NodeAddr,
        identities: Arc<BTreeMap<String, Arc<Watched>>>,
        failures: Arc<Failures>,
        meter: Arc<Meter>,
        budget: Arc<Budget>,
        admission: &Arc<Admission>,
    ) -> Arc<Self> {
        let gates = Gates::new(admission, &settings.name, settings.handshakes);
        let sets = Mutex::default();
        Arc::new(Self { settings, proxy, identities, failures, meter, budget, gates, sets })
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
        let nobody = Ask {
            node: self.proxy.clone(),
            name: self.proxy.host.clone(),
            cluster: None,
            login: None,
            identity: None,
            node_login: None,
            agent: None,
            deadline,
        };
        let set = self.set(&nobody).await?;
        let identity = usable(&set.watched).await?;
        set.trunks.lease(identity.generation, deadline).await.map(drop)
    }

    pub(super) fn drain(&self) {
        for set in self.sets().values() {
            set.trunks.drain();
        }
    }

    pub(super) fn report(&self) -> status::Upstream {
        let mut entry = super::blank(&self.settings.name, "teleport", &self.proxy.to_string());
        entry.cluster.clone_from(&self.settings.cluster);
        entry.identity.clone_from(&self.settings.identity);
        (entry.handshakes, entry.told_busy) = self.gates.report();
        for set in self.sets().values() {
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

    /// A stream ended before its time; what the proxy said may be worth learning.
    pub fn learn_from(lease: &Lease, text: &str) {
        if let Some(limit) = refusal::idle_limit(text) {
            lease.trunks().learn_idle_limit(limit);
        }
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
        format!("proxy {}", self.proxy)
    }

    async fn set(&self, ask: &Ask) -> Result<Arc<Set>, Failure> {
        let name = ask.identity.as_ref().or(self.settings.identity.as_ref());
        let (name, watched) = name.and_then(|name| self.identities.get_key_value(name)).ok_or_else(|| {
            Failure::new(FailureKind::Config, format!("upstream {} has no identity", self.settings.name))
                .hint("natssh config show")
        })?;
        let of_caller = matches!(watched.source(), Source::Agent(None));
        if of_caller && ask.agent.is_none() {
            return Err(IdentityError::Agent { fault: AgentFault::Unset }.to_failure());
        }
        let who = Who {
            identity: name.clone(),
            login: ask.login.clone().or_else(|| self.settings.login.clone()),
            agent: ask.agent.clone().filter(|_| of_caller),
        };
        if let Some(set) = self.sets().get(&who) {
            return Ok(set.clone());
        }
        let watched = match &who.agent {
            Some(socket) => {
                let (name, source) = (name.clone(), Source::Agent(Some(socket.clone())));
                Arc::new(off_the_loop(move || Watched::open(&name, source)).await?)
            }
            None => watched.clone(),
        };
        let set = self.new_set(who.login.clone(), watched);
        Ok(self.sets().entry(who).or_insert(set).clone())
    }

    fn new_set(&self, login: Option<String>, watched: Arc<Watched>) -> Arc<Set> {
        let terms = Terms {
            upstream: self.settings.name.clone(),
            peer: self.peer(),
            keepalive: self.settings.keepalive,
            streams_per_trunk: self.settings.streams_per_trunk as u64,
            meter: self.meter.clone(),
            gate: self.gates.dialled(&self.proxy),
            dial_timeout: self.settings.connect_timeout,
        };
        let (logins, records) = (Logins::default(), Arc::new(AtomicBool::new(false)));
        let dialler = Arc::new(Dialler {
            proxy: self.proxy.clone(),
            peer: self.peer(),
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
        Arc::new(Set { trunks, watched, logins, records })
    }

    fn sets(&self) -> MutexGuard<'_, BTreeMap<Who, Arc<Set>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A snapshot whose identity may be used now.
struct Usable {
    generation: u64,
    snapshot: Arc<Snapshot>,
}

impl Usable {
    fn identity(&self) -> Option<&Identity> {
        self.snapshot.identity.as_ref().ok()
    }

    fn principals(&self) -> &[String] {
        self.identity().map_or(&[], |identity| &identity.principals)
    }
}

/// The newest identity, read again if its files changed.
async fn usable(watched: &Arc<Watched>) -> Result<Usable, Failure> {
    let watched = watched.clone();
    let snapshot = off_the_loop(move || watched.refresh()).await?;
    snapshot.usable(unix_now()).map_err(|error| error.to_failure())?;
    Ok(Usable { generation: snapshot.generation, snapshot })
}

/// Files and agents may be slow: they are asked on a thread of their own.
async fn off_the_loop<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let failed = |_| {
        Failure::new(FailureKind::Internal, "reading the identity failed inside natssh")
            .hint("natssh broker logs")
    };
    tokio::task::spawn_blocking(ask).await.map_err(failed)
}
