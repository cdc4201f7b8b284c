//! The broker as its doors see it: what reaches nodes, what failed, what it counts.

use crate::config::watch::Login;
use crate::config::{self, Environment, Settings};
use crate::failures::{Failures, unix_now};
use crate::metrics;
use crate::pool::{Node, Pool, ToNode, WithoutSftp};
use crate::reach::{Caller, Reach};
use crate::session::Stores;
use crate::settings;
use crate::target::{Target, Wishes};
use natssh_wire::status::{Requests, Status, UpstreamState};
use natssh_wire::{Failure, FailureKind, PROTOCOL, VERSION};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// How many failures `status` shows.
const FAILURES_SHOWN: usize = 20;

/// How often a tsh profile that is being written is looked at again, and after how long.
const LOOKS: u32 = 5;
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(10);

/// What the broker has been told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Take streams.
    Serving,
    /// Take no new ones, let the open ones end, then leave.
    Draining,
    /// Leave.
    Stopping,
}

/// A login, and when it was last looked whether it is still that one.
struct Seen {
    login: Option<Login>,
    looked: std::time::Instant,
}

/// The port for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Port {
    /// The configuration names none.
    #[default]
    Unwanted,
    /// It is served.
    Open(SocketAddr),
    /// It is not, and this is why.
    Failed(String),
}

/// One broker.
pub struct Broker {
    reach: watch::Sender<Arc<Reach>>,
    environment: Environment,
    /// The login that the configuration in force was resolved with; held while it is resolved again.
    login: Mutex<Seen>,
    /// The last failures.
    pub failures: Arc<Failures>,
    /// What becomes of calls of ssh.
    pub calls: settings::Settings,
    /// The sessions.
    pub pool: Arc<Pool<Node>>,
    /// The nodes that files go to by commands.
    pub without_sftp: WithoutSftp,
    stores: Arc<Stores>,
    /// What the doors saw.
    pub counters: Counters,
    metrics_port: Mutex<Port>,
    phase: watch::Sender<Phase>,
    streams: watch::Sender<u64>,
    started_at: u64,
    socket: PathBuf,
}

/// Requests at the doors.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Peers of another user.
    pub strangers: AtomicU64,
    /// Requests that were not understood.
    pub malformed: AtomicU64,
    /// Clients that did not finish a request in time.
    pub timed_out: AtomicU64,
    /// Connections over the limit.
    pub busy: AtomicU64,
}

impl Broker {
    /// A broker for the configuration of that environment; `state_dir` is for what outlives it.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn new(
        environment: Environment,
        socket: PathBuf,
        state_dir: PathBuf,
    ) -> Result<Arc<Self>, config::Complaints> {
        let failures = Arc::new(Failures::default());
        let looked = std::time::Instant::now();
        let login = environment.login();
        let stores = Stores::new(state_dir.clone());
        let reach = Reach::new(config::load(&environment)?, failures.clone(), state_dir);
        Ok(Arc::new(Self {
            reach: watch::Sender::new(Arc::new(reach)),
            environment,
            login: Mutex::new(Seen { login, looked }),
            calls: settings::Settings::default(),
            pool: Pool::new(failures.clone()),
            without_sftp: WithoutSftp::default(),
            stores,
            failures,
            counters: Counters::default(),
            metrics_port: Mutex::default(),
            phase: watch::Sender::new(Phase::Serving),
            streams: watch::Sender::new(0),
            started_at: unix_now(),
            socket,
        }))
    }

    /// What reaches nodes, by the configuration in force.
    pub fn reach(&self) -> Arc<Reach> {
        self.reach.borrow().clone()
    }

    /// The same, to wait for another configuration.
    pub fn reaches(&self) -> watch::Receiver<Arc<Reach>> {
        self.reach.subscribe()
    }

    /// The same, after a look at whether somebody has logged in or out with tsh (blocking), which
    /// requests that wait together share: one that began after `since` will do.
    pub fn reach_after_login(&self, since: std::time::Instant) -> Arc<Reach> {
        let mut seen = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked <= since {
            seen.looked = std::time::Instant::now();
            let same = seen.login.as_ref().is_some_and(|login| self.environment.is_still(login));
            // Half-written files are looked at again by the next request.
            let news = if same { None } else { self.environment.login() };
            if news.is_some() && news != seen.login {
                // A configuration that is wrong now was right once, and that stays in force.
                drop(self.resolve(&mut seen.login));
            }
        }
        self.reach()
    }

    /// Reads the configuration again (blocking); a bad one changes nothing.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn reload(&self) -> Result<(), Failure> {
        self.resolve(&mut self.login.lock().unwrap_or_else(PoisonError::into_inner).login)
    }

    fn resolve(&self, login: &mut Option<Login>) -> Result<(), Failure> {
        let mut loaded = self.load(login);
        for _ in 0..LOOKS {
            // Written while it was read: what was made of it may be wrong or no configuration at all.
            if login.is_some() && self.environment.login() == *login {
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
            loaded = self.load(login);
        }
        let settings = loaded.map_err(|complaints| {
            let failure = complaints.to_failure();
            tracing::warn!(
                reason = failure.message,
                "configuration not reloaded; the old one stays in force"
            );
            self.failures.record(None, None, &failure);
            failure
        })?;
        let reach = Arc::new(self.reach().changed(settings));
        self.reach.send_replace(reach.clone());
        self.pool.reroute(|key| reach.way_to(&key.target) == key.way);
        tracing::info!("configuration reloaded");
        Ok(())
    }

    fn load(&self, login: &mut Option<Login>) -> Result<Settings, config::Complaints> {
        *login = self.environment.login();
        config::load(&self.environment)
    }

    /// Moves on to a later phase; there is no way back.
    pub fn enter(&self, phase: Phase) {
        let moved = self.phase.send_if_modified(|now| {
            let on = phase > *now;
            *now = phase.max(*now);
            on
        });
        if moved {
            tracing::info!(?phase, streams = *self.streams.borrow(), "broker");
            self.reach().drain();
            self.pool.drain();
        }
    }

    /// What opens sessions on `target` for `caller`, by the configuration in force.
    pub fn to_node(&self, target: &Target, wishes: &Wishes, caller: Caller) -> Arc<ToNode> {
        ToNode::new(&self.reach(), target, wishes, &self.stores, caller)
    }

    /// How the port for metrics stands.
    pub fn metrics_port(&self) -> Port {
        self.metrics_port.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how it stands; says whether that is news.
    pub fn note_metrics_port(&self, port: Port) -> bool {
        let mut known = self.metrics_port.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *known != port;
        *known = port;
        news
    }

    /// The phase, to wait on.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Open streams, to wait on.
    pub fn streams(&self) -> watch::Receiver<u64> {
        self.streams.subscribe()
    }

    /// Counts a stream for as long as the result lives.
    pub fn count_stream(self: &Arc<Self>) -> CountedStream {
        self.streams.send_modify(|streams| *streams += 1);
        CountedStream(self.clone())
    }

    /// Refuses what a draining broker no longer does.
    ///
    /// # Errors
    /// `Draining`.
    pub fn open_for_streams(&self) -> Result<(), Failure> {
        match *self.phase.borrow() {
            Phase::Serving => Ok(()),
            _ => Err(Failure::new(FailureKind::Draining, "the broker is shutting down")
                .hint("natssh broker start")),
        }
    }

    /// What Prometheus is told at this moment.
    pub fn metrics(&self) -> String {
        let reach = self.reach();
        metrics::page(&metrics::Reading {
            status: self.status(),
            failures: self.failures.totals(),
            meters: reach.meters(),
            sessions: self.pool.meter.clone(),
            unread_bytes: reach.unread_bytes(),
            now: unix_now(),
        })
    }

    /// Everything at this moment.
    pub fn status(&self) -> Status {
        let now = unix_now();
        let reach = self.reach();
        let (upstreams, identities) = (reach.upstreams(), reach.identities(now));
        let up = |u: &natssh_wire::status::Upstream| {
            !matches!(u.state, UpstreamState::Down | UpstreamState::Suspect)
        };
        let good =
            |i: &natssh_wire::status::Identity| i.state.is_good() || reach.settings.spare.contains(&i.name);
        let port = self.metrics_port();
        let mut warnings = reach.settings.warnings.clone();
        if let Port::Failed(sentence) = &port {
            warnings.push(sentence.clone());
        }
        Status {
            version: VERSION.into(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            started_at: self.started_at,
            uptime_seconds: now.saturating_sub(self.started_at),
            memory_bytes: resident_bytes(),
            socket: self.socket.display().to_string(),
            config: reach.settings.path.as_ref().map(|path| path.display().to_string()),
            metrics: match &port {
                Port::Open(address) => Some(address.to_string()),
                Port::Unwanted | Port::Failed(_) => None,
            },
            healthy: upstreams.iter().all(up) && identities.iter().all(good),
            draining: *self.phase.borrow() != Phase::Serving,
            upstreams,
            identities,
            sessions: self.pool.report(),
            failures: self.failures.latest(None, FAILURES_SHOWN),
            requests: Requests {
                accepted: self.counters.accepted.load(Relaxed),
                strangers: self.counters.strangers.load(Relaxed),
                malformed: self.counters.malformed.load(Relaxed),
                timed_out: self.counters.timed_out.load(Relaxed),
                busy: self.counters.busy.load(Relaxed),
            },
            warnings,
        }
    }
}

/// A stream that is open.
pub struct CountedStream(Arc<Broker>);

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.0.streams.send_modify(|streams| *streams -= 1);
    }
}

/// `VmRSS` of this process (proc_pid_status(5)); 0 where the platform does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
