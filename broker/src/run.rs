//! The life of a broker: settings read, parts built, doors opened, a signal, everything closed.

mod instance;

use crate::broker::{Broker, Phase};
use crate::config::Environment;
use crate::doors;
use crate::log;
use instance::Claim;
use natssh_wire::paths::Paths;
use sd_notify::NotifyState;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// How long open streams may go on after the broker was told to leave.
const DRAIN: Duration = Duration::from_secs(60);
/// How often the broker looks whether its socket is still there.
const SOCKET_TICK: Duration = Duration::from_secs(2);

/// How the broker was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// By a person or a service manager: logs to stderr.
    Foreground,
    /// By the shim: a session of its own, logs to its file, stderr closed once it listens.
    Detached,
}

/// Runs a broker until it is told to leave.
#[must_use]
pub fn run(start: Start) -> ExitCode {
    match begin(start) {
        Ok(code) => code,
        Err(sentence) => {
            say(&sentence);
            ExitCode::FAILURE
        }
    }
}

/// To stderr, if that takes it: eprintln! would panic on a full disk.
fn say(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "natssh-broker: {sentence}");
}

fn begin(start: Start) -> Result<ExitCode, String> {
    shut_off(start)?;
    let paths = crate::place::paths().map_err(|failure| failure.to_string())?;
    let Some(claim) = Claim::take(&paths)? else {
        if start == Start::Detached {
            // Several shims started one at the same moment: another was first.
            return Ok(ExitCode::SUCCESS);
        }
        return Err(format!("a broker runs already at {} (natssh broker stop)", paths.socket.display()));
    };
    let detached = start == Start::Detached;
    let _log = log::start(detached.then_some(paths.log.as_path())).or_else(|sentence| {
        // A full disk or a lost folder is no reason to leave people without a broker.
        say(&sentence);
        log::start(None)
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4)))
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?;
    let code = runtime.block_on(live(start, &paths, claim))?;
    // Whatever still waits on a slow file or agent is left behind.
    runtime.shutdown_background();
    Ok(code)
}

async fn live(start: Start, paths: &Paths, claim: Claim) -> Result<ExitCode, String> {
    let socket = &paths.socket;
    let broker = Broker::new(Environment::of_process(), socket.clone(), paths.state_dir.clone())
        .map_err(|complaints| complaints.to_failure().to_string())?;
    let signals = Signals::listen()?;
    let instance = claim.open()?;
    let listener = instance.listener()?;
    tracing::info!(version = natssh_wire::VERSION, pid = std::process::id(), socket = %socket.display(), "broker started");
    let door = tokio::spawn(doors::local::serve(broker.clone(), listener));
    let metrics = tokio::spawn(doors::metrics::serve(broker.clone()));
    let orders = tokio::spawn(signals.obey(broker.clone()));
    notify(&[NotifyState::Ready]);
    if start == Start::Detached {
        instance::release_stderr();
    }
    let mut phase = broker.phase();
    tokio::select! {
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
        () = instance.vanished(SOCKET_TICK) => {
            tracing::warn!("the socket is gone: leaving");
            broker.enter(Phase::Draining);
        }
    }
    notify(&[NotifyState::Stopping]);
    // The name is free for the next broker while the last streams of this one end.
    instance.give_up();
    drained(&broker).await;
    door.abort();
    metrics.abort();
    broker.reach().end().await;
    orders.abort();
    tracing::info!("broker stopped");
    Ok(ExitCode::SUCCESS)
}

/// Waits for the last stream, for a second order, or for the end of patience.
async fn drained(broker: &Arc<Broker>) {
    let (mut streams, mut phase) = (broker.streams(), broker.phase());
    tokio::select! {
        _ = streams.wait_for(|streams| *streams == 0) => {}
        _ = phase.wait_for(|phase| *phase == Phase::Stopping) => {}
        () = sleep(DRAIN) => {
            let streams = *broker.streams().borrow();
            tracing::warn!(streams, "streams were cut: they did not end in time");
        }
    }
}

/// SIGTERM and SIGINT drain, a second one stops; SIGHUP reloads.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// From here on they no longer end the process: before there is a stream to drain.
    fn listen() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be heard: {error}"));
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
            hup: listen(SignalKind::hangup())?,
        })
    }

    async fn obey(mut self, broker: Arc<Broker>) {
        loop {
            tokio::select! {
                _ = self.term.recv() => leave(&broker),
                _ = self.int.recv() => leave(&broker),
                _ = self.hup.recv() => {
                    notify(&[NotifyState::Reloading]);
                    let broker = broker.clone();
                    // Its complaints are in the log and in `status`.
                    drop(tokio::task::spawn_blocking(move || broker.reload()).await);
                    notify(&[NotifyState::Ready]);
                }
            }
        }
    }
}

fn leave(broker: &Arc<Broker>) {
    let serving = *broker.phase().borrow() == Phase::Serving;
    broker.enter(if serving { Phase::Draining } else { Phase::Stopping });
}

/// Tells systemd, if it wants to know (sd_notify(3)).
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Separates the broker from whoever started it.
fn shut_off(start: Start) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid, umask};
    if start == Start::Detached {
        // Fails only for a process that leads a session already.
        let _ = setsid();
        std::env::set_current_dir("/").map_err(|error| format!("/ cannot be entered: {error}"))?;
    }
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Keys are in memory: no core file.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| format!("core dumps cannot be turned off: {error}"))?;
    // Two descriptors a stream: what the system allows is taken.
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    Ok(())
}

/// For tests that run a broker inside their own process.
pub async fn serve_until_drained(broker: Arc<Broker>, listener: tokio::net::UnixListener) {
    doors::local::serve(broker.clone(), listener).await;
    drained(&broker).await;
}
