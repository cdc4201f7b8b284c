//! A stand-in for the Teleport proxy's SSH listener, for tests and demos. It
//! is not Teleport.
//!
//! To a client it behaves as the real one, as strictly and with the same
//! words: it lets in user certificates alone, carries `proxy:HOST:PORT@CLUSTER`
//! subsystems and `direct-tcpip` to nodes that dialled out to it, answers only
//! when the node's banner has arrived, and writes its refusals to stderr before
//! it fails a request. [`Policy`] and [`Face`] choose what clusters differ in;
//! the methods of [`Proxy`] break it on purpose.
//!
//! What the SSH library underneath does not let a server do is missing: answers
//! to `cluster-details@goteleport.com` and `x-teleport-version`, the `tracing`
//! channel, one keepalive for each channel of a connection that is idle (it gets
//! one for all of them), and of an old cluster that it offers no plain `ssh-rsa`
//! beside its certificate and sends no EXT_INFO (this one names `ssh-rsa` there).
//! And it does not hold a fast client back: what a node does not take is kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::ca::{Authority, Credential, HostRequest, KeyKind};
use crate::tunnel::NodeName;

mod algorithms;
mod auth;
mod channels;
mod connection;
mod held;
mod inventory;
mod listen;
mod nodes;
mod recording;
mod request;
mod stream;
mod tally;
mod tls;
mod watchman;

use listen::Shared;
pub use nodes::NodeState;
pub use tally::Counters;

/// The age of the cluster that the proxy shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Teleport up to 8: RSA with SHA-1 and nothing else, for the host's proof
    /// and for users; names outside the inventory are dialled by the proxy.
    Old,
    /// Teleport 13 and later: the authority's kind of key, SHA-2 for RSA; names
    /// outside the inventory are refused.
    New,
}

impl Face {
    /// How a refusal spells "like a UUID".
    fn uuid_word(self) -> &'static str {
        match self {
            Self::Old => "uuid-like",
            Self::New => "UUID-like",
        }
    }
}

/// What stands where clients come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsRouting {
    /// The SSH listener.
    #[default]
    Off,
    /// The web listener, which leads to the SSH one by what TLS asks for.
    On,
    /// A load balancer that ends TLS and knows HTTP alone, and behind it a proxy that offers WebSockets, as newer ones do.
    WebSocket,
    /// The same before an older proxy, which frames bytes in its own way.
    Frames,
}

impl TlsRouting {
    /// Whether TLS ends before the proxy.
    pub fn is_balanced(self) -> bool {
        matches!(self, Self::WebSocket | Self::Frames)
    }
}

/// Where sessions are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// At the node: the agent is accepted and ignored.
    Node,
    /// At the proxy: it insists on the user's agent and lists its keys. The
    /// stand-in then carries the bytes all the same, and records nothing.
    Proxy,
}

/// What an administrator can set while the cluster runs.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `client_idle_timeout`: counted for each channel, and closes the whole connection.
    pub idle_timeout: Option<Duration>,
    /// `disconnect_expired_cert`: connections with a channel end with their certificate.
    pub disconnect_expired: bool,
    /// `session_recording`.
    pub recording: Recording,
    /// `keep_alive_interval`; of connections that begin after it was set.
    pub keepalive: Duration,
}

impl Default for Policy {
    /// Teleport's own.
    fn default() -> Self {
        Self {
            idle_timeout: None,
            disconnect_expired: false,
            recording: Recording::Node,
            keepalive: Duration::from_secs(5 * 60),
        }
    }
}

/// What a proxy is made of.
#[derive(Debug)]
pub struct Options {
    /// Where clients come in: 3023 of a real one, or its web listener with TLS routing.
    pub clients: TcpListener,
    /// Whether SSH is inside TLS there: `proxy_listener_mode: multiplex`, from Teleport 8 on.
    pub tls_routing: TlsRouting,
    /// Where nodes come in.
    pub tunnel: TcpListener,
    /// The secret that nodes show.
    pub token: String,
    /// The cluster, its authorities and name.
    pub authority: Authority,
    /// The age it shows. An old one needs an RSA authority.
    pub face: Face,
    /// Names clients know the proxy by, for its host certificate; `localhost`,
    /// `127.0.0.1` and `::1` are always there.
    pub public_names: Vec<String>,
    /// Nodes of the inventory that have not dialled in yet.
    pub inventory: Vec<NodeName>,
    /// The first policy.
    pub policy: Policy,
}

/// A proxy at work. Dropping it is [`Proxy::stop`].
#[derive(Debug)]
pub struct Proxy {
    clients: SocketAddr,
    tunnel: SocketAddr,
    shared: Arc<Shared>,
    policy: watch::Sender<Policy>,
    tasks: Vec<AbortHandle>,
}

impl Proxy {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the face asks for RSA and the authority has none, or a listener is unusable.
    pub fn start(options: Options) -> Result<Self> {
        let Options { clients, tls_routing, tunnel, token, authority, face, public_names, inventory, policy } =
            options;
        ensure!(tls_routing == TlsRouting::Off || face == Face::New, "an old cluster knows no TLS routing");
        let client_address = clients.local_addr().context("the clients' listener")?;
        let tunnel_address = tunnel.local_addr().context("the tunnel's listener")?;
        let names: Vec<&str> = public_names.iter().map(String::as_str).collect();
        let host = authority.issue_host(&HostRequest::proxy(PROXY_UUID, "proxy", &names))?;
        let nodes = nodes::Nodes::new(token, inventory);
        let policy = watch::Sender::new(policy);
        let tls = tls::Routing::new(tls_routing, &authority, PROXY_UUID, &names)?;
        let identity = identity(&authority, host, tls, face, &policy.borrow())?;
        let shared = Shared::new(identity, face, nodes, policy.subscribe());
        tracing::warn!(
            clients = %client_address,
            tunnel = %tunnel_address,
            cluster = authority.cluster(),
            "this is a stand-in for tests and demos, not Teleport: it guards nothing"
        );
        let tasks = [
            tokio::spawn(listen::accept(clients, Arc::clone(&shared))),
            tokio::spawn(nodes::accept(tunnel, Arc::clone(&shared.nodes))),
        ];
        Ok(Self {
            clients: client_address,
            tunnel: tunnel_address,
            shared,
            policy,
            tasks: tasks.iter().map(|task| task.abort_handle()).collect(),
        })
    }

    /// Where clients connect.
    pub fn client_address(&self) -> SocketAddr {
        self.clients
    }

    /// Where nodes dial in.
    pub fn tunnel_address(&self) -> SocketAddr {
        self.tunnel
    }

    /// Every node of the inventory, ordered by id.
    pub fn nodes(&self) -> Vec<NodeState> {
        self.shared.nodes.list()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.shared.tally.counters()
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.policy.borrow().clone()
    }

    /// Changes the policy, for open connections too.
    pub fn set_policy(&self, change: impl FnOnce(&mut Policy)) {
        self.policy.send_modify(change);
        self.shared.renew(|identity| identity.keepalive(self.policy.borrow().keepalive));
    }

    /// Sets `client_idle_timeout`; `None` is never.
    pub fn set_idle_timeout(&self, limit: Option<Duration>) {
        self.set_policy(|policy| policy.idle_timeout = limit);
    }

    /// Trusts and shows another authority from the next connection on: a CA rotation.
    ///
    /// # Errors
    /// When no host certificate can be made of it.
    pub fn set_authority(&self, authority: &Authority, public_names: &[&str]) -> Result<()> {
        let host = authority.issue_host(&HostRequest::proxy(PROXY_UUID, "proxy", public_names))?;
        self.set(authority, host, public_names)
    }

    /// Shows this host certificate from the next connection on: an expired one,
    /// one with other names, one of an authority that the client does not know.
    ///
    /// # Errors
    /// When the face asks for RSA and the certificate has another key.
    pub fn set_host(&self, authority: &Authority, host: Credential) -> Result<()> {
        self.set(authority, host, &[])
    }

    fn set(&self, authority: &Authority, host: Credential, public_names: &[&str]) -> Result<()> {
        let tls = tls::Routing::new(self.shared.tls_routing(), authority, PROXY_UUID, public_names)?;
        let identity = identity(authority, host, tls, self.shared.face, &self.policy.borrow())?;
        self.shared.renew(|current| *current = identity);
        Ok(())
    }

    /// Silences the nodes of this name or id: streams are not answered, open ones
    /// carry nothing. The value is how many nodes that is.
    pub fn freeze_node(&self, host: &str) -> usize {
        self.shared.nodes.freeze(host, true)
    }

    /// Ends [`Proxy::freeze_node`].
    pub fn thaw_node(&self, host: &str) -> usize {
        self.shared.nodes.freeze(host, false)
    }

    /// Takes the node of this id off the inventory, as when its record expires.
    pub fn forget_node(&self, uuid: &str) {
        self.shared.nodes.forget(uuid);
    }

    /// Closes every client's connection; new ones are welcome.
    pub fn drop_connections(&self) {
        self.shared.lines.close_all();
    }

    /// Stops at once, as if the process had been killed: every socket closes,
    /// the nodes' and the clients', and a moment later the ports are free.
    pub fn stop(&self) {
        for task in &self.tasks {
            task.abort();
        }
        self.shared.lines.close_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The id of the only proxy in the cluster.
const PROXY_UUID: &str = "5f1c0de0-0000-4000-8000-00000000ab1e";

fn identity(
    authority: &Authority,
    host: Credential,
    tls: Option<tls::Routing>,
    face: Face,
    policy: &Policy,
) -> Result<listen::Identity> {
    ensure!(
        face == Face::New || authority.kind() == KeyKind::Rsa,
        "an old cluster knows RSA alone; its authority has keys of kind {:?}",
        authority.kind()
    );
    Ok(listen::Identity::new(authority, host, tls, face, policy.keepalive))
}
