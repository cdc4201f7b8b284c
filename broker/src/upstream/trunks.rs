//! The trunks of one upstream for one identity: leased, dialled, watched, drained.
//!
//! The [`Ledger`] decides which trunk takes a stream; this file does what it
//! says. One dial is made at a time, whoever waits for it, and it outlives the
//! caller who asked first. A dial that failed is tried again for as long as
//! somebody waits, and in the background while the upstream was in use.

mod report;

use super::idle::IdleLimit;
use super::ledger::{Health, Ledger, Limits, TrunkId};
use super::outage::{IMPATIENT, Next, Outage};
use super::trunk::{Seen, Trunk};
use crate::admission::{Circuit, Gate, Place};
use crate::failures::{Failures, record, unix_now};
use crate::metrics::Meter;
use crate::ssh::{Connection, Ended};
use natssh_wire::status::FailureRecord;
use natssh_wire::{Failure, FailureKind};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// A lost upstream is dialled again by itself while its last use is no older than this.
const IN_USE: Duration = Duration::from_secs(600);
/// How long after a reconnection "offline" may only mean "not back yet".
const REJOINING: Duration = Duration::from_secs(30);

/// Dials one connection; how is the upstream's business.
pub(super) type Dial = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Dialled> + Send>> + Send + Sync>;

/// A [`Dial`] of that function.
pub(super) fn dial_by<F>(dial: impl Fn() -> F + Send + Sync + 'static) -> Dial
where
    F: Future<Output = Dialled> + Send + 'static,
{
    Box::new(move || Box::pin(dial()))
}

/// What came of a dial.
pub struct Dialled {
    /// The generation of the identity that was used.
    pub generation: u64,
    /// The connection, or why there is none.
    pub outcome: Result<Connection, Failure>,
}

/// What does not change in the life of [`Trunks`].
pub struct Terms {
    /// The upstream's name.
    pub upstream: String,
    /// The server, for messages.
    pub peer: String,
    /// Time between keepalives.
    pub keepalive: Duration,
    /// Streams a trunk takes at a time.
    pub streams_per_trunk: u64,
    /// Counts its dials.
    pub meter: Arc<Meter>,
    /// A trunk is replaced at this age at the latest.
    pub max_age: Duration,
    /// The way into the server: each dial is a handshake with it.
    pub gate: Gate,
    /// Closed, unless the server has refused this way of authenticating.
    pub circuit: Circuit,
    /// A dial that has not been let in by then has failed.
    pub dial_timeout: Duration,
}

/// The trunks of one upstream for one identity.
pub struct Trunks {
    terms: Terms,
    dial: Dial,
    failures: Arc<Failures>,
    state: Mutex<State>,
    /// Changes whenever a waiting caller should look again.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    trunks: HashMap<TrunkId, Arc<Trunk>>,
    dialling: bool,
    /// Set while no dial has succeeded since the last failure.
    outage: Option<Outage>,
    draining: bool,
    last_use: Option<Instant>,
    /// The generation of the identity that was asked with last.
    wanted: u64,
    reconnected_at: Option<Instant>,
    idle: IdleLimit,
    facts: Facts,
}

/// Counters and findings for `status`.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Streams opened.
    pub streams_total: u64,
    /// Streams that ended with their trunk.
    pub streams_cut: u64,
    /// Dials that succeeded.
    pub dials_ok: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// The last failure.
    pub last_error: Option<FailureRecord>,
    /// The server's identification.
    pub server: Option<String>,
    /// True when the server knows nothing newer than SHA-1 RSA.
    pub sha1: bool,
}

/// A place on a trunk; dropping it gives it back.
pub struct Lease {
    trunks: Arc<Trunks>,
    id: TrunkId,
    trunk: Arc<Trunk>,
    /// In front of the node that the stream leads to; none for a stream that is not to be opened.
    handshake: Option<Place>,
}

impl Lease {
    /// The connection to open the stream on.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.trunk.connection
    }

    /// The stream is open: it is counted, and the handshake on it begins.
    pub(super) fn stream_opened(&self) {
        self.trunks.lock().facts.streams_total += 1;
        if let Some(handshake) = &self.handshake {
            handshake.stream_opened();
        }
    }

    /// Has a channel ready for the next stream, where the trunk takes one.
    pub(super) fn open_ahead(&self) {
        let takes_more = {
            let state = self.trunks.lock();
            state.ledger.has_room(self.id, self.trunks.limits(&state))
        };
        if takes_more {
            self.trunk.connection.open_ahead();
        }
    }

    /// The place in front of the node.
    pub(super) fn handshake(&self) -> Option<&Place> {
        self.handshake.as_ref()
    }

    /// The upstream whose trunk this is.
    pub fn trunks(&self) -> &Arc<Trunks> {
        &self.trunks
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.trunks.lock().ledger.give_back(self.id, std::time::Instant::now());
        self.trunks.sweep();
    }
}

impl Trunks {
    /// Trunks that are dialled with `dial` when they are needed.
    pub fn new(terms: Terms, dial: Dial, failures: Arc<Failures>) -> Arc<Self> {
        Arc::new(Self { terms, dial, failures, state: Mutex::default(), changed: watch::Sender::new(0) })
    }

    /// A place on a trunk of `generation`, dialling one if need be.
    ///
    /// # Errors
    /// The last dial's failure, once `deadline` has passed or at once where waiting is no use.
    pub async fn lease(self: &Arc<Self>, generation: u64, deadline: Instant) -> Result<Lease, Failure> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let again = match self.try_lease(generation)? {
                Ok(lease) => return Ok(lease),
                Err(again) => again,
            };
            let look_again = async {
                tokio::select! {
                    _ = changed.changed() => {}
                    () = sleep_until(again) => {}
                }
            };
            if timeout_at(deadline, look_again).await.is_err() {
                return Err(self.too_late());
            }
        }
    }

    /// The same, and a place in front of the node that `gate` leads to: for a stream.
    ///
    /// # Errors
    /// As [`Trunks::lease`], or `Busy`.
    pub async fn lease_to(
        self: &Arc<Self>,
        gate: &Gate,
        generation: u64,
        deadline: Instant,
    ) -> Result<Lease, Failure> {
        // Trunk first: who cannot have one must not be told that the node is busy.
        let mut lease = self.lease(generation, deadline).await?;
        lease.handshake = gate.try_enter();
        if lease.handshake.is_none() {
            // Who waits in the line must not fill a trunk.
            drop(lease);
            let handshake = gate.enter(deadline).await?;
            lease = self.lease(generation, deadline).await?;
            lease.handshake = Some(handshake);
        }
        Ok(lease)
    }

    /// A lease, or when to look again at the latest.
    fn try_lease(self: &Arc<Self>, generation: u64) -> Result<Result<Lease, Instant>, Failure> {
        let now = Instant::now();
        let mut state = self.lock();
        state.last_use = Some(now);
        state.wanted = generation;
        if state.ledger.keep_from(generation) {
            let trunks = self.clone();
            tokio::spawn(async move { trunks.sweep() });
        }
        if state.draining {
            return Err(Failure::new(FailureKind::Draining, "the broker is shutting down")
                .hint("natssh broker start"));
        }
        let limits = self.limits(&state);
        if let Some(id) = state.ledger.take(generation, limits)
            && let Some(trunk) = state.trunks.get(&id).cloned()
        {
            self.dial_spare(&mut state);
            return Ok(Ok(Lease { trunks: self.clone(), id, trunk, handshake: None }));
        }
        if state.dialling {
            return Ok(Err(now + IMPATIENT));
        }
        match state.outage.as_ref().map_or(Next::Dial, |outage| outage.next(generation, now)) {
            Next::Dial => {}
            Next::Wait(until) => return Ok(Err(until)),
            Next::Fail(failure) => return Err(failure),
        }
        self.terms.circuit.ask(generation)?;
        self.start_dial(&mut state);
        Ok(Err(now + IMPATIENT))
    }

    /// A cluster that counts silence by stream and closes the whole connection
    /// for it gets a connection for each stream.
    fn limits(&self, state: &State) -> Limits {
        Limits { streams: if state.idle.known().is_some() { 1 } else { self.terms.streams_per_trunk } }
    }

    /// Dials a trunk that nobody waits for yet, if one will be needed soon.
    fn dial_spare(self: &Arc<Self>, state: &mut State) {
        let now = Instant::now();
        let wanted = state.ledger.wants_spare(state.wanted, self.limits(state), now.into_std());
        let due = state.outage.as_ref().is_none_or(|outage| outage.redial_at().is_none_or(|at| now >= at));
        let idle = !state.dialling && !state.draining;
        if wanted && due && idle && self.terms.circuit.ask(state.wanted).is_ok() {
            tracing::debug!(upstream = self.terms.upstream, "dialling a spare trunk");
            self.start_dial(state);
        }
    }

    fn too_late(&self) -> Failure {
        match &self.lock().outage {
            Some(outage) if outage.dials > 0 => outage.failure.clone(),
            _ => Failure::new(FailureKind::Timeout, format!("{} did not answer in time", self.terms.peer))
                .hint("natssh status"),
        }
    }

    fn start_dial(self: &Arc<Self>, state: &mut State) {
        state.dialling = true;
        let trunks = self.clone();
        tokio::spawn(async move {
            let _place = match trunks.terms.gate.enter(Instant::now() + trunks.terms.dial_timeout).await {
                Ok(place) => place,
                Err(failure) => return trunks.dial_failed(failure, 0),
            };
            let begun = Instant::now();
            // A panic in the dial must not leave `dialling` set for ever.
            let dialled = tokio::spawn((trunks.dial)()).await.unwrap_or_else(|_| {
                let text = format!("dialling {} failed inside natssh", trunks.terms.peer);
                let failure = Failure::new(FailureKind::Internal, text).hint("natssh broker logs");
                Dialled { generation: 0, outcome: Err(failure) }
            });
            match dialled.outcome {
                Ok(connection) => {
                    trunks.terms.meter.dials.observe(begun.elapsed());
                    trunks.opened(connection, dialled.generation);
                }
                Err(failure) => {
                    trunks.terms.meter.dial_failed();
                    trunks.dial_failed(failure, dialled.generation);
                }
            }
        });
    }

    fn opened(self: &Arc<Self>, connection: Connection, generation: u64) {
        self.terms.circuit.accepted();
        let trunk = Arc::new(Trunk::new(connection));
        let mut state = self.lock();
        state.dialling = false;
        if state.draining {
            return;
        }
        let now = Instant::now();
        if let Some(outage) = state.outage.take() {
            tracing::info!(upstream = self.terms.upstream, failed_dials = outage.dials, "upstream is back");
            state.reconnected_at = Some(now);
        }
        if state.idle.dial_succeeded() {
            let seconds = state.idle.known().map_or(0, |limit| limit.as_secs());
            tracing::warn!(upstream = self.terms.upstream, seconds, "the cluster cuts silent connections");
        }
        state.facts.dials_ok += 1;
        state.facts.sha1 = trunk.connection.sha1();
        state.facts.server = Some(trunk.connection.server().to_owned());
        // Those that were opened together must not be replaced together.
        let age = self.terms.max_age.mul_f64(1.0 - rand::random::<f64>() / 10.0);
        let id = state.ledger.add(generation, now.into_std(), (now + age).into_std());
        state.ledger.retire(now.into_std());
        state.trunks.insert(id, trunk.clone());
        drop(state);
        tracing::info!(upstream = self.terms.upstream, trunk = id, generation, "trunk opened");
        self.sweep();
        let trunks = self.clone();
        tokio::spawn(async move {
            let ended = trunk.watch(trunks.terms.keepalive, |seen| trunks.seen(id, seen)).await;
            trunks.lost(id, &ended);
        });
    }

    fn seen(self: &Arc<Self>, id: TrunkId, seen: Seen) {
        if seen == Seen::Answers {
            let mut state = self.lock();
            self.dial_spare(&mut state);
            if let Some(silence) = state.trunks.get(&id).and_then(|trunk| trunk.connection.silence()) {
                state.idle.silence_survived(silence);
            }
        }
        if self.lock().ledger.answers(id, seen == Seen::Answers) {
            match seen {
                Seen::Answers => {
                    tracing::info!(upstream = self.terms.upstream, trunk = id, "trunk answers again");
                }
                Seen::Silent => {
                    tracing::warn!(upstream = self.terms.upstream, trunk = id, "trunk does not answer");
                }
            }
        }
        self.sweep();
    }

    fn dial_failed(self: &Arc<Self>, failure: Failure, generation: u64) {
        self.terms.circuit.failed(generation, &failure);
        let now = Instant::now();
        let mut state = self.lock();
        state.dialling = false;
        state.idle.dial_failed();
        state.facts.dials_failed += 1;
        state.facts.last_error = Some(record(None, Some(&self.terms.upstream), &failure, unix_now()));
        if state.outage.as_ref().is_none_or(|before| before.failure != failure) {
            let (upstream, reason) = (&self.terms.upstream, &failure.message);
            match state.trunks.is_empty() {
                true => tracing::warn!(upstream, reason, "upstream is down"),
                false => tracing::warn!(upstream, reason, "no further trunk could be dialled"),
            }
        }
        let outage = Outage::after_dial(state.outage.as_ref(), failure, generation, now, rand::random());
        state.outage = Some(outage);
        drop(state);
        self.wake();
        self.redial_later();
    }

    /// Dials again after the back-off, while the upstream was in use lately.
    fn redial_later(self: &Arc<Self>) {
        let trunks = self.clone();
        tokio::spawn(async move {
            let due = trunks.lock().outage.as_ref().and_then(Outage::redial_at);
            let Some(due) = due else { return };
            sleep_until(due).await;
            let mut state = trunks.lock();
            // A dial that failed meanwhile has its own time, and its own waiter.
            let still_due = state.outage.as_ref().and_then(Outage::redial_at) == Some(due);
            let in_use = state.last_use.is_some_and(|used| used.elapsed() < IN_USE);
            let idle = !state.dialling && !state.draining;
            if still_due && in_use && idle && trunks.terms.circuit.ask(state.wanted).is_ok() {
                trunks.start_dial(&mut state);
            }
        });
    }

    fn lost(self: &Arc<Self>, id: TrunkId, ended: &Ended) {
        let mut state = self.lock();
        // Streams on it hear of the end by themselves.
        if let Some(trunk) = state.trunks.remove(&id) {
            trunk.connection.close();
        }
        let Some(entry) = state.ledger.remove(id) else { return };
        let Ended { reason, channels, silence } = ended;
        if let Some(silence) = silence {
            state.idle.trunk_closed(*silence);
        }
        state.facts.streams_cut += *channels as u64;
        if entry.health == Health::Draining && *channels == 0 {
            return;
        }
        let streams = if *channels == 1 { "stream" } else { "streams" };
        let text =
            format!("a trunk to {} was lost with {channels} open {streams}: {reason}", self.terms.peer);
        let failure = Failure::new(FailureKind::Cut, text).hint("natssh status");
        tracing::warn!(upstream = self.terms.upstream, trunk = id, streams = channels, %reason, "trunk lost");
        state.facts.last_error = Some(record(None, Some(&self.terms.upstream), &failure, unix_now()));
        self.failures.record(None, Some(&self.terms.upstream), &failure);
        let alone = state.trunks.is_empty();
        if alone && state.outage.is_none() && !state.draining {
            state.outage = Some(Outage::after_loss(failure, Instant::now(), rand::random()));
        }
        drop(state);
        self.wake();
        if alone {
            self.redial_later();
        }
    }

    /// Closes trunks that have nothing left to do.
    pub fn sweep(&self) {
        let mut state = self.lock();
        for id in state.ledger.closable(std::time::Instant::now()) {
            state.ledger.remove(id);
            if let Some(trunk) = state.trunks.remove(&id) {
                trunk.connection.close();
            }
            tracing::info!(upstream = self.terms.upstream, trunk = id, "trunk closed");
        }
        drop(state);
        self.wake();
    }

    /// A person says that it is worth dialling: what was refused or failed before is forgotten.
    pub fn forgive(&self) {
        self.terms.circuit.close();
        self.lock().outage = None;
        self.wake();
    }

    /// True for a while after the proxy came back: nodes rejoin within seconds.
    pub fn rejoining(&self) -> bool {
        self.lock().reconnected_at.is_some_and(|at| at.elapsed() < REJOINING)
    }

    /// The proxy named the cluster's idle limit.
    pub fn learn_idle_limit(&self, limit: Duration) {
        self.lock().idle.told(limit);
        tracing::warn!(
            upstream = self.terms.upstream,
            seconds = limit.as_secs(),
            "the cluster has an idle limit"
        );
    }

    /// Takes no new streams; trunks close with their last one.
    pub fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        state.ledger.drain();
        drop(state);
        self.sweep();
    }

    /// Streams open now.
    pub fn streams(&self) -> u64 {
        self.lock().ledger.entries().iter().map(|e| e.streams).sum()
    }

    fn wake(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
