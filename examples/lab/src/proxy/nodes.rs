//! The nodes as the proxy knows them, and their end of the tunnel: who is
//! registered, how a stream is asked for, how it arrives.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Face;
use super::inventory::{Place, locate};
use super::request::Refusal;
use crate::tunnel::{FromNode, FromProxy, Hello, NodeName, read_line};

/// The longest wait for the first line of a connection.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// A node that has not been heard for so long is offline: Teleport's three
/// missed signs of life, five minutes apart.
const OFFLINE: Duration = Duration::from_secs(15 * 60);

/// A node, for those who watch the lab.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeState {
    /// Who it is.
    #[serde(flatten)]
    pub name: NodeName,
    /// Whether its tunnel is up.
    pub online: bool,
    /// Whether it was told to be silent, by [`Proxy::freeze_node`](super::Proxy::freeze_node).
    pub frozen: bool,
}

/// All nodes of the cluster.
#[derive(Debug)]
pub(crate) struct Nodes {
    token: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By node id. A node that went away stays: inventories outlive tunnels.
    known: BTreeMap<String, Known>,
    /// Streams that were asked for, by their number.
    awaited: HashMap<u64, Awaited>,
    /// Numbers for streams and for links.
    last: u64,
}

#[derive(Debug)]
struct Known {
    name: NodeName,
    link: Option<Link>,
    frozen: watch::Sender<bool>,
}

/// The control connection of a node that is online.
#[derive(Debug)]
struct Link {
    number: u64,
    say: mpsc::UnboundedSender<FromProxy>,
}

#[derive(Debug)]
struct Awaited {
    link: u64,
    deliver: oneshot::Sender<Result<TcpStream, String>>,
}

/// A stream to where the client wanted, and the switch that silences it.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: TcpStream,
    pub(crate) frozen: watch::Receiver<bool>,
}

impl Nodes {
    /// An inventory that knows `names` from the start, all of them offline.
    pub(crate) fn new(token: String, names: Vec<NodeName>) -> Arc<Self> {
        let nodes = Self { token, state: Mutex::default() };
        for name in names {
            nodes.state().know(name);
        }
        Arc::new(nodes)
    }

    /// Every node, ordered by id.
    pub(crate) fn list(&self) -> Vec<NodeState> {
        let state = self.state();
        let nodes = state.known.values().map(|known| NodeState {
            name: known.name.clone(),
            online: known.link.is_some(),
            frozen: *known.frozen.borrow(),
        });
        nodes.collect()
    }

    /// Silences, or not, the nodes of this name or id; the value is how many there are.
    pub(crate) fn freeze(&self, host: &str, frozen: bool) -> usize {
        let state = self.state();
        let named = |known: &&Known| known.name.hostname == host || known.name.uuid == host;
        let switches = state.known.values().filter(named).map(|known| &known.frozen);
        let count = switches.clone().count();
        switches.for_each(|switch| {
            switch.send_replace(frozen);
        });
        count
    }

    /// Forgets the node of this id; a tunnel that it still has leads nowhere.
    pub(crate) fn forget(&self, uuid: &str) {
        self.state().known.remove(uuid);
    }

    /// Opens a stream to the node that `host` means. It waits as long as the
    /// node takes: a hung one never answers, and the proxy has no patience of its own.
    pub(crate) async fn dial(
        &self,
        host: &str,
        port: &str,
        cluster: &str,
        face: Face,
    ) -> Result<Dialled, Refusal> {
        let place = self.state().locate(host, port, face)?;
        let uuid = match place {
            Place::Known(node) => node.uuid,
            Place::Elsewhere { host, port } => return dial_elsewhere(host, port).await,
        };
        let offline =
            || Refusal::NoTunnel { agent: "@local-node".to_owned(), id: format!("{uuid}.{cluster}") };
        let mut frozen = self.state().frozen(&uuid).ok_or_else(offline)?;
        let _ = frozen.wait_for(|frozen| !frozen).await;
        let (deliver, delivered) = oneshot::channel();
        let id = self.state().ask(&uuid, deliver).ok_or_else(offline)?;
        let _forget = Forget { nodes: self, id };
        match delivered.await {
            Ok(Ok(stream)) => Ok(Dialled { stream, frozen }),
            Ok(Err(reason)) => Err(Refusal::Node(reason)),
            Err(_) => Err(offline()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl State {
    fn know(&mut self, name: NodeName) -> &mut Known {
        let fresh = || Known { name: name.clone(), link: None, frozen: watch::Sender::new(false) };
        let known = self.known.entry(name.uuid.clone()).or_insert_with(fresh);
        known.name = name;
        known
    }

    fn locate(&self, host: &str, port: &str, face: Face) -> Result<Place, Refusal> {
        let names = self.known.values().map(|known| &known.name);
        locate(names, host, port, face)
    }

    fn frozen(&self, uuid: &str) -> Option<watch::Receiver<bool>> {
        self.known.get(uuid).map(|known| known.frozen.subscribe())
    }

    /// Asks the node for a stream; `None` when its tunnel is down.
    fn ask(&mut self, uuid: &str, deliver: oneshot::Sender<Result<TcpStream, String>>) -> Option<u64> {
        self.last += 1;
        let id = self.last;
        let link = self.known.get(uuid)?.link.as_ref()?;
        link.say.send(FromProxy::Dial(id)).ok()?;
        let link = link.number;
        self.awaited.insert(id, Awaited { link, deliver });
        Some(id)
    }

    /// Registers a node; a link that it had before is forgotten.
    fn link(&mut self, name: NodeName, say: mpsc::UnboundedSender<FromProxy>) -> u64 {
        self.last += 1;
        let number = self.last;
        let known = self.know(name);
        if let Some(former) = known.link.replace(Link { number, say }) {
            self.awaited.retain(|_, awaited| awaited.link != former.number);
        }
        number
    }

    /// The link ended: the node is offline, unless it has dialled again meanwhile.
    fn unlink(&mut self, uuid: &str, number: u64) {
        self.awaited.retain(|_, awaited| awaited.link != number);
        if let Some(known) = self.known.get_mut(uuid) {
            known.link.take_if(|link| link.number == number);
        }
    }
}

/// Forgets a stream that was asked for and is no longer wanted.
struct Forget<'a> {
    nodes: &'a Nodes,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.nodes.state().awaited.remove(&self.id);
    }
}

/// A node is offline when the connection that registered it ends.
struct Registered<'a> {
    nodes: &'a Nodes,
    uuid: String,
    number: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.nodes.state().unlink(&self.uuid, self.number);
    }
}

/// Dials what is in nobody's inventory, as old proxies do.
async fn dial_elsewhere(host: String, port: u16) -> Result<Dialled, Refusal> {
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(|_| Refusal::NoTunnel {
        agent: match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        },
        id: String::new(),
    })?;
    let _ = stream.set_nodelay(true);
    // Nobody freezes it: the sender is gone, the value stays.
    let frozen = watch::Sender::new(false).subscribe();
    Ok(Dialled { stream, frozen })
}

/// Takes the nodes' connections for as long as the proxy lives.
pub(crate) async fn accept(listener: TcpListener, nodes: Arc<Nodes>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let nodes = Arc::clone(&nodes);
                    connections.spawn(async move { greet(stream, &nodes).await });
                }
                // Out of descriptors: they come back when connections end.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Reads the first line and does what it says.
async fn greet(mut stream: TcpStream, nodes: &Nodes) {
    let _ = stream.set_nodelay(true);
    let line = timeout(INTRODUCTION, read_line(&mut stream)).await;
    let Ok(Ok(line)) = line else { return };
    match Hello::parse(&line) {
        Some(Hello::Node { token, name }) if token == nodes.token => {
            tracing::info!(node = name.hostname, uuid = name.uuid, "node registered");
            serve(stream, nodes, &name).await;
            tracing::info!(node = name.hostname, uuid = name.uuid, "node went away");
        }
        Some(Hello::Stream { token, id }) if token == nodes.token => {
            let awaited = nodes.state().awaited.remove(&id);
            if let Some(awaited) = awaited {
                let _ = awaited.deliver.send(Ok(stream));
            }
        }
        _ => {
            tracing::warn!("refused a connection to the tunnel address");
            let refused = FromProxy::Refused("not a node of this lab".to_owned());
            let _ = stream.write_all(format!("{refused}\n").as_bytes()).await;
        }
    }
}

/// One control connection to its end.
async fn serve(stream: TcpStream, nodes: &Nodes, name: &NodeName) {
    let (read, write) = stream.into_split();
    let (say, said) = mpsc::unbounded_channel();
    let _ = say.send(FromProxy::Welcome);
    let number = nodes.state().link(name.clone(), say.clone());
    let _registered = Registered { nodes, uuid: name.uuid.clone(), number };
    tokio::select! {
        () = hear(read, nodes, &say) => {}
        () = speak(write, said) => {}
    }
}

async fn hear(read: OwnedReadHalf, nodes: &Nodes, say: &mpsc::UnboundedSender<FromProxy>) {
    let mut read = BufReader::new(read);
    while let Ok(Ok(line)) = timeout(OFFLINE, read_line(&mut read)).await {
        match FromNode::parse(&line) {
            Some(FromNode::Ping) => {
                let _ = say.send(FromProxy::Pong);
            }
            Some(FromNode::Failed(id, reason)) => {
                let awaited = nodes.state().awaited.remove(&id);
                if let Some(awaited) = awaited {
                    let _ = awaited.deliver.send(Err(reason));
                }
            }
            None => return,
        }
    }
}

async fn speak(mut write: OwnedWriteHalf, mut said: mpsc::UnboundedReceiver<FromProxy>) {
    while let Some(message) = said.recv().await {
        if write.write_all(format!("{message}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}
