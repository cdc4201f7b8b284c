//! `CONNECT host:port`: a raw stream to a node.

use super::handed;
use super::local::{Answer, Caller};
use crate::broker::Broker;
use crate::reach::{Opened, Reach, Request};
use crate::splice::{Ended, Traffic};
use crate::ssh::{Early, Waiting};
use http_body_util::Full;
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use natssh_wire::request::{
    AGENT_HEADER, ConnectRequest, LOGIN_HEADER, TIMEOUT_HEADER, VERDICT_HEADER, Verdict,
};
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Opens the stream, then answers; the bytes follow in a task of their own. A client that wants no verdict but in the
/// stream is answered as soon as the upstream has been asked.
pub(super) async fn connect(
    broker: &Arc<Broker>,
    place: Arc<Option<OwnedSemaphorePermit>>,
    mut request: hyper::Request<Incoming>,
) -> Result<Answer, Failure> {
    let begun = std::time::Instant::now();
    broker.open_for_streams()?;
    let target = request.uri().authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    let headers = request.headers();
    for name in [TIMEOUT_HEADER, AGENT_HEADER, LOGIN_HEADER, VERDICT_HEADER] {
        if headers.get(name).is_some_and(|value| value.to_str().is_err()) {
            return Err(Failure::new(FailureKind::BadRequest, format!("{name} is not plain text")));
        }
    }
    let wanted = ConnectRequest::parse(&target, |name| headers.get(name)?.to_str().ok())?;
    let caller = request.extensions().get::<Caller>().map(|caller| caller.0);
    let deadline = Instant::now() + answer_within(wanted.timeout);
    let node = wanted.node.clone();
    let reach = reach_to(broker, &node, begun).await?;
    let waiting = Arc::<Waiting>::default();
    let early = match wanted.verdict {
        Verdict::InAnswer => Early::Nothing,
        Verdict::InStream => Early::Client(waiting.clone()),
    };
    let asked = Request {
        node: wanted.node,
        login: wanted.login,
        agent: wanted.agent.map(Into::into),
        caller,
        early,
        begun,
        deadline,
    };
    let for_opening = reach.clone();
    let mut opening = Box::pin(async move { for_opening.open(asked).await });
    let opened = tokio::select! {
        biased;
        opened = &mut opening => Some(opened),
        () = waiting.asked() => None,
    };
    // What the upstream said of the node comes in the stream, however quickly it came.
    let opened = match opened {
        Some(Err(failure)) if !waiting.was_asked() => return Err(failure),
        opened => opened,
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let counted = broker.count_stream();
    tokio::spawn(async move {
        // The door serves nothing but unix sockets.
        if let Some(parts) = upgrade.await.ok().and_then(|up| up.downcast::<TokioIo<UnixStream>>().ok()) {
            let (client, read) = (parts.io.into_inner(), parts.read_buf);
            let (verdict, early) = match opened {
                Some(verdict) => (Some(verdict), read),
                None => {
                    let verdict = handed::verdict(&client, read, &waiting, opening).await;
                    (verdict, waiting.said())
                }
            };
            match verdict {
                Some(Ok(opened)) => carry(&reach, &node, client, early, opened).await,
                Some(Err(failure)) => handed::tell(client, &failure).await,
                None => reach.given_up(&node, begun.elapsed()),
            }
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

/// What a look at files finds: they may be slow, so a thread of its own looks.
pub(super) async fn looked<T: Send + 'static>(
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(look)
        .await
        .map_err(|_| Failure::new(FailureKind::Internal, "a look at the configuration failed inside natssh"))
}

async fn carry(reach: &Reach, node: &NodeAddr, client: UnixStream, early: Bytes, opened: Opened) {
    let Opened { stream, carried } = opened;
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
