//! A lab's life: the plan is written, everything in it is made, orders are
//! taken, everything is removed.
//!
//! The same whether it is the daemon that `natssh-lab up` leaves running or a
//! thread of a test.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use tokio::sync::{mpsc, oneshot};

use crate::account;
use crate::ca::{Authority, KeyKind};
use crate::cleanup::{self, Removed};
use crate::control::{NodeState, NodeStatus, Reply, Request, Status};
use crate::credentials::{Account, Credentials};
use crate::front::Front;
use crate::netns::{self, Choosing};
use crate::node::Node;
use crate::proxy::{Face, TlsRouting};
use crate::state::{Claim, Folder, Mode, Plan};
use crate::tools;
use crate::topology::MAX_NODES;

mod breaking;
mod build;

/// How a lab is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder.
    pub folder: Folder,
    /// How the nodes are made.
    pub mode: Mode,
    /// How many.
    pub nodes: usize,
    /// The round-trip time added between clients and the proxy.
    pub rtt: Duration,
    /// The age that the proxy shows at first.
    pub face: Face,
    /// Whether SSH is inside TLS where clients reach the proxy.
    pub tls_routing: TlsRouting,
    /// The kind of key that the cluster uses; an old face needs RSA.
    pub keys: KeyKind,
    /// The `natssh-lab` program, for the nodes' processes.
    pub program: PathBuf,
    /// Who lives as long as the lab.
    pub keeper: Keeper,
}

/// Who lives as long as a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// This process, which `natssh-lab down` may end.
    Daemon,
    /// A program that does other things too.
    Program,
}

/// An order and where its answer goes.
pub type Order = (Request, oneshot::Sender<Reply>);

/// A lab that is up.
#[derive(Debug)]
pub struct Supervisor {
    folder: Folder,
    plan: Plan,
    rtt: Duration,
    authority: Authority,
    account: Account,
    credentials: Credentials,
    front: Front,
    nodes: Vec<Node>,
    since: Instant,
    _claim: Claim,
}

impl Supervisor {
    /// Brings a lab up, and tells `progress` about it. What was made is removed
    /// again if something fails, or if nobody listens to the progress any more.
    ///
    /// # Errors
    /// When the machine lacks something; the sentence says what to type.
    pub async fn start(options: Options, progress: impl Fn(&str) -> Result<()>) -> Result<Self> {
        tools::require(options.mode)?;
        ensure!(options.nodes > 0, "a lab has at least one node");
        if options.mode == Mode::Rooted {
            ensure!(netns::available(), "namespaces cannot be made here; type: natssh-lab up --rootless");
            ensure!(options.nodes <= MAX_NODES, "a lab with namespaces has at most {MAX_NODES} nodes");
        }
        let login = account::login(options.mode)?;
        let claim = options.folder.claim()?;
        let plan = build::plan(&options);
        let started = async {
            // Held until the nets are routed and no other lab can choose them.
            let choosing = plan.topology.as_ref().map(|_| Choosing::start()).transpose()?;
            let plan = build::with_slot(plan.clone(), choosing.as_ref())?;
            options.folder.save(&plan)?;
            if let Some(topology) = &plan.topology {
                progress("building the network: a NAT and a namespace for each node")?;
                netns::create(topology)?;
            }
            drop(choosing);
            Self::build(&options, plan, login, claim, &progress).await
        };
        match started.await {
            Ok(supervisor) => Ok(supervisor),
            Err(error) => {
                let said = last_words(&options.folder);
                let plan = options.folder.load()?.unwrap_or(plan);
                cleanup::sweep(&options.folder, &plan)?;
                Err(if said.is_empty() { error } else { anyhow!("{error:#}; the log ends with: {said}") })
            }
        }
    }

    /// The variables that `natssh-lab env` prints.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        self.environment().variables()
    }

    /// The cluster's authorities.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Takes orders until one of them is to take the lab down, or all who could
    /// give any are gone. Everything is removed when it returns.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub async fn serve(mut self, mut orders: mpsc::Receiver<Order>) -> Result<()> {
        while let Some((request, answer)) = orders.recv().await {
            let reply = match request {
                Request::Status => Ok(Reply::Status(self.status())),
                Request::Fault(fault) => self.apply(fault).await.map(Reply::Done),
                Request::Down => {
                    let removed = self.stop();
                    let reply = match &removed {
                        Ok(removed) => Reply::Done(removed.to_string()),
                        Err(error) => Reply::Failed(format!("{error:#}")),
                    };
                    // Who asked may be gone; the lab is down all the same.
                    let _ = answer.send(reply);
                    return removed.map(|_| ());
                }
            };
            let reply = reply.unwrap_or_else(|error| Reply::Failed(format!("{error:#}")));
            let _ = answer.send(reply);
        }
        self.stop().map(|_| ())
    }

    /// Ends everything and removes what is left of it.
    fn stop(self) -> Result<Removed> {
        cleanup::sweep(&self.folder, &self.plan)
    }

    fn status(&self) -> Status {
        let known = self.front.nodes();
        let joined = |name: &str| known.iter().any(|node| node.online && node.name.hostname == name);
        let node = |node: &Node| NodeStatus {
            name: node.name().to_owned(),
            address: node.address(),
            state: match (node.is_frozen(), joined(node.name())) {
                (true, _) => NodeState::Frozen,
                (false, true) => NodeState::Joined,
                (false, false) => NodeState::Offline,
            },
            pid: node.init().map(|process| process.pid),
        };
        Status {
            mode: self.plan.mode,
            up_seconds: self.since.elapsed().as_secs(),
            proxy: self.front.clients(),
            proxy_state: self.front.state(),
            counters: self.front.counters(),
            rtt_ms: u64::try_from(self.rtt.as_millis()).unwrap_or(u64::MAX),
            login: self.account.login.clone(),
            python: self.plan.python.interpreter.clone(),
            nodes: self.nodes.iter().map(node).collect(),
        }
    }
}

/// The end of the log, which goes away with the rest when a start fails.
fn last_words(folder: &Folder) -> String {
    let log = std::fs::read_to_string(folder.log()).unwrap_or_default();
    let lines: Vec<_> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
