//! `natssh proxy`: ask for a stream, and hand it over.
//!
//! ssh gets its stream as soon as the way is asked for, so that its first line
//! travels with the question, and hears a refusal in the stream. Everybody else
//! gets the verdict first. ssh ignores its ConnectTimeout while it waits for a
//! ProxyCommand, so every wait here ends by this program's own clock.

use crate::ask::{Waits, until_answered};
use crate::call::{Call, Missed, check_version, left};
use crate::cli::{Fdpass, Proxy};
use crate::{UNREACHABLE, complain, pass_fd, place, relay};
use natssh_wire::request::Verdict;
use natssh_wire::{ConnectRequest, Failure, FailureKind, NodeAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The whole run up to the verdict, the start of a broker included: Ansible gives up after 10 s.
const LIMIT: Duration = Duration::from_millis(8_900);
/// The broker is told to answer this much earlier, so that its reason comes before our clock.
const MARGIN: Duration = Duration::from_millis(150);

/// Opens the stream and gives it to the caller.
pub(crate) fn run(asked: &Proxy, begun: Instant) -> ExitCode {
    match open(asked, begun).and_then(|call| hand_over(call, asked.fdpass)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure, UNREACHABLE),
    }
}

fn open(asked: &Proxy, begun: Instant) -> Result<Call, Failure> {
    let node = NodeAddr::new(&asked.host, &asked.port)
        .map_err(|e| Failure::new(FailureKind::BadRequest, e.to_string()).hint("natssh proxy HOST PORT"))?;
    let paths = place::paths()?;
    let mut request = ConnectRequest::new(node);
    request.login = asked.login.clone();
    request.agent = std::env::var("SSH_AUTH_SOCK").ok().filter(|path| is_sendable(path));
    request.verdict = verdict(asked.fdpass);

    // The next broker may take as long as the answer may.
    let waits = Waits { begun, limit: LIMIT, answer: asked.connect_timeout, handover: LIMIT };
    until_answered(&paths, &waits, |call, deadline| connect(call, &mut request, deadline))
}

/// Who gets a descriptor speaks SSH by itself. Where that is to be found out, only ssh is believed to: libssh waits in
/// silence too, for as long as it takes to write a line.
fn verdict(how: Fdpass) -> Verdict {
    match how {
        Fdpass::Yes => Verdict::InStream,
        Fdpass::Auto if pass_fd::is_ssh_waiting() => Verdict::InStream,
        Fdpass::Auto | Fdpass::No => Verdict::InAnswer,
    }
}

/// An agent that cannot be named in a header is no reason to do without a stream.
fn is_sendable(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        && !path.ends_with(' ')
}

fn connect(call: Call, request: &mut ConnectRequest, deadline: Instant) -> Result<Call, Missed> {
    request.timeout = left(deadline).saturating_sub(MARGIN).max(Duration::from_millis(1));
    let bytes = request.encode().map_err(Missed::Failed)?;
    let head = call.ask(&bytes, deadline)?;
    check_version(&head).map_err(Missed::Failed)?;
    match head.status {
        200 => Ok(call),
        _ => Err(Missed::Failed(call.refusal(&head, deadline))),
    }
}

fn hand_over(call: Call, how: Fdpass) -> Result<(), Failure> {
    let stdout = rustix::stdio::stdout();
    let pass = match how {
        Fdpass::Auto => pass_fd::is_awaited(),
        Fdpass::No => false,
        Fdpass::Yes if pass_fd::can_carry(stdout) => true,
        Fdpass::Yes => {
            return Err(Failure::new(
                FailureKind::BadRequest,
                "stdout is no unix socket to pass a descriptor over",
            )
            .hint("ssh -o ProxyUseFdpass=yes"));
        }
    };
    let stream = call.into_stream()?;
    let cut = |what: String| Failure::new(FailureKind::Cut, what).hint("natssh status");
    if pass {
        return pass_fd::send(stdout, &stream).map_err(|e| cut(format!("pass the stream to ssh: {e}")));
    }
    match relay::run(stream) {
        Ok(relay::End::Quiet) => Ok(()),
        Ok(relay::End::Cut(e)) => Err(cut(format!("the stream from the broker broke: {e}"))),
        Err(e) => Err(Failure::new(FailureKind::Internal, format!("start a thread: {e}"))),
    }
}
