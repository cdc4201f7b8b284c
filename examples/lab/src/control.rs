//! How `natssh-lab` talks to a running supervisor: one JSON line each way on a
//! socket in the lab's folder.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::faults::Fault;
use crate::proxy::Counters;
use crate::state::{Folder, Mode};

pub mod door;

/// The longest that an order may take: taking down many nodes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An order.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Say how things stand.
    Status,
    /// Break or mend something.
    Fault(Fault),
    /// Take the lab down.
    Down,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Status),
    /// Done, and what exactly.
    Done(String),
    /// Not done, and why.
    Failed(String),
}

/// How a lab stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// How the nodes are made.
    pub mode: Mode,
    /// Seconds since the lab was ready.
    pub up_seconds: u64,
    /// Where clients reach the stand-in proxy.
    pub proxy: SocketAddr,
    /// What the proxy is doing.
    pub proxy_state: ProxyState,
    /// What it did since it was last started.
    pub counters: Counters,
    /// The round-trip time added on the way there, in milliseconds.
    pub rtt_ms: u64,
    /// The login that the certificate is for.
    pub login: String,
    /// The Python of the nodes, if there is one.
    pub python: Option<PathBuf>,
    /// The nodes, in order.
    pub nodes: Vec<NodeStatus>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Rooted => "in namespaces behind a NAT",
            Mode::Rootless => "rootless",
        };
        writeln!(
            f,
            "lab      {} nodes, {mode}, up {} s, login {}",
            self.nodes.len(),
            self.up_seconds,
            self.login
        )?;
        let (proxy, state) = (self.proxy, self.proxy_state.word());
        writeln!(f, "proxy    {proxy}, a stand-in, {state}, round trip + {} ms", self.rtt_ms)?;
        match &self.python {
            Some(python) => writeln!(f, "python   {}", python.display())?,
            None => writeln!(f, "python   none: Ansible needs one on the nodes")?,
        }
        let widest = self.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
        for node in &self.nodes {
            let address = node.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
            writeln!(f, "node     {:widest$}  {:12}  {}", node.name, address, node.state.word())?;
        }
        Ok(())
    }
}

/// How a node stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its address behind the NAT, which nothing outside reaches.
    pub address: Option<Ipv4Addr>,
    /// Its state.
    pub state: NodeState,
    /// The process number of a rooted node's first process, as the machine sees it.
    pub pid: Option<u32>,
}

/// What the proxy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyState {
    /// Its work.
    Running,
    /// Nothing: it refuses connections.
    Stopped,
    /// Nothing, but it does not say so.
    Frozen,
}

impl ProxyState {
    /// The word for people.
    fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Frozen => "frozen",
        }
    }
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Registered at the proxy.
    Joined,
    /// Not registered.
    Offline,
    /// Stopped by a fault.
    Frozen,
}

impl NodeState {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Offline => "offline",
            Self::Frozen => "frozen",
        }
    }
}

/// Gives an order to the lab in this folder; none when no supervisor answers.
///
/// # Errors
/// When one took the order and did not answer it.
pub fn ask(folder: &Folder, request: &Request) -> Result<Option<Reply>> {
    let Ok(mut stream) = UnixStream::connect(folder.control()) else {
        return Ok(None);
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let order = serde_json::to_string(request).context("encode the order")?;
    stream.write_all(format!("{order}\n").as_bytes()).context("give the lab an order")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("hear the lab's answer")?;
    if answer.is_empty() {
        bail!("the lab ended before it answered; type: natssh-lab down");
    }
    serde_json::from_str(&answer).map(Some).context("understand the lab's answer")
}

/// [`ask`], where no lab and a refusal are errors.
///
/// # Errors
/// Those, and [`ask`]'s.
pub fn demand(folder: &Folder, request: &Request) -> Result<Reply> {
    match ask(folder, request)? {
        None => bail!("no lab is up in {}; type: natssh-lab up", folder.path().display()),
        Some(Reply::Failed(reason)) => bail!(reason),
        Some(reply) => Ok(reply),
    }
}
