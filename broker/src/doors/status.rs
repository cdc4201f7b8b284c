//! What is asked about the broker, and said to it.

use crate::broker::Broker;
use natssh_wire::request::percent_decode;
use natssh_wire::status::{Closed, Failures, Status};
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A probe has an answer by then.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for an upstream that a person wants tried again: `natssh` waits 5 s for the answer.
const RETRY_TIMEOUT: Duration = Duration::from_millis(4500);

/// `GET /v1/failures[?node=HOST]`.
pub(super) fn failures(broker: &Broker, query: Option<&str>) -> Result<Failures, Failure> {
    let host = match query {
        None | Some("") => None,
        Some(query) => {
            let host = query.strip_prefix("node=").and_then(percent_decode).filter(|host| !host.is_empty());
            let wrong = || Failure::new(FailureKind::BadRequest, "failures takes one parameter: node=HOST");
            Some(host.ok_or_else(wrong)?)
        }
    };
    let upstream = host.as_deref().and_then(|host| {
        // Routes may look at the port; why asks for the host alone.
        let node = NodeAddr::new(host, "22").ok()?;
        Some(broker.reach().settings.routes.pick(&node).upstream)
    });
    Ok(Failures { failures: broker.failures.latest(host.as_deref(), usize::MAX), upstream })
}

/// `POST /v1/probe`: every upstream is dialled, then `status`.
pub(super) async fn probe(broker: &Arc<Broker>) -> Status {
    let looking = broker.clone();
    let reach =
        tokio::task::spawn_blocking(move || looking.reach_after_login(std::time::Instant::now())).await;
    reach.unwrap_or_else(|_| broker.reach()).probe(Instant::now() + PROBE_TIMEOUT).await;
    broker.status()
}

/// `POST /v1/retry?upstream=NAME`.
pub(super) async fn retry(broker: &Arc<Broker>, query: Option<&str>) -> Result<(), Failure> {
    let name = query.and_then(|query| query.strip_prefix("upstream=")).and_then(percent_decode);
    let wrong = || Failure::new(FailureKind::BadRequest, "retry takes one parameter: upstream=NAME");
    let name = name.filter(|name| !name.is_empty()).ok_or_else(wrong)?;
    broker.reach().retry(&name, Instant::now() + RETRY_TIMEOUT).await
}

/// `DELETE /v1/sessions[/HOST]`; `host` is empty for all, else it begins with a slash.
pub(super) fn close_sessions(broker: &Broker, host: &str) -> Result<Closed, Failure> {
    let wrong = || Failure::new(FailureKind::BadRequest, "sessions takes one host: /v1/sessions/HOST");
    let host = match host.strip_prefix('/') {
        None => None,
        Some(host) => {
            let plain = percent_decode(host).filter(|plain| !plain.is_empty() && !host.contains('/'));
            Some(plain.ok_or_else(wrong)?)
        }
    };
    broker.without_sftp.forget(|key| host.as_deref().is_none_or(|host| key.is_of(host)));
    Ok(Closed { closed: broker.pool.close(host.as_deref()) as u64 })
}

/// `POST /v1/reload`.
pub(super) async fn reload(broker: &Arc<Broker>) -> Result<(), Failure> {
    let broker = broker.clone();
    let reloaded = tokio::task::spawn_blocking(move || broker.reload()).await;
    reloaded.unwrap_or_else(|_| Err(Failure::new(FailureKind::Internal, "reloading failed inside natssh")))
}
