//! The stand-in proxy as the lab runs it: on a runtime of its own, so that it
//! can hang as a whole; stopped and started again on the same ports; and, when
//! a round-trip time is asked for, behind a relay that adds it.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

use crate::ca::Authority;
use crate::control::ProxyState;
use crate::proxy::{Counters, Face, NodeState, Options, Policy, Proxy, TlsRouting};
use crate::relay::{self, Relay};
use crate::tunnel::NodeName;

/// Threads of the proxy: with fewer than the clients have, it would be what a
/// benchmark measures.
const THREADS: usize = 2;
/// How long to try for a port that is being given back.
const REBIND: Duration = Duration::from_secs(5);

/// The proxy and the way to it.
#[derive(Debug)]
pub struct Front {
    setup: Setup,
    runtime: Option<Runtime>,
    proxy: Option<Proxy>,
    relay: Option<Relay>,
    /// Hung threads of the proxy wait for the other end of these.
    hung: Vec<mpsc::Sender<()>>,
}

/// What a proxy is started with, and started with again.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where clients reach it; port 0 is any, and then always that one.
    pub clients: SocketAddr,
    /// Where nodes dial in; port 0 likewise.
    pub tunnel: SocketAddr,
    /// The round-trip time added between clients and proxy.
    pub rtt: Duration,
    /// The secret that nodes show.
    pub token: String,
    /// The cluster's authorities.
    pub authority: Authority,
    /// The age that it shows.
    pub face: Face,
    /// Whether SSH is inside TLS where clients reach it.
    pub tls_routing: TlsRouting,
    /// The nodes that the cluster knows.
    pub inventory: Vec<NodeName>,
    /// What an administrator has set.
    pub policy: Policy,
}

impl Front {
    /// Starts the proxy.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub async fn start(setup: Setup) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("proxy")
            .enable_all()
            .build()
            .context("start the proxy's threads")?;
        let runtime = Some(runtime);
        let mut front = Self { setup, runtime, proxy: None, relay: None, hung: Vec::new() };
        front.resume_service().await?;
        Ok(front)
    }

    /// Where clients connect.
    pub fn clients(&self) -> SocketAddr {
        self.setup.clients
    }

    /// Where nodes dial in.
    pub fn tunnel(&self) -> SocketAddr {
        self.setup.tunnel
    }

    /// The secret that nodes show.
    pub fn token(&self) -> &str {
        &self.setup.token
    }

    /// The nodes and whether their tunnels are up; none while the proxy is stopped.
    pub fn nodes(&self) -> Vec<NodeState> {
        self.proxy.as_ref().map(Proxy::nodes).unwrap_or_default()
    }

    /// What the proxy is doing.
    pub fn state(&self) -> ProxyState {
        match (&self.proxy, self.hung.is_empty()) {
            (None, _) => ProxyState::Stopped,
            (Some(_), false) => ProxyState::Frozen,
            (Some(_), true) => ProxyState::Running,
        }
    }

    /// What it did since it was last started.
    pub fn counters(&self) -> Counters {
        self.proxy.as_ref().map(Proxy::counters).unwrap_or_default()
    }

    /// Takes a node off the inventory.
    pub fn forget(&mut self, uuid: &str) {
        self.setup.inventory.retain(|name| name.uuid != uuid);
        if let Some(proxy) = &self.proxy {
            proxy.forget_node(uuid);
        }
    }

    /// Starts a stopped proxy again.
    ///
    /// # Errors
    /// When someone else has taken one of its ports.
    pub async fn resume_service(&mut self) -> Result<()> {
        if self.proxy.is_some() {
            return Ok(());
        }
        let setup = self.setup.clone();
        let outside = listen(setup.clients).await?;
        let tunnel = listen(setup.tunnel).await?;
        self.setup.clients = outside.local_addr()?;
        self.setup.tunnel = tunnel.local_addr()?;
        let clients = match setup.rtt.is_zero() {
            true => outside,
            false => {
                let inner = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
                self.relay = Some(relay::start(outside, inner.local_addr()?, setup.rtt)?);
                inner
            }
        };
        // The listeners have to be watched by the runtime that uses them.
        let (clients, tunnel) = (clients.into_std()?, tunnel.into_std()?);
        let runtime = self.runtime.as_ref().context("the proxy's threads have ended")?;
        let _inside = runtime.enter();
        self.proxy = Some(Proxy::start(Options {
            clients: TcpListener::from_std(clients)?,
            tunnel: TcpListener::from_std(tunnel)?,
            token: setup.token,
            authority: setup.authority,
            face: setup.face,
            tls_routing: setup.tls_routing,
            public_names: Vec::new(),
            inventory: setup.inventory,
            policy: setup.policy,
        })?);
        Ok(())
    }

    /// Closes every connection and refuses new ones, nodes' too.
    pub fn stop(&mut self) {
        self.resume();
        if let Some(proxy) = self.proxy.take() {
            self.setup.inventory = proxy.nodes().into_iter().map(|node| node.name).collect();
            self.setup.policy = proxy.policy();
        }
        self.relay = None;
    }

    /// Closes every client's connection.
    ///
    /// # Errors
    /// When the proxy is stopped.
    pub fn cut(&self) -> Result<()> {
        self.running()?.drop_connections();
        Ok(())
    }

    /// Hangs the proxy as a whole: the kernel still takes connections, and that is all.
    ///
    /// # Errors
    /// When its threads do not come to rest.
    pub async fn freeze(&mut self) -> Result<()> {
        let runtime = self.runtime.as_ref().context("the proxy's threads have ended")?;
        if !self.hung.is_empty() {
            return Ok(());
        }
        // One task that blocks for each thread: who is free picks up the next.
        let (report, mut reports) = tokio::sync::mpsc::channel(THREADS);
        for _ in 0..THREADS {
            let (release, released) = mpsc::channel::<()>();
            let report = report.clone();
            runtime.spawn(async move {
                let _ = report.try_send(());
                let _ = released.recv();
            });
            self.hung.push(release);
        }
        for _ in 0..THREADS {
            let rest = tokio::time::timeout(Duration::from_secs(10), reports.recv()).await;
            rest.context("the proxy's threads do not come to rest")?;
        }
        Ok(())
    }

    /// Ends [`Front::freeze`].
    pub fn resume(&mut self) {
        self.hung.clear();
    }

    /// Shows another age: the proxy is stopped and started, as an upgrade is.
    ///
    /// # Errors
    /// When it does not start again.
    pub async fn set_face(&mut self, face: Face) -> Result<()> {
        self.setup.face = face;
        let ran = self.proxy.is_some();
        self.stop();
        if ran {
            self.resume_service().await?;
        }
        Ok(())
    }

    /// Trusts and shows another authority from the next connection on.
    ///
    /// # Errors
    /// When no host certificate can be made of it.
    pub fn set_authority(&mut self, authority: &Authority) -> Result<()> {
        self.setup.authority = authority.clone();
        match &self.proxy {
            Some(proxy) => proxy.set_authority(authority, &[]),
            None => Ok(()),
        }
    }

    /// Changes what an administrator can set.
    pub fn set_policy(&mut self, change: impl Fn(&mut Policy)) {
        change(&mut self.setup.policy);
        if let Some(proxy) = &self.proxy {
            proxy.set_policy(change);
        }
    }

    fn running(&self) -> Result<&Proxy> {
        self.proxy.as_ref().context("the proxy is stopped; type: natssh-lab fault proxy start")
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop();
        if let Some(runtime) = self.runtime.take() {
            // Waiting for its threads is not allowed on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Binds, if need be after the last owner's connections have let go.
async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let deadline = Instant::now() + REBIND;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(error) => bail!("the proxy cannot listen on {address}: {error}"),
        }
    }
}
