//! `POST /v1/exec` and `POST /v1/resolve`: a call of ssh.
//!
//! A command is handed to its node only once the client has been answered 101.
//! So an answer that never came means that nothing ran, and the client may ask
//! again; after that, nothing is ever asked twice.

pub(super) mod batch;
mod call;
pub(super) mod frames;
mod hold;
mod pump;
mod stdin;
#[cfg(test)]
mod tests;
mod told;
mod unheard;

use super::connect::current_reach;
use super::local::{Answer, Caller, json};
use crate::broker::Broker;
use crate::pool::{Held, Leased, Node};
use crate::reach;
use crate::session::NotOpened;
use crate::target::{Decision, Target, Wishes};
use call::Call;
use hold::Hold;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode};
use natssh_wire::exec::{self, EXEC_BODY_LIMIT, ExecRequest, NO_STDIN, Resolution, STDIN_HEADER};
use natssh_wire::terminal::{self, Granted};
use natssh_wire::{Failure, FailureKind};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

/// A client has so long to send the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a session may take to be there, where nobody says: ssh itself waits for TCP, which is longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// And at most.
const MOST_PATIENCE: Duration = Duration::from_secs(300);

/// What a call has got.
enum Got {
    /// A place on a session, to run something.
    Channel(Leased<Node>),
    /// A session, to run nothing.
    Session(Held<Node>),
}

/// Decides about the call, leases a channel for it, and answers; the bytes follow in a task of their own.
pub(super) async fn exec(
    broker: &Arc<Broker>,
    place: Arc<Option<OwnedSemaphorePermit>>,
    mut request: Request<Incoming>,
) -> Result<Answer, Failure> {
    let begun = Instant::now();
    broker.open_for_streams()?;
    check_upgrade(request.headers(), exec::UPGRADE)?;
    let process = request.extensions().get::<Caller>().map(|caller| caller.0);
    let upgrade = hyper::upgrade::on(&mut request);
    let asked: ExecRequest = read(request.into_body()).await?;
    // From here on a broker that drains waits for it.
    let counted = broker.count_stream();
    let (target, wishes, purpose) = match decide(broker, &asked).await? {
        Decision::Native(target, wishes) => (target, wishes, None),
        Decision::Connection(target, wishes, purpose) => (target, wishes, Some(purpose)),
        Decision::RealSsh { reason, tunnel, host, port, user } => {
            return Ok(real_ssh(reason, tunnel, host, port, user));
        }
    };
    let deadline = begun + patience(asked.timeout_ms, &wishes);
    let caller = reach::Caller::of(&asked, process);
    let to_node = broker.to_node(&target, &wishes, caller.clone());
    let got = match &purpose {
        None => broker.pool.lease(&target, &wishes, to_node, deadline).await.map(Got::Channel),
        Some(_) => broker.pool.hold(&target, &wishes, to_node, deadline).await.map(Got::Session),
    };
    let got = match got {
        Ok(got) => got,
        Err(NotOpened::Failed(failure)) => return Err(failure),
        Err(NotOpened::RealSsh(reason)) => {
            let Target { host, port, user, .. } = *target;
            // Its way was natssh's, and there may be no other.
            return Ok(real_ssh(reason, true, host, port, user));
        }
    };
    let terminal = wishes.terminal.as_ref().map(|pty| Granted { escape: pty.escape }.to_header());
    let terminal = terminal.and_then(|value| HeaderValue::try_from(value).ok());
    let no_input = wishes.no_input;
    let call = Call { broker: broker.clone(), target, wishes, caller, deadline };
    tokio::spawn(async move {
        match (upgrade.await, got, purpose) {
            (Ok(upgraded), Got::Channel(leased), _) => call.carry(upgraded, leased).await,
            (Ok(upgraded), Got::Session(held), Some(purpose)) => {
                Hold { call, purpose }.carry(upgraded, held).await;
            }
            _ => {}
        }
        drop((counted, place));
    });
    let mut answer = switching(exec::UPGRADE);
    terminal.map(|value| answer.headers_mut().insert(terminal::HEADER, value));
    if no_input {
        answer.headers_mut().insert(STDIN_HEADER, HeaderValue::from_static(NO_STDIN));
    }
    Ok(answer)
}

/// 101: from here on the connection carries frames.
pub(super) fn switching(protocol: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    answer
}

/// Decides about the call, and says so.
pub(super) async fn resolve(broker: &Arc<Broker>, request: Request<Incoming>) -> Result<Answer, Failure> {
    broker.open_for_streams()?;
    let asked: ExecRequest = read(request.into_body()).await?;
    Ok(match decide(broker, &asked).await? {
        Decision::Native(target, _) | Decision::Connection(target, ..) => {
            let Target { host, port, user, .. } = *target;
            json(StatusCode::OK, &Resolution { native: true, reason: None, tunnel: false, host, port, user })
        }
        Decision::RealSsh { reason, tunnel, host, port, user } => real_ssh(reason, tunnel, host, port, user),
    })
}

pub(super) async fn decide(broker: &Arc<Broker>, asked: &ExecRequest) -> Result<Decision, Failure> {
    let reach = current_reach(broker).await?;
    broker.calls.decide(asked, &reach).await
}

fn real_ssh(reason: String, tunnel: bool, host: String, port: u16, user: String) -> Answer {
    let reason = Some(reason);
    json(StatusCode::OK, &Resolution { native: false, reason, tunnel, host, port, user })
}

/// How long the caller waits for a session.
pub(super) fn patience(own_ms: Option<u64>, wishes: &Wishes) -> Duration {
    let own = own_ms.map(Duration::from_millis);
    own.into_iter().chain(wishes.connect_timeout).min().unwrap_or(PATIENCE).min(MOST_PATIENCE)
}

pub(super) fn check_upgrade(headers: &HeaderMap, protocol: &str) -> Result<(), Failure> {
    let wanted = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    match wanted.is_some_and(|wanted| wanted.trim().eq_ignore_ascii_case(protocol)) {
        true => Ok(()),
        false => {
            Err(bad(format!("this request wants the headers Connection: Upgrade and Upgrade: {protocol}")))
        }
    }
}

/// The call that a request's body is.
pub(super) async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Failure> {
    let whole = timeout(BODY_TIMEOUT, Limited::new(body, EXEC_BODY_LIMIT).collect()).await;
    let whole =
        whole.map_err(|_| bad(format!("the body did not come within {} s", BODY_TIMEOUT.as_secs())))?;
    let whole = whole.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
        true => bad(format!("the body is longer than {} MiB", EXEC_BODY_LIMIT >> 20)),
        false => bad("the body ends in the middle".into()),
    })?;
    parse(&whole.to_bytes())
}

/// The call that these bytes are.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| {
        // Not the error's own words: they may quote the caller's environment.
        bad(format!(
            "the body is no call of ssh, as column {} of line {} shows",
            error.column(),
            error.line()
        ))
    })
}

pub(super) fn bad(message: String) -> Failure {
    Failure::new(FailureKind::BadRequest, message).hint("natssh --version")
}
