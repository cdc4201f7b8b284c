//! One node as its supervisor sees it: the processes that make it up, started,
//! frozen, taken offline and ended.
//!
//! Each of them holds the reading end of a pipe from the supervisor as its
//! stdin and ends when that pipe does, so nothing survives a supervisor that
//! was killed.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::agent::{self, NodeName, Target};
use crate::netns;
use crate::processes::{Process, end_all, signal_all, trees};
use crate::state::{Folder, MARK, append, create_private, write_private};
use crate::topology::Topology;

pub mod filesystem;
pub mod init;
pub mod sshd_config;

/// How long a node may take to build its file system and start sshd.
const START: Duration = Duration::from_secs(20);
/// How long killed processes may take to be gone.
const END: Duration = Duration::from_secs(5);

/// What all nodes of a lab have in common.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The lab's folder.
    pub folder: Folder,
    /// The network, in a rooted lab.
    pub topology: Option<Topology>,
    /// The `natssh-lab` program, which is started again for each part of a node.
    pub program: PathBuf,
    /// Where the proxy takes the nodes' tunnels.
    pub tunnel: SocketAddr,
    /// The secret that lets nodes register.
    pub token: String,
}

/// One node's processes.
#[derive(Debug)]
pub struct Node {
    ground: Ground,
    identity: NodeName,
    /// The first process of a rooted node, outside of which the agent stays.
    machine: Option<Child>,
    agents: Vec<Child>,
    /// The ids under which it is registered besides its own.
    twins: Vec<String>,
    frozen: bool,
}

/// What an agent is told, in a file that only its owner may read.
#[derive(Debug, Serialize, Deserialize)]
pub struct AgentFile {
    proxy: SocketAddr,
    token: String,
    name: NodeName,
    /// A listening server, in a rooted node.
    connect: Option<SocketAddr>,
    /// A server to start for each stream, in a rootless one.
    spawn: Vec<PathBuf>,
}

impl Node {
    /// Starts a node whose keys and sshd configuration are in place, and its agent.
    ///
    /// # Errors
    /// When a process cannot be started, or sshd does not come up.
    pub async fn start(ground: Ground, identity: NodeName) -> Result<Self> {
        let mut node =
            Self { ground, identity, machine: None, agents: Vec::new(), twins: Vec::new(), frozen: false };
        let started = async {
            if let Some(topology) = node.ground.topology.clone() {
                node.machine = Some(node.start_machine(&topology).await?);
            }
            node.online()
        };
        started.await.with_context(|| format!("start node {}", node.name()))?;
        Ok(node)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.identity.hostname
    }

    /// Its name and id.
    pub fn identity(&self) -> &NodeName {
        &self.identity
    }

    /// Whether [`Node::freeze`] was the last word.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Its address behind the NAT; a rootless node has none.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let topology = self.ground.topology.as_ref()?;
        let index = topology.nodes.iter().position(|name| name == self.name())?;
        Some(topology.node(index))
    }

    /// The process through which a rooted node is entered.
    pub fn init(&self) -> Option<Process> {
        let unshare = self.machine.as_ref()?.id()?;
        // Process 1 of the node is the only child of the one that made its namespaces.
        trees(&[Process::find(unshare)?]).get(1).copied()
    }

    /// Its name, if an agent of it has ended by itself.
    pub fn lost_agent(&mut self) -> Option<String> {
        let ended = |agent: &mut Child| !matches!(agent.try_wait(), Ok(None));
        self.agents.iter_mut().any(ended).then(|| self.name().to_owned())
    }

    /// Starts the agent, if it does not run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn online(&mut self) -> Result<()> {
        self.agents.retain_mut(|agent| matches!(agent.try_wait(), Ok(None)));
        if self.agents.is_empty() {
            let agent = self.start_agent("agent.json", &self.identity.uuid)?;
            self.agents.push(agent);
        }
        Ok(())
    }

    /// Ends the agent and with it every stream. The value is the ids of the
    /// duplicates, which are now nobody's.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn offline(&mut self) -> Result<Vec<String>> {
        let agents: Vec<_> = self.agents.iter().filter_map(process).collect();
        // With it go the servers that it started, which hold the streams.
        let servers = trees(&agents);
        end_all(END, || servers.iter().filter(|p| p.is_alive()).copied().collect())?;
        self.agents.clear();
        Ok(std::mem::take(&mut self.twins))
    }

    /// Registers another node of the same name, and tells how many there are
    /// now beside the first.
    ///
    /// # Errors
    /// When its agent cannot be started.
    pub fn duplicate(&mut self) -> Result<usize> {
        let number = self.twins.len() + 1;
        let uuid = format!("{}-{number}", self.identity.uuid);
        let agent = self.start_agent(&format!("agent-{number}.json"), &uuid)?;
        self.agents.push(agent);
        self.twins.push(uuid);
        Ok(number)
    }

    /// Stops all of the node's processes.
    pub fn freeze(&mut self) {
        self.frozen = true;
        self.signal(Signal::STOP);
    }

    /// Ends [`Node::freeze`].
    pub fn thaw(&mut self) {
        self.frozen = false;
        self.signal(Signal::CONT);
    }

    /// Makes the path to a rootless node go silent, for want of a NAT to do it:
    /// seen from the proxy, a stopped node and a silent path are the same.
    pub fn cut_off(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends [`Node::cut_off`], though not a freeze.
    pub fn reconnect(&self) {
        if !self.frozen {
            self.signal(Signal::CONT);
        }
    }

    fn signal(&self, signal: Signal) {
        let roots: Vec<_> = self.agents.iter().chain(&self.machine).filter_map(process).collect();
        signal_all(signal, || trees(&roots));
    }

    /// Makes a listening sshd read its keys and configuration again; `sshd -i`
    /// reads them for each stream.
    ///
    /// # Errors
    /// When the node does not take orders any more.
    pub async fn reload(&mut self) -> Result<()> {
        let Some(stdin) = self.machine.as_mut().and_then(|machine| machine.stdin.as_mut()) else {
            return Ok(());
        };
        let order = format!("{}\n", init::RELOAD);
        stdin.write_all(order.as_bytes()).await.with_context(|| format!("reload node {}", self.name()))
    }

    /// The first process of a rooted node: waits until its sshd listens.
    async fn start_machine(&self, topology: &Topology) -> Result<Child> {
        create_private(&self.ground.folder.node(self.name()).join("root"))?;
        let mut command = Command::from(netns::inside(&topology.node_namespace(self.name())));
        command.args(["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--"]);
        command.arg(&self.ground.program).args(["node", "--state"]).arg(self.ground.folder.path());
        command.arg(self.name()).stdout(Stdio::piped());
        let mut machine = self.spawn(command)?;
        let stdout = machine.stdout.take().context("its stdout was asked for")?;
        let mut lines = BufReader::new(stdout).lines();
        let said = tokio::time::timeout(START, lines.next_line()).await;
        let said = said.context("it does not get ready")?.context("listen to it")?;
        if said.as_deref() != Some(init::READY) {
            bail!("it ended at once; the reason is in {}", self.ground.folder.log().display());
        }
        Ok(machine)
    }

    fn start_agent(&self, file: &str, uuid: &str) -> Result<Child> {
        let own = self.ground.folder.node(self.name());
        let file = own.join(file);
        let spawn = match self.ground.topology {
            Some(_) => Vec::new(),
            None => sshd_on_demand(&own)?,
        };
        let told = AgentFile {
            proxy: self.ground.tunnel,
            token: self.ground.token.clone(),
            name: NodeName { hostname: self.name().to_owned(), uuid: uuid.to_owned() },
            connect: self.ground.topology.is_some().then(|| SocketAddr::from(([127, 0, 0, 1], 22))),
            spawn,
        };
        write_private(&file, &serde_json::to_string(&told).context("encode the agent's orders")?)?;
        // The agent of a rooted node shares its network and nothing else: what
        // happens inside the node cannot end it.
        let mut command = match &self.ground.topology {
            None => Command::new(&self.ground.program),
            Some(topology) => {
                let mut command = Command::from(netns::inside(&topology.node_namespace(self.name())));
                command.arg(&self.ground.program);
                command
            }
        };
        command.arg("agent").arg(&file).stdout(Stdio::null());
        self.spawn(command)
    }

    fn spawn(&self, mut command: Command) -> Result<Child> {
        let log = append(&self.ground.folder.log())?;
        command
            .stdin(Stdio::piped())
            .stderr(log)
            .env(MARK, self.ground.folder.path())
            .current_dir("/")
            .kill_on_drop(true)
            .spawn()
            .context("start a part of it")
    }
}

impl AgentFile {
    /// Reads what [`Node`] wrote for its agent.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn read(path: &Path) -> Result<agent::Options> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
        let told: Self = serde_json::from_str(&text).with_context(|| format!("understand {shown}"))?;
        let target = match told.connect {
            Some(address) => Target::Connect(address),
            None => Target::Spawn(told.spawn.into_iter().map(OsString::from).collect()),
        };
        Ok(agent::Options { proxy: told.proxy, token: told.token, node: told.name, target })
    }
}

/// `sshd -i` with the node's configuration and its log on stderr.
fn sshd_on_demand(own: &Path) -> Result<Vec<PathBuf>> {
    let sshd = crate::tools::find("sshd").context("sshd is not installed")?;
    let config = own.join("ssh/sshd_config");
    Ok(vec![sshd, "-i".into(), "-e".into(), "-f".into(), config])
}

fn process(child: &Child) -> Option<Process> {
    Process::find(child.id()?)
}
