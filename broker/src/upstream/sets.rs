//! One upstream's ways of authenticating, and what each of them keeps.
//!
//! Nearly always there is one. A route may name another identity or login, and
//! the agents of two callers are two identities.

use super::trunks::{Dial, Terms, Trunks};
use super::{Ask, Means};
use crate::admission::{Circuit, Gate, Gates};
use crate::config;
use crate::failures::{Failures, unix_now};
use crate::identity::{AgentFault, Identity, IdentityError, Snapshot, Source, Watched};
use crate::metrics::Meter;
use natssh_wire::{Failure, FailureKind, NodeAddr, status};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinError;
use tokio::time::Instant;

/// All identities of a configuration, by name.
pub type Identities = Arc<BTreeMap<String, Arc<Watched>>>;

/// One upstream with trunks: a set of them for each way of authenticating to its server.
pub(super) struct Sets<X> {
    settings: config::Upstream,
    /// The server, for messages.
    peer: String,
    /// The server, for the lines in front of it.
    server: NodeAddr,
    identities: Identities,
    failures: Arc<Failures>,
    meter: Arc<Meter>,
    gates: Gates,
    /// The way there needs the caller's agent, whatever this upstream needs itself.
    agent_on_the_way: bool,
    kept: Mutex<BTreeMap<Who, Arc<Set<X>>>>,
}

/// Trunks, the identity that opens them, and what else belongs to all of them.
pub(super) struct Set<X> {
    pub(super) trunks: Arc<Trunks>,
    pub(super) watched: Arc<Watched>,
    pub(super) more: X,
}

/// What a trunk's authentication depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    identity: String,
    login: Option<String>,
    /// The caller's agent, where it is needed.
    agent: Option<PathBuf>,
}

/// One way of authenticating, to make trunks with.
pub(super) struct Way {
    /// The login, where the route or the upstream names one.
    pub(super) login: Option<String>,
    /// The identity.
    pub(super) watched: Arc<Watched>,
    /// The caller's agent, where it is needed.
    pub(super) agent: Option<PathBuf>,
}

impl Way {
    /// The breaker to a server for who authenticates this way.
    pub(super) fn circuit(&self, gate: &Gate) -> Circuit {
        let agent = self.agent.as_ref().map(|socket| socket.display().to_string());
        gate.circuit(self.login.as_deref(), self.watched.name(), agent)
    }
}

impl<X> Sets<X> {
    /// Nobody has asked for any yet.
    pub(super) fn new(settings: config::Upstream, peer: String, server: NodeAddr, means: Means) -> Self {
        let Means { identities, failures, meter, gates, budget: _ } = means;
        let kept = Mutex::default();
        Self { settings, peer, server, identities, failures, meter, gates, agent_on_the_way: false, kept }
    }

    /// The same, where the way to the upstream may need the caller's agent.
    pub(super) fn with_agent_on_the_way(mut self, needed: bool) -> Self {
        self.agent_on_the_way = needed;
        self
    }

    /// Whether the upstream's own identity, or the way there, is the caller's agent.
    pub(super) fn needs_agent(&self) -> bool {
        let own = self.settings.identity.as_ref().and_then(|name| self.identities.get(name));
        self.agent_on_the_way || own.is_some_and(|own| is_of_caller(own))
    }

    /// The way into a node behind the upstream.
    pub(super) fn gate_to(&self, cluster: Option<&String>, node: &NodeAddr) -> Gate {
        self.gates.behind(cluster, node)
    }

    /// The trunks for this caller, made when it is the first of its kind; `make` says how they are dialled.
    ///
    /// # Errors
    /// There is no such identity, or it is the caller's agent and there is none.
    pub(super) async fn of(
        &self,
        ask: &Ask,
        make: impl FnOnce(&Way) -> (Dial, X),
    ) -> Result<Arc<Set<X>>, Failure> {
        let name = ask.identity.as_ref().or(self.settings.identity.as_ref());
        let (name, watched) = name.and_then(|name| self.identities.get_key_value(name)).ok_or_else(|| {
            Failure::new(FailureKind::Config, format!("upstream {} has no identity", self.settings.name))
                .hint("natssh config show")
        })?;
        let of_caller = is_of_caller(watched);
        if of_caller && ask.agent.is_none() {
            return Err(IdentityError::Agent { fault: AgentFault::Unset }.to_failure());
        }
        let who = Who {
            identity: name.clone(),
            login: ask.login.clone().or_else(|| self.settings.login.clone()),
            agent: ask.agent.clone().filter(|_| of_caller || self.agent_on_the_way),
        };
        if let Some(kept) = self.lock().get(&who) {
            return Ok(kept.clone());
        }
        let watched = match &who.agent {
            Some(socket) if of_caller => {
                let (name, source) = (name.clone(), Source::Agent(Some(socket.clone())));
                let opened = tokio::task::spawn_blocking(move || Watched::open(&name, source)).await;
                Arc::new(opened.map_err(failed_inside)?)
            }
            _ => watched.clone(),
        };
        let way = Way { login: who.login.clone(), watched, agent: who.agent.clone() };
        let mut kept = self.lock();
        Ok(kept.entry(who).or_insert_with(|| Arc::new(self.new_set(way, make))).clone())
    }

    fn new_set(&self, way: Way, make: impl FnOnce(&Way) -> (Dial, X)) -> Set<X> {
        let (dial, more) = make(&way);
        let gate = self.gates.dialled(&self.server);
        let terms = Terms {
            upstream: self.settings.name.clone(),
            peer: self.peer.clone(),
            keepalive: self.settings.keepalive,
            streams_per_trunk: self.settings.streams_per_trunk as u64,
            max_age: self.settings.max_age,
            meter: self.meter.clone(),
            circuit: way.circuit(&gate),
            gate,
            dial_timeout: self.settings.connect_timeout,
        };
        Set { trunks: Trunks::new(terms, dial, self.failures.clone()), watched: way.watched, more }
    }

    /// Makes sure that there is a trunk for the upstream's own way of authenticating.
    ///
    /// # Errors
    /// Why there is none by `deadline`.
    pub(super) async fn probe(
        &self,
        deadline: Instant,
        make: impl FnOnce(&Way) -> (Dial, X),
    ) -> Result<(), Failure> {
        let set = self.of(&Ask::for_trunk(&self.server, None, deadline), make).await?;
        set.lease(deadline).await
    }

    /// Forgets what was refused or failed before, and makes sure that each way of authenticating works now.
    ///
    /// # Errors
    /// The first that does not, and why.
    pub(super) async fn retry(
        &self,
        deadline: Instant,
        make: impl FnOnce(&Way) -> (Dial, X),
    ) -> Result<(), Failure> {
        let sets = self.all();
        if sets.is_empty() {
            return self.probe(deadline, make).await;
        }
        sets.iter().for_each(|set| set.trunks.forgive());
        for set in sets {
            set.lease(deadline).await?;
        }
        Ok(())
    }

    /// Takes no new streams; open ones go on.
    pub(super) fn drain(&self) {
        self.all().iter().for_each(|set| set.trunks.drain());
    }

    /// What `status` shows of any upstream with trunks.
    pub(super) fn report(&self, kind: &str, address: &str) -> status::Upstream {
        let mut entry = super::blank(&self.settings.name, kind, address);
        entry.identity.clone_from(&self.settings.identity);
        (entry.handshakes, entry.told_busy) = self.gates.report();
        self.all().iter().for_each(|set| set.trunks.report(&mut entry));
        entry
    }

    fn all(&self) -> Vec<Arc<Set<X>>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Who, Arc<Set<X>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<X> Set<X> {
    /// Makes sure that there is a trunk.
    async fn lease(&self, deadline: Instant) -> Result<(), Failure> {
        let identity = usable(&self.watched, std::time::Instant::now()).await?;
        self.trunks.lease(identity.generation, deadline).await.map(drop)
    }
}

fn is_of_caller(watched: &Watched) -> bool {
    matches!(watched.source(), Source::Agent(None))
}

/// A snapshot whose identity may be used now.
pub(super) struct Usable {
    /// Its generation.
    pub(super) generation: u64,
    /// The identity, with what came beside it.
    pub(super) snapshot: Arc<Snapshot>,
}

impl Usable {
    /// The logins that its certificate names.
    pub(super) fn principals(&self) -> &[String] {
        self.identity().map_or(&[], |identity| &identity.principals)
    }

    fn identity(&self) -> Option<&Identity> {
        self.snapshot.identity.as_ref().ok()
    }
}

/// The identity as it was at `since` or later, read again if its files changed.
///
/// # Errors
/// It cannot be used, and what to type.
pub(super) async fn usable(watched: &Arc<Watched>, since: std::time::Instant) -> Result<Usable, Failure> {
    let snapshot = watched.snapshot_since(since).await.map_err(failed_inside)?;
    snapshot.usable(unix_now()).map_err(|error| error.to_failure())?;
    Ok(Usable { generation: snapshot.generation, snapshot })
}

/// Files and agents may be slow and are asked on threads of their own, one of which has panicked.
fn failed_inside(_: JoinError) -> Failure {
    Failure::new(FailureKind::Internal, "reading the identity failed inside natssh")
        .hint("natssh broker logs")
}
