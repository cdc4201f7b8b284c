//! `POST /v1/control`: what `ssh -O check`, `stop` and `exit` ask of the sessions that are kept.
//!
//! A call that went to the real ssh may have left a master of ssh's own behind `ControlPath`. Whoever asks for a fresh
//! authentication means that one too, so the client is told to ask the real ssh as well.

use super::connect::current_reach;
use super::local::{Answer, json};
use super::request::{bad, read};
use crate::broker::Broker;
use crate::pool::{Key, When};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use natssh_wire::Failure;
use natssh_wire::exec::{Controlled, ExecRequest};
use natssh_wire::ssh_words::{Control, Invocation};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A master that does not take a connection within this is none.
const MASTER: Duration = Duration::from_secs(1);

/// Does what is asked, and says what that meant.
pub(super) async fn control(broker: &Arc<Broker>, request: Request<Incoming>) -> Result<Answer, Failure> {
    let asked: Arc<ExecRequest> = Arc::new(read(request.into_body()).await?);
    let none = || bad("the words are no call with -O check, -O stop or -O exit".into());
    let invocation = Invocation::parse(&asked.words).map_err(|_| none())?;
    let control = invocation.control().ok_or_else(none)?;
    let reach = current_reach(broker).await?;
    let pid = std::process::id();
    let answer = match broker.calls.controlled(&asked, &invocation, &reach).await? {
        Err(reason) => {
            tracing::debug!(reason, "only the real ssh can have such a connection");
            Controlled { sessions: 0, pid, real_ssh: true, peer: None }
        }
        Ok(meant) => {
            let key = Key { way: reach.way_to(&meant.target), target: *meant.target };
            let sessions = match control {
                Control::Check => broker.pool.open_sessions(&key),
                Control::Stop => broker.pool.close_like(&key, When::Unused),
                Control::Exit => broker.pool.close_like(&key, When::Now),
            };
            // A check needs no second opinion.
            let may_be_ssh = control != Control::Check || sessions == 0;
            let real_ssh = match meant.master.filter(|_| may_be_ssh) {
                Some(master) => listens(&master).await,
                None => false,
            };
            Controlled { sessions: sessions as u64, pid, real_ssh, peer: Some(key.target.peer()) }
        }
    };
    Ok(json(StatusCode::OK, &answer))
}

/// Whether somebody serves that socket.
async fn listens(socket: &Path) -> bool {
    matches!(timeout(MASTER, UnixStream::connect(socket)).await, Ok(Ok(_)))
}
