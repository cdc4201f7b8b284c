//! `natssh-lab up`: starts the supervisor as a daemon and tells how it gets on.

use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

use crate::ca::KeyKind;
use crate::cli::Up;
use crate::lab::live;
use crate::proxy::Face;
use crate::state::{Folder, Mode, append, create_private};
use crate::supervisor::{Keeper, Options};

/// What the daemon tells its parent, one JSON line each, until it is ready.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum News {
    /// It is about to do this.
    Step(String),
    /// All nodes have joined.
    Ready,
    /// It gave up, and removed what it had made.
    Failed(String),
}

/// Starts a lab that outlives this process; returns when all nodes have joined.
///
/// # Errors
/// When the lab does not come up.
pub fn up(folder: &Folder, wanted: &Up, tell: impl Fn(&str)) -> Result<()> {
    create_private(folder.path())?;
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.arg("supervise").arg("--state").arg(folder.path());
    command.args(["--nodes", &wanted.nodes.to_string(), "--rtt", &wanted.rtt.to_string()]);
    if wanted.rootless {
        command.arg("--rootless");
    }
    if let Some(word) = wanted.tls_routing.to_possible_value() {
        command.arg(format!("--tls-routing={}", word.get_name()));
    }
    let daemon = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(append(&folder.log())?);
    let mut daemon = daemon.spawn().context("start the supervisor")?;
    let news = BufReader::new(daemon.stdout.take().context("its stdout was asked for")?);
    for line in news.lines() {
        let line = line.context("listen to the supervisor")?;
        match serde_json::from_str(&line).context("understand the supervisor")? {
            News::Step(step) => tell(&step),
            News::Ready => return Ok(()),
            News::Failed(reason) => {
                let _ = daemon.wait();
                if !folder.is_claimed() && folder.load()?.is_none() {
                    folder.clear()?;
                }
                bail!(reason)
            }
        }
    }
    let log = folder.log();
    bail!("the supervisor ended unexpectedly; read {}, then type: natssh-lab down", log.display())
}

/// The daemon: in a session of its own, away from every folder but `/`.
///
/// # Errors
/// When the lab does not come up, or something of it cannot be removed.
pub fn supervise(folder: Folder, wanted: &Up) -> Result<()> {
    rustix::process::setsid().context("leave the terminal")?;
    std::env::set_current_dir("/").context("enter /")?;
    let mode = match wanted.rootless || !rustix::process::geteuid().is_root() {
        true => Mode::Rootless,
        false => Mode::Rooted,
    };
    let options = Options {
        folder,
        mode,
        nodes: wanted.nodes,
        rtt: Duration::from_millis(wanted.rtt),
        tls_routing: wanted.tls_routing,
        face: Face::New,
        // `fault face old` must stay possible.
        keys: KeyKind::Rsa,
        program: std::env::current_exe().context("find this program")?,
        keeper: Keeper::Daemon,
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let step = |step: &str| tell(&News::Step(step.to_owned()));
    let lived = runtime.block_on(live(options, step, |_| tell(&News::Ready)));
    if let Err(error) = &lived {
        // Nobody hears it once the lab was ready; the log does.
        let _ = tell(&News::Failed(format!("{error:#}")));
    }
    lived
}

/// An error means that the parent is gone and nobody waits for the lab.
fn tell(news: &News) -> Result<()> {
    let line = serde_json::to_string(news).context("encode the news")?;
    let mut stdout = stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("tell who started the lab")
}
