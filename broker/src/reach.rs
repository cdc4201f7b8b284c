//! Everything that reaches nodes: routes, upstreams, identities, as one
//! configuration made them. A reload makes a new one and keeps what did not change.

mod dial;
mod hops;

pub use dial::{Caller, Way};
use hops::Hops;

use crate::admission::{Admission, Gates};
use crate::config::{self, Kind, Settings};
use crate::failures::Failures;
use crate::identity::{Source, Watched};
use crate::metrics::{Carried, Meter, Meters};
use crate::splice::PATIENT;
use crate::ssh::{Budget, Early, TOTAL_LIMIT};
use crate::ssh_config::derived;
use crate::upstream::{
    Ask, Bastion, Command, Direct, Identities, Lines, Means, Processes, Stream, Teleport, Upstream,
};
use natssh_wire::{Failure, FailureKind, NodeAddr, status};
use rustix::process::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How often identities are looked at when nobody asks for them: for `status` and its warnings.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A request for a stream, as it came in at a door.
#[derive(Debug, Clone)]
pub struct Request {
    /// The node as the user names it.
    pub node: NodeAddr,
    /// The login the caller's ssh will use there, if it said so.
    pub login: Option<String>,
    /// The caller's `SSH_AUTH_SOCK`.
    pub agent: Option<PathBuf>,
    /// The caller's process, where the system tells.
    pub caller: Option<Pid>,
    /// What the node may be told before the way to it has been confirmed.
    pub early: Early,
    /// When it came in.
    pub begun: std::time::Instant,
    /// When the caller must have an answer.
    pub deadline: Instant,
}

/// A stream that was opened.
pub struct Opened {
    /// The stream.
    pub stream: Stream,
    /// Counts it, for as long as it is held.
    pub carried: Carried,
}

/// Routes, upstreams and identities of one configuration.
pub struct Reach {
    /// The configuration.
    pub settings: Settings,
    upstreams: BTreeMap<String, Arc<Upstream>>,
    /// Another one for each upstream that was ever built.
    numbers: BTreeMap<String, u64>,
    /// How many were ever built.
    built: Arc<AtomicU64>,
    identities: Identities,
    lookers: BTreeMap<String, Arc<Looker>>,
    failures: Arc<Failures>,
    meters: Arc<Meters>,
    budget: Arc<Budget>,
    processes: Arc<Processes>,
    /// ProxyCommands of users' own ssh_config.
    commands: Arc<Lines>,
    /// Hosts of ProxyJump.
    hops: Hops,
    admission: Arc<Admission>,
    state_dir: PathBuf,
}

/// Keeps an identity fresh, and what stock ssh is given of it; ends with its last owner.
struct Looker(AbortHandle);

impl Drop for Looker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Reach {
    /// Builds everything, reading identities (blocking) but dialling nothing.
    #[must_use]
    pub fn new(settings: Settings, failures: Arc<Failures>, state_dir: PathBuf) -> Self {
        let empty = Settings {
            path: None,
            upstreams: BTreeMap::new(),
            identities: BTreeMap::new(),
            spare: BTreeSet::new(),
            routes: settings.routes.clone(),
            metrics: None,
            warnings: Vec::new(),
        };
        let (processes, admission) = (Arc::default(), Arc::default());
        let commands = Lines::new(
            dial::SSH_CONFIG,
            config::resolve::CONNECT_TIMEOUT,
            config::resolve::HANDSHAKES as usize,
            Arc::clone(&processes),
            &admission,
        );
        let nothing = Self {
            settings: empty,
            upstreams: BTreeMap::new(),
            numbers: BTreeMap::new(),
            built: Arc::default(),
            identities: Arc::default(),
            lookers: BTreeMap::new(),
            failures,
            meters: Arc::default(),
            budget: Budget::new(TOTAL_LIMIT),
            processes,
            commands: Arc::new(commands),
            hops: Hops::default(),
            admission,
            state_dir,
        };
        nothing.changed(settings)
    }

    /// The same with other settings. Upstreams and identities that are as they
    /// were go on, open trunks and all; the others start afresh, and what they
    /// leave behind drains.
    #[must_use]
    pub fn changed(&self, settings: Settings) -> Self {
        let mut identities = BTreeMap::new();
        let mut lookers = BTreeMap::new();
        for (name, source) in &settings.identities {
            let old = self.identities.get(name).filter(|old| old.source() == source);
            if old.is_none() {
                self.admission.identity_replaced(name);
            }
            let watched = old.cloned().unwrap_or_else(|| Arc::new(Watched::open(name, source.clone())));
            let looker = old.and_then(|_| self.lookers.get(name)).cloned().unwrap_or_else(|| {
                let for_ssh = derived::follow(self.state_dir.clone(), watched.clone());
                let fresh = watched.clone().keep_fresh(LOOK_EVERY);
                let task = tokio::spawn(async move { tokio::join!(fresh, for_ssh) });
                Arc::new(Looker(task.abort_handle()))
            });
            identities.insert(name.clone(), watched);
            lookers.insert(name.clone(), looker);
        }
        let same_identities = settings.identities == self.settings.identities;
        let identities = if same_identities { self.identities.clone() } else { Arc::new(identities) };
        let mut upstreams = BTreeMap::new();
        for wanted in settings.in_order() {
            let name = &wanted.name;
            let via = wanted.via().and_then(|via| upstreams.get(via)).cloned();
            let same = same_identities
                && self.settings.upstreams.get(name) == Some(wanted)
                && wanted.via().is_none_or(|via| same_upstream(&self.upstreams, &upstreams, via));
            let old = self.upstreams.get(name).filter(|_| same).cloned();
            let upstream = old.unwrap_or_else(|| Arc::new(self.build(wanted, via, &identities)));
            upstreams.insert(name.clone(), upstream);
        }
        let number = |name: &String| match same_upstream(&self.upstreams, &upstreams, name) {
            true => self.numbers.get(name).copied().unwrap_or_default(),
            false => self.built.fetch_add(1, Relaxed) + 1,
        };
        let numbers = upstreams.keys().map(|name| (name.clone(), number(name))).collect();
        for (name, old) in &self.upstreams {
            if !same_upstream(&self.upstreams, &upstreams, name) {
                old.drain();
            }
        }
        Self {
            settings,
            upstreams,
            numbers,
            built: self.built.clone(),
            identities,
            lookers,
            failures: self.failures.clone(),
            meters: self.meters.clone(),
            budget: self.budget.clone(),
            processes: self.processes.clone(),
            commands: self.commands.clone(),
            hops: Hops::default(),
            admission: self.admission.clone(),
            state_dir: self.state_dir.clone(),
        }
    }

    fn build(
        &self,
        settings: &config::Upstream,
        via: Option<Arc<Upstream>>,
        identities: &Identities,
    ) -> Upstream {
        let means = || Means {
            identities: identities.clone(),
            failures: self.failures.clone(),
            meter: self.meters.of(&settings.name),
            budget: self.budget.clone(),
            gates: Gates::new(&self.admission, &settings.name, settings.handshakes),
        };
        match &settings.kind {
            Kind::Teleport { proxy, .. } => {
                Upstream::Teleport(Teleport::new(settings.clone(), proxy.clone(), means()))
            }
            Kind::Bastion(bastion) => {
                Upstream::Bastion(Bastion::new(settings.clone(), bastion.clone(), via, means()))
            }
            Kind::Direct => Upstream::Direct(Direct::new(settings, &self.admission)),
            Kind::Command(command) => Upstream::Command(Arc::new(Command::new(
                settings,
                command.clone(),
                self.processes.clone(),
                &self.admission,
            ))),
        }
    }

    /// Opens a stream to the node that the request names. A failure is also
    /// kept for `status` and `why`.
    ///
    /// # Errors
    /// One sentence and what to type, before the request's deadline.
    pub async fn open(&self, request: Request) -> Result<Opened, Failure> {
        let begun = Instant::now();
        let picked = self.settings.routes.pick(&request.node);
        tracing::debug!(node = %request.node, upstream = picked.upstream, rule = picked.rule, "route picked");
        let within = request.caller.map(|caller| self.processes.upstreams_of(caller)).unwrap_or_default();
        if within.contains(&picked.upstream) {
            let failure = in_a_circle(&request.node, &picked.upstream);
            self.failures.record(Some(&request.node), Some(&picked.upstream), &failure);
            return Err(failure);
        }
        let ask = Ask {
            node: picked.node,
            name: request.node.host.clone(),
            within,
            cluster: picked.cluster,
            login: picked.login,
            identity: picked.identity,
            node_login: request.login,
            agent: request.agent,
            early: request.early,
            begun: request.begun,
            deadline: request.deadline,
        };
        let opened = match self.upstreams.get(&picked.upstream) {
            Some(upstream) => upstream.open(&ask).await,
            None => {
                Err(Failure::new(FailureKind::Config, format!("there is no upstream {}", picked.upstream))
                    .hint("natssh config check"))
            }
        };
        match opened {
            Ok(stream) => {
                let carried = self.meters.of(&picked.upstream).stream_opened(begun.elapsed());
                Ok(Opened { stream, carried })
            }
            Err(failure) => {
                tracing::debug!(node = %request.node, upstream = picked.upstream, reason = failure.message, "not opened");
                self.failures.record(Some(&request.node), Some(&picked.upstream), &failure);
                Err(failure)
            }
        }
    }

    /// Looks (blocking) at the files of the identity that a stream to `node` needs, so that opening it
    /// finds them looked at and takes no thread of its own for that. An agent has a deadline to answer
    /// by, and is asked then.
    pub fn look_ahead(&self, node: &NodeAddr, since: std::time::Instant) {
        let picked = self.settings.routes.pick(node);
        let own = self.settings.upstreams.get(&picked.upstream).and_then(|own| own.identity.as_ref());
        let watched = picked.identity.as_ref().or(own).and_then(|name| self.identities.get(name));
        if let Some(files) = watched.filter(|watched| !matches!(watched.source(), Source::Agent(_))) {
            files.refreshed_since(since);
        }
    }

    /// A stream to `node` was cut under its client.
    pub fn cut(&self, node: &NodeAddr, reason: &str) {
        let upstream = self.settings.routes.pick(node).upstream;
        let failure = Failure::new(FailureKind::Cut, format!("the stream to {node} was cut: {reason}"));
        self.meters.of(&upstream).stream_cut();
        self.failures.record(Some(node), Some(&upstream), &failure.hint("natssh status"));
    }

    /// The client of a stream to `node` left `waited` after it had asked, and before there was an answer.
    pub fn given_up(&self, node: &NodeAddr, waited: Duration) {
        if waited < PATIENT {
            return;
        }
        let upstream = self.settings.routes.pick(node).upstream;
        let text = format!(
            "{upstream} had not answered for node {node} when its client gave up after {} s: the node may be frozen",
            waited.as_secs()
        );
        let failure = Failure::new(FailureKind::Timeout, text).hint("natssh status");
        self.failures.record(Some(node), Some(&upstream), &failure);
    }

    /// Dials every upstream that has no trunk, and waits for all until `deadline`.
    pub async fn probe(&self, deadline: Instant) {
        let probes: Vec<_> = self
            .upstreams
            .values()
            .cloned()
            .map(|upstream| tokio::spawn(async move { upstream.probe(deadline).await }))
            .collect();
        for probe in probes {
            // What failed is in `status`.
            drop(probe.await);
        }
    }

    /// Forgets what an upstream refused, or how it failed, and dials it again.
    ///
    /// # Errors
    /// It cannot be reached by `deadline`, or there is none of that name.
    pub async fn retry(&self, name: &str, deadline: Instant) -> Result<(), Failure> {
        let Some(upstream) = self.upstreams.get(name) else {
            let known: Vec<_> = self.upstreams.keys().map(String::as_str).collect();
            let text = format!("no upstream is called {name:?}; there is {}", known.join(", "));
            return Err(Failure::new(FailureKind::BadRequest, text).hint("natssh status"));
        };
        upstream.retry(deadline).await
    }

    /// Takes no new streams.
    pub fn drain(&self) {
        self.upstreams.values().for_each(|upstream| upstream.drain());
        self.hops.drain();
    }

    /// Ends what upstreams have started, for a broker that leaves.
    pub async fn end(&self) {
        self.processes.end().await;
    }

    /// The upstreams' entries in `status`, and those of what users' own ssh_config has led to.
    #[must_use]
    pub fn upstreams(&self) -> Vec<status::Upstream> {
        let mut entries: Vec<_> = self.upstreams.values().map(|upstream| upstream.report()).collect();
        entries.extend(self.hops.report());
        let commands = self.commands.report("ProxyCommand");
        entries.extend(Some(commands).filter(|entry| entry.streams_total > 0 || entry.dials_failed > 0));
        entries
    }

    /// The identities' entries in `status`.
    #[must_use]
    pub fn identities(&self, now: u64) -> Vec<status::Identity> {
        let entry = |watched: &Arc<Watched>| {
            let mut entry = watched.status(now);
            entry.upstreams = self.settings.upstreams_of(&entry.name);
            if matches!(watched.source(), Source::Agent(None)) {
                // It is another one for each caller: it has no state of its own.
                entry.state = status::IdentityState::Valid;
                (entry.message, entry.hint) = (None, None);
            }
            entry
        };
        self.identities.values().map(entry).collect()
    }

    /// Whether the server of an upstream knows nothing newer than SHA-1. It is dialled to be known, if it was not before; no
    /// where it cannot be.
    pub async fn is_sha1(&self, name: &str) -> bool {
        let Some(upstream) = self.upstreams.get(name) else { return false };
        if upstream.report().server.is_none() {
            let patience = self.settings.upstreams.get(name).map(|upstream| upstream.connect_timeout);
            // Why it failed is told to whoever asks for a stream.
            let _ = upstream.probe(Instant::now() + patience.unwrap_or_default()).await;
        }
        upstream.report().sha1
    }

    /// An identity by its name.
    #[must_use]
    pub fn identity(&self, name: &str) -> Option<Arc<Watched>> {
        self.identities.get(name).cloned()
    }

    /// The folder for what outlives this broker.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What was counted of each upstream.
    #[must_use]
    pub fn meters(&self) -> Vec<(String, Arc<Meter>)> {
        self.meters.all()
    }

    /// Bytes that wait for slow readers.
    #[must_use]
    pub fn unread_bytes(&self) -> usize {
        self.budget.used()
    }
}

/// Whether an upstream of that name went on unchanged.
fn same_upstream(
    old: &BTreeMap<String, Arc<Upstream>>,
    new: &BTreeMap<String, Arc<Upstream>>,
    name: &str,
) -> bool {
    matches!((old.get(name), new.get(name)), (Some(old), Some(new)) if Arc::ptr_eq(old, new))
}

fn in_a_circle(node: &NodeAddr, upstream: &str) -> Failure {
    let text = format!(
        "the command of upstream {upstream} asks natssh for {node}, which is reached by that command"
    );
    Failure::new(FailureKind::Config, text).hint("natssh config show")
}

#[cfg(test)]
mod tests;
