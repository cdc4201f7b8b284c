//! One upstream's ways of authenticating, and what each of them keeps.
//!
//! Nearly always there is one. A route may name another identity or login, and
//! the agents of two callers are two identities.

use super::Ask;
use super::trunks::Trunks;
use crate::admission::{Circuit, Gate};
use crate::failures::unix_now;
use crate::identity::{AgentFault, Identity, IdentityError, Snapshot, Source, Watched};
use natssh_wire::{Failure, FailureKind};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// All identities of a configuration, by name.
pub type Identities = Arc<BTreeMap<String, Arc<Watched>>>;

/// What one upstream keeps for each way of authenticating to it.
pub(super) struct Sets<T> {
    upstream: String,
    identity: Option<String>,
    login: Option<String>,
    identities: Identities,
    /// The way there needs the caller's agent, whatever this upstream needs itself.
    agent_on_the_way: bool,
    kept: Mutex<BTreeMap<Who, Arc<T>>>,
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

impl<T> Sets<T> {
    /// Nothing kept yet, for the upstream of that name with its own identity and login.
    pub(super) fn new(
        upstream: &str,
        identity: Option<&String>,
        login: Option<&String>,
        identities: Identities,
    ) -> Self {
        Self {
            upstream: upstream.to_owned(),
            identity: identity.cloned(),
            login: login.cloned(),
            identities,
            agent_on_the_way: false,
            kept: Mutex::default(),
        }
    }

    /// The same, where the way to the upstream may need the caller's agent.
    pub(super) fn with_agent_on_the_way(mut self, needed: bool) -> Self {
        self.agent_on_the_way = needed;
        self
    }

    /// Whether the upstream's own identity, or the way there, is the caller's agent.
    pub(super) fn needs_agent(&self) -> bool {
        let own = self.identity.as_ref().and_then(|name| self.identities.get(name));
        self.agent_on_the_way || own.is_some_and(|own| is_of_caller(own))
    }

    /// What is kept for this caller, made when it is the first of its kind.
    ///
    /// # Errors
    /// There is no such identity, or it is the caller's agent and there is none.
    pub(super) async fn of(&self, ask: &Ask, make: impl FnOnce(Way) -> T) -> Result<Arc<T>, Failure> {
        let name = ask.identity.as_ref().or(self.identity.as_ref());
        let (name, watched) = name.and_then(|name| self.identities.get_key_value(name)).ok_or_else(|| {
            Failure::new(FailureKind::Config, format!("upstream {} has no identity", self.upstream))
                .hint("natssh config show")
        })?;
        let of_caller = is_of_caller(watched);
        if of_caller && ask.agent.is_none() {
            return Err(IdentityError::Agent { fault: AgentFault::Unset }.to_failure());
        }
        let who = Who {
            identity: name.clone(),
            login: ask.login.clone().or_else(|| self.login.clone()),
            agent: ask.agent.clone().filter(|_| of_caller || self.agent_on_the_way),
        };
        if let Some(kept) = self.lock().get(&who) {
            return Ok(kept.clone());
        }
        let watched = match &who.agent {
            Some(socket) if of_caller => {
                let (name, source) = (name.clone(), Source::Agent(Some(socket.clone())));
                Arc::new(off_the_loop(move || Watched::open(&name, source)).await?)
            }
            _ => watched.clone(),
        };
        let way = Way { login: who.login.clone(), watched, agent: who.agent.clone() };
        let mut kept = self.lock();
        Ok(kept.entry(who).or_insert_with(|| Arc::new(make(way))).clone())
    }

    /// Everything that is kept.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Who, Arc<T>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of_caller(watched: &Watched) -> bool {
    matches!(watched.source(), Source::Agent(None))
}

/// Forgets what was refused or failed before, and makes sure that each way of authenticating works now.
///
/// # Errors
/// The first that does not, and why.
pub(super) async fn retry(ways: &[(&Arc<Trunks>, &Arc<Watched>)], deadline: Instant) -> Result<(), Failure> {
    ways.iter().for_each(|(trunks, _)| trunks.forgive());
    for (trunks, watched) in ways {
        let identity = usable(watched).await?;
        trunks.lease(identity.generation, deadline).await?;
    }
    Ok(())
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

/// The newest identity, read again if its files changed.
///
/// # Errors
/// It cannot be used, and what to type.
pub(super) async fn usable(watched: &Arc<Watched>) -> Result<Usable, Failure> {
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
