//! `PUT /v1/file` and `GET /v1/file`: a file to a node, or of one.
//!
//! Who asks for which node is told as for an exec, and settled as ssh would settle it for sftp. Once a session is there
//! the client is answered 101, and `trip` carries the file.

mod client;
mod trip;
mod unfinished;

use super::exec::{bad, check_upgrade, decide, patience, read, switching};
use super::local::{Answer, Caller};
use crate::broker::Broker;
use crate::pool::Use;
use crate::reach;
use crate::session::transfer::{BULK, Order};
use crate::target::Decision;
use hyper::Request;
use hyper::body::Incoming;
use natssh_wire::exec::ExecRequest;
use natssh_wire::file::{self, FileRequest};
use natssh_wire::ssh_words::Invocation;
use natssh_wire::{Failure, FailureKind, Word};
use rand::random;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use trip::Trip;

/// What sftp tells ssh beside the user's own words (sftp.c): nothing that the settings forward matters to a file.
const AS_SFTP: [&str; 5] =
    ["-oForwardX11=no", "-oPermitLocalCommand=no", "-oClearAllForwardings=yes", "-oRequestTTY=no", "-s"];
/// The longest path: twice what Linux takes, so that the node says what is wrong with a long one.
const LONGEST_PATH: usize = 8 << 10;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// To the node.
    Put,
    /// From it.
    Get,
}

/// Decides about the request, leases a channel for it, and answers; the bytes follow in a task of their own.
pub(super) async fn file(
    broker: &Arc<Broker>,
    place: Arc<Option<OwnedSemaphorePermit>>,
    mut request: Request<Incoming>,
    verb: Verb,
) -> Result<Answer, Failure> {
    broker.open_for_streams()?;
    check_upgrade(request.headers(), file::UPGRADE)?;
    let process = request.extensions().get::<Caller>().map(|caller| caller.0);
    let upgrade = hyper::upgrade::on(&mut request);
    let FileRequest { call, path, mode, size } = read(request.into_body()).await?;
    // From here on a broker that drains waits for it.
    let counted = broker.count_stream();
    if path.as_bytes().is_empty() || path.as_bytes().len() > LONGEST_PATH {
        return Err(bad(format!("a path has 1 to {LONGEST_PATH} bytes")));
    }
    let call = as_sftp(call)?;
    let (target, wishes) = match decide(broker, &call).await? {
        Decision::Native(target, wishes) => (target, wishes),
        Decision::RealSsh { reason, host, .. } => return Err(needs_ssh(&reason, &host)),
    };
    let patience = patience(call.timeout_ms, &wishes);
    let how = match verb {
        Verb::Put if size.is_none_or(|size| size >= BULK) => Use::Alone,
        // How large a file of the node's is shows when it is open.
        Verb::Put | Verb::Get => Use::Shared,
    };
    let order = Order { path: path.as_bytes().to_vec(), mode, number: random() };
    let caller = reach::Caller::of(&call, process);
    let trip = Arc::new(Trip { broker: broker.clone(), target, wishes, caller, patience, verb, order });
    let leased = trip.lease(how).await?;
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            trip.carry(upgraded, leased, how).await;
        }
        drop((counted, place));
    });
    Ok(switching(file::UPGRADE))
}

/// The call of ssh that sftp would make of those words.
fn as_sftp(call: ExecRequest) -> Result<ExecRequest, Failure> {
    let parsed = Invocation::parse(&call.words).map_err(|no_call| bad(no_call.to_string()))?;
    if parsed.command().is_some() {
        return Err(bad("the words of a file are options and a host, and no command".into()));
    }
    let words = AS_SFTP.map(Word::from).into_iter().chain(call.words).chain(["sftp".into()]).collect();
    Ok(ExecRequest { words, ..call })
}

fn needs_ssh(reason: &str, host: &str) -> Failure {
    let to = if host.is_empty() { String::new() } else { format!(" for {host}") };
    let text = format!("the settings{to} are the real ssh's to keep: {reason}");
    Failure::new(FailureKind::NeedsSsh, text).hint("sftp or scp with the same options")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_asked_for_as_sftp_asks() {
        let call = |words: &[&str]| {
            let words = words.iter().map(|word| Word::from(*word)).collect();
            as_sftp(ExecRequest { words, ..ExecRequest::default() })
        };
        let asked = call(&["-p", "22", "web", "-v"]).unwrap();
        let parsed = Invocation::parse(&asked.words).unwrap();
        assert!(parsed.is_subsystem() && parsed.command().as_deref() == Some(b"sftp"));
        assert_eq!(parsed.host(), b"web");
        for wrong in [&["web", "true"][..], &["-p", "22"], &["web", "-p"], &["-s", "web", "sftp"], &[]] {
            assert_eq!(call(wrong).unwrap_err().kind, FailureKind::BadRequest, "{wrong:?}");
        }
    }
}
