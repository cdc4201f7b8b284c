//! One channel's life: the request is read, the node dialled, its banner
//! awaited, and then bytes are carried until either side ends.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use russh::ChannelId;
use russh::server::Handle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::channels::{Channels, Outlet};
use super::nodes::Dialled;
use super::request::{Refusal, Request, Target, parse};
use super::tally::count;
use super::watchman::Watched;
use super::{Recording, recording};

/// What is read from a node at a time.
const CHUNK: usize = 128 * 1024;

/// Serves a subsystem request.
pub(crate) async fn subsystem(channels: Arc<Channels>, handle: Handle, outlet: Outlet, name: String) {
    let id = outlet.client.id();
    match answer(&channels, &handle, &name).await {
        Ok(Answer::Stream(dialled, banner)) => {
            let _ = handle.channel_success(id).await;
            carry(outlet, dialled, banner).await;
        }
        Ok(Answer::Text(text)) => {
            let _ = handle.data(id, text).await;
            let _ = handle.channel_success(id).await;
        }
        Err(refusal) => {
            tracing::info!(request = name, "refused: {refusal}");
            count(&channels.shared.tally.refused);
            let _ = handle.extended_data(id, 1, format!("{refusal}\n")).await;
            let _ = handle.channel_failure(id).await;
        }
    }
    close(&channels, &handle, id).await;
}

/// Serves a `direct-tcpip` channel, which is open already. It names no cluster,
/// and its errors say nothing.
pub(crate) async fn jump(
    channels: Arc<Channels>,
    handle: Handle,
    outlet: Outlet,
    host: String,
    port: String,
) {
    let id = outlet.client.id();
    let cluster = String::new();
    match reach(&channels, &handle, Target { host, port, cluster }, Agent::Asked).await {
        Ok((dialled, banner)) => carry(outlet, dialled, banner).await,
        Err(refusal) => {
            tracing::info!("refused a direct-tcpip channel: {refusal}");
            count(&channels.shared.tally.refused);
            let text = "Unable to start proxy subsystem.";
            let _ = handle.extended_data(id, 1, text).await;
        }
    }
    close(&channels, &handle, id).await;
}

/// What a request leads to.
enum Answer {
    /// A node that has said its first bytes.
    Stream(Dialled, Bytes),
    /// A text, and the end.
    Text(String),
}

/// Whether a recording proxy may ask for an agent that was not offered: it must,
/// where the channel is open before a client could offer it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agent {
    Offered,
    Asked,
}

async fn answer(channels: &Channels, handle: &Handle, name: &str) -> Result<Answer, Refusal> {
    match parse(name)? {
        Request::Node(target) => reach(channels, handle, target, Agent::Offered)
            .await
            .map(|(dialled, banner)| Answer::Stream(dialled, banner)),
        Request::Auth { cluster } => {
            own_cluster(channels, &cluster)?;
            // The lab has no auth server: the stream begins and has nothing to say.
            Ok(Answer::Text(String::new()))
        }
        Request::Sites => Ok(Answer::Text(sites(&channels.cluster))),
    }
}

/// Dials a node and waits for its first bytes.
async fn reach(
    channels: &Channels,
    handle: &Handle,
    target: Target,
    agent: Agent,
) -> Result<(Dialled, Bytes), Refusal> {
    let user = channels.user();
    let route = user.as_ref().and_then(|user| user.route_to_cluster.as_deref());
    let cluster = match target.cluster.as_str() {
        "" => route.unwrap_or(&channels.cluster),
        named => named,
    };
    own_cluster(channels, cluster)?;
    let shared = &channels.shared;
    if shared.policy.borrow().recording == Recording::Proxy {
        if agent == Agent::Offered && !channels.agent_offered.load(Relaxed) {
            return Err(Refusal::AgentRequired);
        }
        recording::list_keys(handle).await.map_err(|e| Refusal::Agent(format!("{e:#}")))?;
        count(&shared.tally.agents_listed);
    }
    let dial = shared.nodes.dial(&target.host, &target.port, cluster, shared.face);
    let mut dialled = dial.await?;
    count(&shared.tally.streams);
    let mut banner = BytesMut::with_capacity(256);
    open(&mut dialled.frozen).await;
    // A node that hangs up without a banner is no refusal: the stream begins, and ends.
    let _ = dialled.stream.read_buf(&mut banner).await;
    open(&mut dialled.frozen).await;
    Ok((dialled, banner.freeze()))
}

/// The lab is one cluster.
fn own_cluster(channels: &Channels, cluster: &str) -> Result<(), Refusal> {
    match cluster == &*channels.cluster {
        true => Ok(()),
        false => Err(Refusal::UnknownCluster(cluster.to_owned())),
    }
}

/// The list of clusters, as Teleport 7 writes it.
fn sites(cluster: &str) -> String {
    let now = humantime::format_rfc3339_nanos(SystemTime::now());
    format!(r#"[{{"name":"{cluster}","lastconnected":"{now}","status":"online"}}]"#)
}

/// Carries bytes both ways until either side ends, and then ends both: the real
/// proxy does not pass a half-close on.
async fn carry(outlet: Outlet, dialled: Dialled, banner: Bytes) {
    let Outlet { client, mut input, held, pulse } = outlet;
    let Dialled { stream, frozen } = dialled;
    if !banner.is_empty() && client.data_bytes(banner).await.is_err() {
        return;
    }
    pulse.beat();
    let (mut from_node, mut to_node) = split(stream);
    let up = async {
        let mut frozen = frozen.clone();
        while let Some(bytes) = input.recv().await {
            open(&mut frozen).await;
            let sent = to_node.write_all(&bytes).await;
            held.take(bytes.len());
            if sent.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut frozen = frozen.clone();
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match from_node.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            open(&mut frozen).await;
            pulse.beat();
            if client.data_bytes(buffer.split().freeze()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

fn split(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let _ = stream.set_nodelay(true);
    stream.into_split()
}

/// Waits while the node is frozen.
async fn open(frozen: &mut watch::Receiver<bool>) {
    let _ = frozen.wait_for(|frozen| !frozen).await;
}

/// Closes the channel, without an exit status: there was no command.
async fn close(channels: &Channels, handle: &Handle, id: ChannelId) {
    let _ = handle.close(id).await;
    channels.remove(id);
}
