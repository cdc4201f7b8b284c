//! `CONNECT host:port`: a raw stream to a node.

use super::local::{Answer, Caller};
use crate::broker::Broker;
use crate::reach::{Opened, Reach, Request};
use crate::splice::{Ended, Traffic};
use http_body_util::Full;
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use natssh_wire::request::{AGENT_HEADER, ConnectRequest, LOGIN_HEADER, TIMEOUT_HEADER};
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Opens the stream, then answers; the bytes follow in a task of their own.
pub(super) async fn connect(
    broker: &Arc<Broker>,
    place: Arc<Option<OwnedSemaphorePermit>>,
    mut request: hyper::Request<Incoming>,
) -> Result<Answer, Failure> {
    let begun = std::time::Instant::now();
    broker.open_for_streams()?;
    let target = request.uri().authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    let headers = request.headers();
    for name in [TIMEOUT_HEADER, AGENT_HEADER, LOGIN_HEADER] {
        if headers.get(name).is_some_and(|value| value.to_str().is_err()) {
            return Err(Failure::new(FailureKind::BadRequest, format!("{name} is not plain text")));
        }
    }
    let wanted = ConnectRequest::parse(&target, |name| headers.get(name)?.to_str().ok())?;
    let caller = request.extensions().get::<Caller>().map(|caller| caller.0);
    let deadline = Instant::now() + answer_within(wanted.timeout);
    let node = wanted.node.clone();
    let reach = reach_to(broker, &node, begun).await?;
    let opened = reach
        .open(Request {
            node: wanted.node,
            login: wanted.login,
            agent: wanted.agent.map(Into::into),
            caller,
            greets: false,
            begun,
            deadline,
        })
        .await?;
    let upgrade = hyper::upgrade::on(&mut request);
    let counted = broker.count_stream();
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            carry(&reach, &node, upgraded, opened).await;
        }
        drop((counted, place));
    });
    Ok(Response::new(Full::new(Bytes::new())))
}

/// What reaches nodes, after a look at whether somebody has logged in or out.
pub(super) async fn current_reach(broker: &Arc<Broker>) -> Result<Arc<Reach>, Failure> {
    let broker = broker.clone();
    looked(move || broker.reach_after_login(std::time::Instant::now())).await
}

/// The same, and a look at the identity that the node needs: files may be slow, and one thread does for all.
async fn reach_to(
    broker: &Arc<Broker>,
    node: &NodeAddr,
    begun: std::time::Instant,
) -> Result<Arc<Reach>, Failure> {
    let (broker, node) = (broker.clone(), node.clone());
    looked(move || {
        let reach = broker.reach_after_login(begun);
        reach.look_ahead(&node, begun);
        reach
    })
    .await
}

async fn looked(look: impl FnOnce() -> Arc<Reach> + Send + 'static) -> Result<Arc<Reach>, Failure> {
    tokio::task::spawn_blocking(look)
        .await
        .map_err(|_| Failure::new(FailureKind::Internal, "a look at the configuration failed inside natssh"))
}

async fn carry(reach: &Reach, node: &NodeAddr, upgraded: Upgraded, opened: Opened) {
    let Opened { stream, carried } = opened;
    // The door serves nothing but unix sockets.
    let Ok(parts) = upgraded.downcast::<TokioIo<UnixStream>>() else { return };
    let (client, early) = (parts.io.into_inner(), parts.read_buf);
    let ended = stream.carry(client, early, &Traffic::part_of(&carried.traffic)).await;
    if let Ended::Cut(reason) = ended {
        tracing::debug!(%node, reason, "stream cut");
        reach.cut(node, &reason);
    }
}

/// The caller gives up at the end of its patience: the answer must be there before.
fn answer_within(patience: Duration) -> Duration {
    patience.saturating_sub((patience / 10).min(Duration::from_millis(200)))
}
