//! The local door: HTTP/1.1 on a unix socket, for this user alone.

use super::file::FileAnswer;
use super::{connect, control, exec, file, status};
use crate::broker::{Broker, Phase};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use natssh_wire::request::{PROTOCOL_HEADER, check_protocol};
use natssh_wire::{Failure, FailureKind, PROTOCOL};
use rustix::process::Pid;
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at a time, open streams included. Each costs two descriptors at most.
pub const CONNECTIONS: usize = 8192;
/// A client has so long to finish the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The head of a request is no larger.
const HEAD_LIMIT: usize = 16 << 10;
/// Where sessions are closed: all, or those of the host that follows.
const SESSIONS: &str = "/v1/sessions";
/// A pause after an error of `accept`, which is nearly always "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An answer that is whole in memory.
pub(super) type Answer = Response<Full<Bytes>>;

/// The process that made a request, where the system tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) Pid);

/// Serves the socket until the broker drains. Connections that are open then go on.
pub async fn serve(broker: Arc<Broker>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut phase = broker.phase();
    let own_uid = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        broker.counters.accepted.fetch_add(1, Relaxed);
        match socket.peer_cred() {
            Ok(peer) if peer.uid() == own_uid => {}
            peer => {
                broker.counters.strangers.fetch_add(1, Relaxed);
                let uid = peer.ok().map(|peer| peer.uid());
                tracing::warn!(uid, "a process of another user was refused");
                continue;
            }
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            broker.counters.busy.fetch_add(1, Relaxed);
            tokio::spawn(serve_connection(broker.clone(), socket, None));
            continue;
        };
        tokio::spawn(serve_connection(broker.clone(), socket, Some(place)));
    }
}

/// Serves one connection; without a place, every request is told to come back later.
async fn serve_connection(broker: Arc<Broker>, socket: UnixStream, place: Option<OwnedSemaphorePermit>) {
    let place = Arc::new(place);
    let caller = socket.peer_cred().ok().and_then(|peer| Pid::from_raw(peer.pid()?)).map(Caller);
    let service = service_fn(|mut request: Request<Incoming>| {
        let (broker, place) = (broker.clone(), place.clone());
        caller.and_then(|caller| request.extensions_mut().insert(caller));
        async move { Ok::<_, Infallible>(answer(broker, place, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        // A client that has said all it will say may still wait for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    match served {
        Err(error) if error.is_timeout() => {
            broker.counters.timed_out.fetch_add(1, Relaxed);
        }
        Err(error) if error.is_parse() || error.is_parse_too_large() => {
            broker.counters.malformed.fetch_add(1, Relaxed);
        }
        // Clients that leave early are nobody's failure.
        _ => {}
    }
}

async fn answer(
    broker: Arc<Broker>,
    place: Arc<Option<OwnedSemaphorePermit>>,
    request: Request<Incoming>,
) -> FileAnswer {
    let answered = if place.is_none() {
        let text = format!("the broker serves {CONNECTIONS} connections and takes no more");
        Err(Failure::new(FailureKind::Busy, text).hint("natssh status"))
    } else {
        match check_protocol(
            request.headers().get(PROTOCOL_HEADER).map(|value| value.to_str().unwrap_or_default()),
        ) {
            Ok(()) => match file::verb(&request) {
                Some(verb) => file::file(&broker, place, request, verb).await,
                None => route(&broker, place, request).await.map(|answer| answer.map(Either::Left)),
            },
            Err(failure) => Err(failure),
        }
    };
    let mut response = answered.unwrap_or_else(|failure| {
        if failure.kind == FailureKind::BadRequest {
            broker.counters.malformed.fetch_add(1, Relaxed);
        }
        let status =
            StatusCode::from_u16(failure.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        json(status, &failure).map(Either::Left)
    });
    response.headers_mut().insert(PROTOCOL_HEADER, HeaderValue::from(PROTOCOL));
    response
}

async fn route(
    broker: &Arc<Broker>,
    place: Arc<Option<OwnedSemaphorePermit>>,
    request: Request<Incoming>,
) -> Result<Answer, Failure> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::CONNECT, _) => connect::connect(broker, place, request).await,
        (&Method::GET, "/v1/status") => Ok(json(StatusCode::OK, &broker.status())),
        (&Method::GET, "/metrics") => Ok(super::metrics::page(broker)),
        (&Method::GET, "/v1/failures") => {
            Ok(json(StatusCode::OK, &status::failures(broker, request.uri().query())?))
        }
        (&Method::POST, "/v1/exec") => exec::exec(broker, place, request).await,
        (&Method::POST, "/v1/resolve") => exec::resolve(broker, request).await,
        (&Method::POST, "/v1/control") => control::control(broker, request).await,
        (&Method::POST, "/v1/probe") => Ok(json(StatusCode::OK, &status::probe(broker).await)),
        (&Method::POST, "/v1/reload") => status::reload(broker).await.map(|()| done()),
        (&Method::POST, "/v1/retry") => status::retry(broker, request.uri().query()).await.map(|()| done()),
        (&Method::DELETE, path) if path == SESSIONS || path.starts_with(&format!("{SESSIONS}/")) => {
            Ok(json(StatusCode::OK, &status::close_sessions(broker, &path[SESSIONS.len()..])?))
        }
        (&Method::POST, "/v1/drain") => {
            broker.enter(Phase::Draining);
            Ok(done())
        }
        (&Method::POST, "/v1/stop") => {
            broker.enter(Phase::Stopping);
            Ok(done())
        }
        (method, path) => {
            let text = format!("the local API has no {method} {}", crate::text::one_line(path));
            Err(Failure::new(FailureKind::BadRequest, text).hint("natssh --version"))
        }
    }
}

pub(super) fn done() -> Answer {
    json(StatusCode::OK, &serde_json::json!({}))
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // Plain data with string keys cannot fail to become JSON.
    let body = serde_json::to_vec_pretty(value).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
