//! A whole lab in the hands of a program: brought up, asked, broken, and taken
//! down when it is dropped.
//!
//! It lives on a thread of its own and is spoken to over its control socket, as
//! one that `natssh-lab up` left running is; so these methods block, and may be
//! called from asynchronous code that can bear it.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::ca::{Authority, KeyKind};
use crate::cleanup;
use crate::control::{self, Reply, Request, Status, door::Door};
use crate::faults::Fault;
use crate::proxy::{Face, TlsRouting};
use crate::state::{Folder, Mode};
use crate::supervisor::{Keeper, Options, Supervisor};
use crate::tools;

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    folder: Folder,
    variables: Vec<(&'static str, String)>,
    authority: Authority,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Options {
    /// Two rootless nodes behind a current proxy, kept by this program.
    ///
    /// # Errors
    /// When the folder's path cannot be used, or the `natssh-lab` program is
    /// neither beside this one nor in PATH.
    pub fn rootless(folder: &Path) -> Result<Self> {
        Ok(Self {
            folder: Folder::at(folder)?,
            mode: Mode::Rootless,
            nodes: 2,
            rtt: Duration::ZERO,
            face: Face::New,
            tls_routing: TlsRouting::Off,
            keys: KeyKind::Rsa,
            program: program()?,
            keeper: Keeper::Program,
        })
    }

    /// The same in namespaces behind a NAT, which takes root.
    ///
    /// # Errors
    /// As [`Options::rootless`].
    pub fn rooted(folder: &Path) -> Result<Self> {
        Ok(Self { mode: Mode::Rooted, ..Self::rootless(folder)? })
    }
}

impl Lab {
    /// Brings a lab up; returns when all nodes have joined.
    ///
    /// # Errors
    /// When the machine lacks something; the sentence says what to type.
    pub fn up(options: Options) -> Result<Self> {
        let folder = options.folder.clone();
        let (ready, readied) = mpsc::channel();
        let thread = std::thread::Builder::new().name("lab".to_owned()).spawn(move || {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.context("start the lab's runtime")?;
            // Whoever waits for it may have given up; then so does the lab.
            let ready = |lab: &Supervisor| {
                let news = (lab.variables(), lab.authority().clone());
                ready.send(news).map_err(|_| anyhow!("nobody waits for the lab"))
            };
            runtime.block_on(live(options, |_| Ok(()), ready))
        })?;
        match readied.recv() {
            Ok((variables, authority)) => Ok(Self { folder, variables, authority, thread: Some(thread) }),
            Err(_) => match join(thread) {
                Ok(()) => bail!("the lab ended before it was ready"),
                Err(error) => Err(error),
            },
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The variables that `natssh-lab env` prints, as `Command::envs` takes them.
    pub fn env(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The authorities it came up with; a fault may have replaced them since.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// How it stands.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Status> {
        match control::demand(&self.folder, &Request::Status)? {
            Reply::Status(status) => Ok(status),
            other => bail!("the lab answered something else: {other:?}"),
        }
    }

    /// Breaks or mends something; done when it returns.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn fault(&self, fault: Fault) -> Result<()> {
        control::demand(&self.folder, &Request::Fault(fault)).map(|_| ())
    }

    /// Takes it down.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn down(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        cleanup::down(&self.folder)?;
        join(thread)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("natssh-lab: {error:#}");
        }
    }
}

/// A lab from beginning to end. `ready` is told when it is up; it ends when it is told to on its control socket, or by SIGTERM when
/// it is a daemon.
///
/// # Errors
/// When it cannot come up, or something of it cannot be removed.
pub async fn live(
    options: Options,
    progress: impl Fn(&str) -> Result<()>,
    ready: impl FnOnce(&Supervisor) -> Result<()>,
) -> Result<()> {
    let (orders, ordered) = tokio::sync::mpsc::channel(16);
    let keeper = options.keeper;
    let folder = options.folder.clone();
    // Before anything is there to clean up: a signal that comes while the lab starts ends it once it is up.
    let told_to_end = match keeper {
        Keeper::Daemon => Some(EndSignals::listen()?),
        Keeper::Program => None,
    };
    let supervisor = Supervisor::start(options, progress).await?;
    let door = Door::open(&folder, orders.clone())?;
    let waited_for = ready(&supervisor).is_ok();
    let down = tokio::spawn(async move {
        match (waited_for, told_to_end) {
            // Nobody waits any more: it goes down again.
            (false, _) => {}
            (true, Some(signals)) => signals.received().await,
            (true, None) => return,
        }
        let _ = orders.send((Request::Down, oneshot::channel().0)).await;
    });
    let served = supervisor.serve(ordered).await;
    down.abort();
    door.close().await;
    served
}

/// SIGTERM and SIGINT, which from now on end nothing by themselves.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    fn listen() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one that has come or comes.
    async fn received(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().map_err(|_| anyhow!("the lab's thread panicked"))?
}

/// The `natssh-lab` program: this one, or beside this one, where cargo puts it
/// (a test lies one folder deeper), or in PATH.
fn program() -> Result<PathBuf> {
    let me = std::env::current_exe().context("find this program")?;
    let beside = me.ancestors().skip(1).take(2).map(|folder| folder.join("natssh-lab"));
    beside
        .chain(tools::find("natssh-lab"))
        .find(|file| file.is_file())
        .context("the natssh-lab program is not built; type: cargo build -p natssh-lab")
}
