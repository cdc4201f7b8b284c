//! Upstreams: what opens byte streams to nodes.

mod bastion;
mod command;
mod dialling;
mod direct;
mod forward;
mod hop;
mod idle;
mod ledger;
mod outage;
mod prompt;
mod raw;
mod sets;
mod teleport;
mod trunk;
mod trunks;
mod trust;

pub use bastion::Bastion;
pub use command::{Around, Command, Lines, Pipes, Process, Processes};
pub use direct::{Direct, OpenStream};
pub(crate) use forward::refused;
pub use hop::{Hop, HopMeans};
pub use raw::Raw;
pub use sets::Identities;
pub use teleport::Teleport;
pub use trunks::Lease;

use crate::admission::{Gates, Place};
use crate::failures::Failures;
use crate::metrics::{Carried, Meter};
use crate::splice::{self, Ended, Traffic};
use crate::ssh::{Budget, Channel, Early};
use bytes::Bytes;
use natssh_wire::{Failure, NodeAddr, status};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::Instant;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing {
    pub use super::command::fuzzing::command_stderr;
    pub use super::teleport::fuzzing::refusal;
}

/// What an upstream that authenticates is given besides its settings.
pub struct Means {
    /// Who it may be.
    pub identities: Identities,
    /// Where it tells of trunks that were lost.
    pub failures: Arc<Failures>,
    /// Counts what it does.
    pub meter: Arc<Meter>,
    /// Memory for what its channels leave unread.
    pub budget: Arc<Budget>,
    /// Where its handshakes wait for their turn.
    pub gates: Gates,
}

/// What a caller wants opened.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The node, as the route rewrote it.
    pub node: NodeAddr,
    /// The node's name as the caller gave it, before any route.
    pub name: String,
    /// The upstreams whose commands ask: what they started calls this broker.
    pub within: Vec<String>,
    /// The cluster, where the route names one.
    pub cluster: Option<String>,
    /// The SSH login towards the upstream, where the route names one.
    pub login: Option<String>,
    /// The identity, where the route names one.
    pub identity: Option<String>,
    /// The login the caller's ssh will use at the node, if it said so.
    pub node_login: Option<String>,
    /// The caller's `SSH_AUTH_SOCK`.
    pub agent: Option<PathBuf>,
    /// What the node may be told before the upstream has answered, which saves a round trip.
    pub early: Early,
    /// When it was asked: what is opened is opened as who the user was then, or later.
    pub begun: std::time::Instant,
    /// When the caller must have an answer.
    pub deadline: Instant,
}

impl Ask {
    /// For the way to a server that natssh itself wants to speak to.
    fn for_trunk(server: &NodeAddr, agent: Option<PathBuf>, deadline: Instant) -> Self {
        let node = server.clone();
        let name = server.host.clone();
        Self {
            node,
            name,
            within: Vec::new(),
            cluster: None,
            login: None,
            identity: None,
            node_login: None,
            agent,
            early: Early::Greeting,
            begun: std::time::Instant::now(),
            deadline,
        }
    }
}

/// An open byte stream to a node.
pub enum Stream {
    /// A channel on a trunk.
    Channel {
        /// The channel.
        channel: Channel,
        /// The place that it takes on the trunk.
        lease: Lease,
        /// So many bytes of what its client says first have been sent on it.
        sent: usize,
    },
    /// A TCP connection, counted.
    Tcp(TcpStream, OpenStream),
    /// A ProxyCommand.
    Command(Process),
}

impl Stream {
    /// Carries bytes between a client and the node until both have ended. `early`
    /// are bytes of the client's that were read already; those that were sent early are among them.
    pub async fn carry(self, client: UnixStream, early: Bytes, traffic: &Traffic) -> Ended {
        self.carry_own(client, early, traffic, std::future::pending()).await
    }

    /// The same for a client that knows when its handshake with the node is over, and says so.
    async fn carry_own(
        self,
        client: UnixStream,
        early: Bytes,
        traffic: &Traffic,
        shaken: impl Future<Output = ()>,
    ) -> Ended {
        match self {
            Self::Channel { channel, lease, sent } => {
                traffic.add_to_node(sent as u64);
                let carried = splice::channel(client, early.slice(sent..), &channel, traffic);
                let ended = until_over(lease.handshake(), traffic, carried, shaken).await;
                // A stream ended before its time; what the server said may be worth learning.
                if let Some(limit) = teleport::refusal::idle_limit(&channel.stderr()) {
                    lease.trunks().learn_idle_limit(limit);
                }
                ended
            }
            Self::Tcp(socket, counted) => {
                let carried = splice::tcp(client, early, socket, traffic);
                until_over(Some(counted.handshake()), traffic, carried, shaken).await
            }
            Self::Command(process) => splice::command(client, early, process, traffic).await,
        }
    }

    /// The same bytes at a socket, for an SSH connection of natssh's own, whose streams are what is counted.
    ///
    /// # Errors
    /// There are no descriptors left.
    fn into_socket(self) -> io::Result<UnixStream> {
        let (ours, mut theirs) = UnixStream::pair()?;
        tokio::spawn(async move {
            let early = self.read_sent(&mut theirs).await?;
            self.carry(theirs, early, &Traffic::default()).await;
            io::Result::Ok(())
        });
        Ok(ours)
    }

    /// What a `client` of natssh's own says first, as far as the node has it already.
    async fn read_sent(&self, client: &mut UnixStream) -> io::Result<Bytes> {
        let Self::Channel { sent, .. } = self else { return Ok(Bytes::new()) };
        let mut early = vec![0; *sent];
        client.read_exact(&mut early).await?;
        Ok(early.into())
    }

    /// The same for a session on the node, which `carried` counts while it lasts.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn into_session(self, carried: Carried) -> io::Result<(Raw, Shaken)> {
        let (shaken, told) = oneshot::channel();
        // Who gives up says nothing, and is through as well.
        let through = async { drop(told.await) };
        if let Self::Tcp(socket, counted) = self {
            let counted = Arc::new(counted);
            let tcp = raw::Tcp::new(socket, counted.clone(), carried);
            tokio::spawn(async move {
                through.await;
                counted.handshake().over();
            });
            return Ok((Raw::Tcp(Box::new(tcp)), Shaken(shaken)));
        }
        let (ours, mut theirs) = UnixStream::pair()?;
        tokio::spawn(async move {
            let early = self.read_sent(&mut theirs).await?;
            self.carry_own(theirs, early, &Traffic::part_of(&carried.traffic), through).await;
            io::Result::Ok(())
        });
        Ok((Raw::Socket(ours), Shaken(shaken)))
    }
}

/// Says that a handshake is over, which gives back its place in front of the node; so does dropping it.
pub struct Shaken(oneshot::Sender<()>);

impl Shaken {
    /// It is over.
    pub fn hands(self) {
        // A stream that has ended holds no place.
        let _ = self.0.send(());
    }
}

/// Carries a stream to its end, and tells its place of the node's first byte and of the end of the handshake.
async fn until_over(
    place: Option<&Place>,
    traffic: &Traffic,
    carried: impl Future<Output = Ended>,
    shaken: impl Future<Output = ()>,
) -> Ended {
    let listen = async {
        traffic.spoke().await;
        if let Some(place) = place {
            place.spoke();
            shaken.await;
            place.over();
        }
        std::future::pending().await
    };
    tokio::select! {
        ended = carried => ended,
        ended = listen => ended,
    }
}

/// One upstream.
pub enum Upstream {
    /// Any OpenSSH server.
    Bastion(Arc<Bastion>),
    /// A Teleport proxy.
    Teleport(Arc<Teleport>),
    /// Plain TCP.
    Direct(Direct),
    /// A ProxyCommand.
    Command(Arc<Command>),
}

impl Upstream {
    /// Opens a stream to a node.
    ///
    /// # Errors
    /// One sentence and what to type, before `ask.deadline`.
    pub async fn open(&self, ask: &Ask) -> Result<Stream, Failure> {
        match self {
            Self::Teleport(teleport) => teleport.open(ask).await,
            Self::Bastion(bastion) => bastion.open(ask).await,
            Self::Direct(direct) => direct.open(ask).await,
            Self::Command(command) => command.open(ask).await,
        }
    }

    /// Makes sure that it can be reached now, without opening a stream.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn probe(&self, deadline: Instant) -> Result<(), Failure> {
        match self {
            Self::Teleport(teleport) => teleport.probe(deadline).await,
            Self::Bastion(bastion) => bastion.probe(deadline).await,
            Self::Direct(_) | Self::Command(_) => Ok(()),
        }
    }

    /// The same, after forgetting what was refused or failed before.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn retry(&self, deadline: Instant) -> Result<(), Failure> {
        match self {
            Self::Teleport(teleport) => teleport.retry(deadline).await,
            Self::Bastion(bastion) => bastion.retry(deadline).await,
            Self::Direct(_) | Self::Command(_) => Ok(()),
        }
    }

    /// Takes no new streams; open ones go on.
    pub fn drain(&self) {
        match self {
            Self::Teleport(teleport) => teleport.drain(),
            Self::Bastion(bastion) => bastion.drain(),
            Self::Direct(_) | Self::Command(_) => {}
        }
    }

    /// Whether trunks of it may need the agent of whoever asks.
    fn needs_agent(&self) -> bool {
        match self {
            Self::Teleport(teleport) => teleport.needs_agent(),
            Self::Bastion(bastion) => bastion.needs_agent(),
            Self::Direct(_) | Self::Command(_) => false,
        }
    }

    /// Its entry in `status`.
    pub fn report(&self) -> status::Upstream {
        match self {
            Self::Teleport(teleport) => teleport.report(),
            Self::Bastion(bastion) => bastion.report(),
            Self::Direct(direct) => direct.report(),
            Self::Command(command) => command.report(),
        }
    }
}

/// An entry of `status` with nothing in it yet.
fn blank(name: &str, kind: &str, address: &str) -> status::Upstream {
    status::Upstream {
        name: name.into(),
        kind: kind.into(),
        address: address.into(),
        cluster: None,
        state: status::UpstreamState::Idle,
        identity: None,
        trunks: Vec::new(),
        streams: 0,
        streams_total: 0,
        streams_cut: 0,
        dials_ok: 0,
        dials_failed: 0,
        round_trip_ms: None,
        last_error: None,
        next_dial_at: None,
        server: None,
        sha1: false,
        idle_limit_seconds: None,
        handshakes: Vec::new(),
        told_busy: 0,
        breakers: Vec::new(),
        warnings: Vec::new(),
    }
}
