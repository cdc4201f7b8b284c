//! `PUT /v1/file` and `GET /v1/file`: a file to a node, or of one.
//!
//! Who asks for which node is told as for an exec, and settled as ssh would settle it for sftp. Once a session is there
//! `trip` carries the file: in frames for programs (`framed`), in bodies for curl (`plain`).

mod framed;
mod plain;
mod trip;
mod unfinished;

use super::linger::Lingering;
use super::local::{Caller, done};
use super::request::{bad, check_upgrade, decide, patience, read, switching};
use crate::broker::Broker;
use crate::pool::Use;
use crate::reach;
use crate::session::transfer::{BULK, Order};
use crate::target::Decision;
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::UPGRADE;
use hyper::{Method, Request, Response};
use natssh_wire::exec::{ExecRequest, Resolution};
use natssh_wire::file::{self, FileRequest};
use natssh_wire::ssh_words::Invocation;
use natssh_wire::{Failure, FailureKind, Word};
use plain::{FileBody, Rest};
use rand::random;
use rustix::process::Pid;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use trip::Trip;

/// An answer that may be a file.
pub(super) type FileAnswer = Response<Either<Full<Bytes>, FileBody>>;

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

/// Whether a request is for a file, and which way.
pub(super) fn verb(request: &Request<Incoming>) -> Option<Verb> {
    match (request.method(), request.uri().path()) {
        (&Method::PUT, "/v1/file") => Some(Verb::Put),
        (&Method::GET, "/v1/file") => Some(Verb::Get),
        _ => None,
    }
}

/// Decides about the request, leases a channel for it, and answers.
pub(super) async fn file(
    broker: &Arc<Broker>,
    place: Arc<Option<OwnedSemaphorePermit>>,
    mut request: Request<Incoming>,
    verb: Verb,
) -> Result<FileAnswer, Failure> {
    let open = broker.open_for_streams();
    let process = request.extensions().get::<Caller>().map(|caller| caller.0);
    let is_framed = request.headers().contains_key(UPGRADE);
    if is_framed {
        check_upgrade(request.headers(), file::UPGRADE)?;
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let body = request.into_body();
    let (asked, rest) = match is_framed {
        true => {
            open?;
            (read(body).await?, None)
        }
        false => {
            let body = Lingering::new(body);
            open?;
            Rest::behind_request(body).await.map(|(asked, rest)| (asked, Some(rest)))?
        }
    };
    // From here on a broker that drains waits for it.
    let kept = (broker.count_stream(), place);
    let (trip, how) = plan(broker, asked, process, verb).await?;
    let lent = trip.lease(how).await?;
    let Some(rest) = rest else {
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                trip.carry(upgraded, lent, how).await;
            }
            drop(kept);
        });
        return Ok(switching(file::UPGRADE).map(Either::Left));
    };
    match verb {
        Verb::Put => {
            trip.put_rest(rest, lent, how, kept).await?;
            Ok(done().map(Either::Left))
        }
        Verb::Get => Ok(Response::new(Either::Right(trip.get_all(rest, lent, how, kept).await?))),
    }
}

/// What is to be carried where, and how much of a session it wants.
async fn plan(
    broker: &Arc<Broker>,
    asked: FileRequest,
    process: Option<Pid>,
    verb: Verb,
) -> Result<(Arc<Trip>, Use), Failure> {
    let FileRequest { call, path, mode, size } = asked;
    if path.as_bytes().is_empty() || path.as_bytes().len() > LONGEST_PATH {
        return Err(bad(format!("a path has 1 to {LONGEST_PATH} bytes")));
    }
    let call = Arc::new(as_sftp(call)?);
    let (target, wishes) = match decide(broker, &call).await? {
        Decision::Native(target, wishes) => (target, wishes),
        Decision::Connection(..) => return Err(bad("a call with -N or -W carries no file".into())),
        Decision::RealSsh(Resolution { reason, host, .. }) => {
            return Err(needs_ssh(reason.as_deref().unwrap_or_default(), &host));
        }
    };
    let patience = patience(call.timeout_ms, &wishes);
    let how = match verb {
        Verb::Put if size.is_none_or(|size| size >= BULK) => Use::Alone,
        // How large a file of the node's is shows when it is open.
        Verb::Put | Verb::Get => Use::Shared,
    };
    let order = Order { path: path.as_bytes().to_vec(), mode, number: random() };
    let caller = reach::Caller::of(&call, process);
    Ok((Arc::new(Trip { broker: broker.clone(), target, wishes, caller, patience, verb, order }), how))
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
