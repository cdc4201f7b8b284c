//! Requests that are about a call of ssh: read, decided about, and answered.

use super::connect::looked;
use super::local::Answer;
use crate::broker::Broker;
use crate::reach::Reach;
use crate::settings::Looked;
use crate::target::{Decision, Wishes};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::{Response, StatusCode};
use natssh_wire::exec::{EXEC_BODY_LIMIT, ExecRequest, Resolution};
use natssh_wire::{Failure, FailureKind};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A client has so long to send the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a session may take to be there, where nobody says: ssh itself waits for TCP, which is longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// And at most.
const MOST_PATIENCE: Duration = Duration::from_secs(300);

/// What becomes of a call, by the configuration in force.
pub(super) async fn decide(broker: &Arc<Broker>, asked: &Arc<ExecRequest>) -> Result<Decision, Failure> {
    let (reach, looked) = look(broker, asked).await?;
    broker.calls.decide(looked, &reach).await
}

/// What the real ssh is told of a call that only showed on its way to be none of natssh's.
pub(super) async fn hand_over(
    broker: &Arc<Broker>,
    asked: &Arc<ExecRequest>,
    reason: &str,
) -> Result<Resolution, Failure> {
    let (reach, looked) = look(broker, asked).await?;
    broker.calls.hand_over(looked, &reach, reason).await
}

/// Whether somebody has logged in or out, and what is known of the call: files may be slow, and one thread looks at all.
async fn look(broker: &Arc<Broker>, asked: &Arc<ExecRequest>) -> Result<(Arc<Reach>, Looked), Failure> {
    let (broker, asked) = (broker.clone(), asked.clone());
    looked(move || {
        let reach = broker.reach_after_login(std::time::Instant::now());
        let looked = broker.calls.look(&asked, &reach);
        (reach, looked)
    })
    .await
}

/// 101: from here on the connection carries frames.
pub(super) fn switching(protocol: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    answer
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
