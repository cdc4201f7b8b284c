//! A lab's life: the plan is written, everything in it is made, orders are
//! taken, everything is removed.
//!
//! The same whether it is the daemon that `natssh-lab up` leaves running or a
//! thread of a test.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::Rng;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::account;
use crate::ca::{Authority, HostRequest, KeyKind};
use crate::cleanup::{self, Removed};
use crate::control::{NodeState, NodeStatus, Reply, Request, Status};
use crate::credentials::{Account, CLUSTER, Credentials};
use crate::environment::{Environment, shell};
use crate::faults::{CertFault, Fault, HostCaFault, NatFault, NodeFault, ProxyFault, Switch};
use crate::front::{Front, Setup};
use crate::netns::{self, Choosing};
use crate::node::{Ground, Node, init, sshd_config};
use crate::processes::Process;
use crate::proxy::{Face, Policy, Recording};
use crate::python;
use crate::state::{Claim, Folder, Mode, Plan, create_private, node_names, write_private};
use crate::tools;
use crate::topology::{MAX_NODES, Topology};
use crate::tunnel::NodeName;
use crate::{faults, state};

/// How long all nodes together may take to join.
const JOIN: Duration = Duration::from_secs(30);
/// How often to look whether they have.
const LOOK: Duration = Duration::from_millis(20);

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
            ensure!(rustix::process::geteuid().is_root(), "only root can make namespaces; add --rootless");
            ensure!(options.nodes <= MAX_NODES, "a lab with namespaces has at most {MAX_NODES} nodes");
        }
        let login = account::login(options.mode)?;
        let claim = options.folder.claim()?;
        let plan = plan(&options)?;
        let started = async {
            // Held until the nets are routed and no other lab can choose them.
            let choosing = plan.topology.as_ref().map(|_| Choosing::start()).transpose()?;
            let plan = with_slot(plan.clone(), choosing.as_ref())?;
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
                Err(if said.is_empty() { error } else { anyhow!("{error:#}; {said}") })
            }
        }
    }

    async fn build(
        options: &Options,
        plan: Plan,
        login: String,
        claim: Claim,
        progress: &impl Fn(&str) -> Result<()>,
    ) -> Result<Self> {
        let folder = &options.folder;
        let authority = Authority::new(CLUSTER, KeyKind::Rsa)?;
        let names: Vec<NodeName> = plan.nodes.iter().map(|name| named(name)).collect();
        let inside = plan.topology.as_ref().map_or([127, 0, 0, 1].into(), Topology::outer_machine);
        let front = Front::start(Setup {
            clients: ([127, 0, 0, 1], 0).into(),
            tunnel: (inside, 0).into(),
            rtt: options.rtt,
            token: random_hex(16),
            authority: authority.clone(),
            face: options.face,
            inventory: names.clone(),
            policy: Policy::default(),
        })
        .await?;
        progress(&format!("stand-in proxy on {} (not Teleport: for tests and demos)", front.clients()))?;

        let credentials = Credentials::at(folder);
        let account = Account { login, proxy: front.clients() };
        credentials.apply(CertFault::Replace, &authority, &account)?;
        let mut lab = Self {
            folder: folder.clone(),
            plan,
            rtt: options.rtt,
            authority,
            account,
            credentials,
            front,
            nodes: Vec::new(),
            since: Instant::now(),
            _claim: claim,
        };
        lab.write_hosts(&names)?;
        lab.start_nodes(options, names, progress).await?;
        lab.write_environment()?;
        lab.since = Instant::now();
        Ok(lab)
    }

    /// Starts all nodes at once and waits until the proxy knows them.
    async fn start_nodes(
        &mut self,
        options: &Options,
        names: Vec<NodeName>,
        progress: &impl Fn(&str) -> Result<()>,
    ) -> Result<()> {
        let ground = Ground {
            folder: self.folder.clone(),
            topology: self.plan.topology.clone(),
            program: options.program.clone(),
            tunnel: self.front.tunnel(),
            token: self.front.token().to_owned(),
        };
        let mut starting = JoinSet::new();
        for name in names {
            let ground = ground.clone();
            starting.spawn(async move { Node::start(ground, name).await });
        }
        while let Some(started) = starting.join_next().await {
            self.nodes.push(started.context("a node's start was lost")??);
        }
        let order = |node: &Node| self.plan.nodes.iter().position(|name| name == node.name());
        self.nodes.sort_by_key(order);

        let deadline = Instant::now() + JOIN;
        let mut told = 0;
        loop {
            let joined = self.front.nodes().into_iter().filter(|node| node.online).count();
            if joined != told {
                progress(&format!("{joined} of {} nodes joined", self.nodes.len()))?;
                told = joined;
            }
            if joined == self.nodes.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("only {joined} of {} nodes joined within {} s", self.nodes.len(), JOIN.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What each node's sshd needs.
    fn write_hosts(&self, names: &[NodeName]) -> Result<()> {
        for (index, name) in names.iter().enumerate() {
            let own = self.folder.node(&name.hostname);
            let keys = own.join("ssh");
            let mut host = HostRequest::node(&name.uuid, &name.hostname);
            let config = match &self.plan.topology {
                Some(topology) => {
                    host.more.push(topology.node(index).to_string());
                    sshd_config::listening(init::KEYS.as_ref())
                }
                None => {
                    let (home, tmp) = (own.join("home"), own.join("tmp"));
                    create_private(&home)?;
                    create_private(&tmp)?;
                    let sftp = tools::sftp_server()?;
                    sshd_config::on_demand(&keys, &home, &tmp, &sftp, &self.folder.mark())
                }
            };
            self.credentials.write_host(&keys, &self.authority, &host)?;
            write_private(&keys.join("sshd_config"), &config)?;
        }
        Ok(())
    }

    /// The variables that `natssh-lab env` prints.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        self.environment().variables()
    }

    fn environment(&self) -> Environment<'_> {
        Environment {
            folder: &self.folder,
            credentials: &self.credentials,
            proxy: self.front.clients(),
            login: &self.account.login,
            nodes: &self.plan.nodes,
            python: self.plan.python.interpreter.as_ref(),
        }
    }

    fn write_environment(&self) -> Result<()> {
        let environment = self.environment();
        create_private(&self.folder.broker())?;
        write_private(&self.folder.ssh_config(), &environment.ssh_config())?;
        write_private(&self.folder.natssh_toml(), &environment.natssh_toml())?;
        write_private(&self.folder.env(), &shell(&environment.variables()))
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
            rtt_ms: u64::try_from(self.rtt.as_millis()).unwrap_or(u64::MAX),
            login: self.account.login.clone(),
            python: self.plan.python.interpreter.clone(),
            nodes: self.nodes.iter().map(node).collect(),
        }
    }

    /// Breaks or mends; the answer says what was done.
    async fn apply(&mut self, fault: Fault) -> Result<String> {
        tracing::info!(?fault, "fault");
        match fault {
            Fault::Proxy(fault) => self.proxy_fault(fault).await,
            Fault::Nat(fault) => self.nat_fault(fault),
            Fault::Node(fault) => self.node_fault(fault),
            Fault::Cert(fault) => {
                self.credentials.apply(fault, &self.authority, &self.account)?;
                Ok(certificate_words(fault).to_owned())
            }
            Fault::HostCa(HostCaFault::Replace) => self.replace_host_ca().await,
            Fault::Idle { after } => {
                self.front.set_policy(|policy| policy.idle_timeout = after.0);
                Ok(match after.0 {
                    Some(limit) => format!("the proxy ends connections idle for {limit:?}"),
                    None => "the proxy has no idle limit".to_owned(),
                })
            }
            Fault::Recording(switch) => {
                let (recording, words) = match switch {
                    Switch::On => (Recording::Proxy, "the proxy records, and wants the user's agent"),
                    Switch::Off => (Recording::Node, "the proxy does not record"),
                };
                self.front.set_policy(|policy| policy.recording = recording);
                Ok(words.to_owned())
            }
            Fault::Face(face) => {
                let (face, words) = match face {
                    faults::Face::Old => (Face::Old, "the proxy was restarted as one of an old cluster"),
                    faults::Face::New => (Face::New, "the proxy was restarted as one of a current cluster"),
                };
                self.front.set_face(face).await?;
                Ok(words.to_owned())
            }
        }
    }

    async fn proxy_fault(&mut self, fault: ProxyFault) -> Result<String> {
        let words = match fault {
            ProxyFault::Stop => {
                self.front.stop();
                "the proxy is stopped"
            }
            ProxyFault::Start => {
                self.front.resume_service().await?;
                "the proxy listens; its nodes come back within a second"
            }
            ProxyFault::Cut => {
                self.front.cut()?;
                "the clients' connections are closed"
            }
            ProxyFault::Freeze => {
                self.front.freeze().await?;
                "the proxy hangs"
            }
            ProxyFault::Resume => {
                self.front.resume();
                "the proxy goes on"
            }
        };
        Ok(words.to_owned())
    }

    fn nat_fault(&mut self, fault: NatFault) -> Result<String> {
        match (&self.plan.topology, fault) {
            (Some(topology), NatFault::Drop) => netns::silence_nat(topology)?,
            (Some(topology), NatFault::Restore) => netns::restore_nat(topology)?,
            (None, NatFault::Drop) => self.nodes.iter().for_each(Node::cut_off),
            (None, NatFault::Restore) => self.nodes.iter().for_each(Node::reconnect),
        }
        let words = match fault {
            NatFault::Drop => "the NAT drops every packet",
            NatFault::Restore => "the NAT forwards again",
        };
        Ok(words.to_owned())
    }

    fn node_fault(&mut self, fault: NodeFault) -> Result<String> {
        match fault {
            NodeFault::Freeze { node } => {
                self.node(&node)?.freeze();
                Ok(format!("{node} is frozen"))
            }
            NodeFault::Thaw { node } => {
                self.node(&node)?.thaw();
                Ok(format!("{node} goes on"))
            }
            NodeFault::Offline { node } => {
                self.node(&node)?.offline()?;
                Ok(format!("{node} is offline"))
            }
            NodeFault::Online { node } => {
                self.node(&node)?.online()?;
                Ok(format!("{node} registers again"))
            }
            NodeFault::Duplicate { node } => {
                self.node(&node)?.duplicate()?;
                Ok(format!("a second {node} registers"))
            }
        }
    }

    /// The proxy and the nodes prove themselves by a new authority from now on.
    async fn replace_host_ca(&mut self) -> Result<String> {
        self.authority.replace_host_ca()?;
        self.front.set_authority(&self.authority)?;
        let names: Vec<_> = self.nodes.iter().map(|node| node.identity().clone()).collect();
        self.write_hosts(&names)?;
        for node in &mut self.nodes {
            node.reload().await?;
        }
        Ok("proxy and nodes have certificates of a new host authority; \
            the user trusts it after: natssh-lab fault cert replace"
            .to_owned())
    }

    fn node(&mut self, name: &str) -> Result<&mut Node> {
        let names = self.plan.nodes.join(", ");
        let found = self.nodes.iter_mut().find(|node| node.name() == name);
        found.with_context(|| format!("the lab has no node {name}; it has {names}"))
    }
}

fn plan(options: &Options) -> Result<Plan> {
    let nodes = node_names(options.nodes);
    let topology = match options.mode {
        Mode::Rootless => None,
        Mode::Rooted => Some(Topology { id: random_hex(3), slot: 0, nodes: nodes.clone() }),
    };
    Ok(Plan {
        mode: options.mode,
        nodes,
        topology,
        python: python::find(),
        supervisor: (options.keeper == Keeper::Daemon).then(Process::me),
    })
}

fn with_slot(mut plan: Plan, choosing: Option<&Choosing>) -> Result<Plan> {
    if let (Some(topology), Some(choosing)) = (&mut plan.topology, choosing) {
        topology.slot = choosing.slot()?;
    }
    Ok(plan)
}

/// A node of this name with a fresh id, in the form of a UUID.
fn named(name: &str) -> NodeName {
    let hex = random_hex(16);
    let uuid = format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
    NodeName { hostname: name.to_owned(), uuid }
}

fn random_hex(bytes: usize) -> String {
    let mut rng = rand::rng();
    (0..bytes).map(|_| format!("{:02x}", rng.random::<u8>())).collect()
}

/// The end of the log, which goes away with the rest when a start fails.
fn last_words(folder: &state::Folder) -> String {
    let log = std::fs::read_to_string(folder.log()).unwrap_or_default();
    let lines: Vec<_> = log.lines().rev().take(5).collect();
    match lines.is_empty() {
        true => String::new(),
        false => {
            format!("last lines of the log: {}", lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
        }
    }
}

fn certificate_words(fault: CertFault) -> &'static str {
    match fault {
        CertFault::Expire => "the user's certificate ended an hour ago",
        CertFault::Rotate => "the user has a new certificate for the same key",
        CertFault::Replace => "the user has a new key and a new certificate",
        CertFault::ForeignLogin => "the user's certificate is for another login",
        CertFault::Remove => "the user is logged out",
    }
}
