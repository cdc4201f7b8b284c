//! `POST /v1/exec` and `POST /v1/resolve`: a call of ssh.
//!
//! A command is handed to its node only once the client has been answered 101.
//! So an answer that never came means that nothing ran, and the client may ask
//! again; after that, nothing is ever asked twice.

mod call;
mod hold;
mod pump;
mod stdin;
#[cfg(test)]
mod tests;
mod told;
mod unheard;

use super::local::{Answer, Caller, json};
use super::request::{check_upgrade, decide, hand_over, patience, read, switching};
use crate::broker::Broker;
use crate::pool::{Held, Leased, Node};
use crate::reach;
use crate::session::NotOpened;
use crate::target::{Decision, Target};
use call::Call;
use hold::Hold;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Request, StatusCode};
use natssh_wire::Failure;
use natssh_wire::exec::{self, ExecRequest, NO_STDIN, Resolution, STDIN_HEADER};
use natssh_wire::terminal::{self, Granted};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

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
    let asked: Arc<ExecRequest> = Arc::new(read(request.into_body()).await?);
    // From here on a broker that drains waits for it.
    let counted = broker.count_stream();
    let (target, wishes, purpose) = match decide(broker, &asked).await? {
        Decision::Native(target, wishes) => (target, wishes, None),
        Decision::Connection(target, wishes, purpose) => (target, wishes, Some(purpose)),
        Decision::RealSsh(resolution) => return Ok(json(StatusCode::OK, &resolution)),
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
            return Ok(json(StatusCode::OK, &hand_over(broker, &asked, &reason).await?));
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

/// Decides about the call, and says so.
pub(super) async fn resolve(broker: &Arc<Broker>, request: Request<Incoming>) -> Result<Answer, Failure> {
    broker.open_for_streams()?;
    let asked: Arc<ExecRequest> = Arc::new(read(request.into_body()).await?);
    Ok(match decide(broker, &asked).await? {
        Decision::Native(target, _) | Decision::Connection(target, ..) => {
            let Target { host, port, user, .. } = *target;
            let options = Vec::new();
            let native = Resolution { native: true, reason: None, tunnel: false, host, port, user, options };
            json(StatusCode::OK, &native)
        }
        Decision::RealSsh(resolution) => json(StatusCode::OK, &resolution),
    })
}
