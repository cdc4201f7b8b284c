//! `natssh status`: the broker on one screen.

use crate::call::{Missed, Version, question};
use crate::table::Table;
use crate::words::{bytes, count, duration, milliseconds, now, one_line, relative};
use crate::{NO_BROKER, complain, place, sessions};
use natssh_wire::request::encode_get;
use natssh_wire::status::{Breaker, BreakerState, FailureRecord, Identity, Status, Upstream, UpstreamState};
use natssh_wire::{Failure, FailureKind, VERSION};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// How many failures fit on the screen; `natssh why` has the others.
const FAILURES_SHOWN: usize = 5;

/// Asks and prints. 0: healthy; 1: something needs a person; 3: no broker.
pub(crate) fn run(json: bool) -> Result<ExitCode, Failure> {
    let paths = place::paths()?;
    let body = match ask(&paths.socket, "/v1/status") {
        Ok(body) => body,
        Err(Missed::Absent) => return Ok(complain(&no_broker(), NO_BROKER)),
        Err(Missed::Failed(failure)) => return Err(failure),
    };
    let (text, healthy) = read(&body, json)?;
    Ok(print(&text, ExitCode::from(u8::from(!healthy))))
}

/// An answer as it is shown, and whether all is well.
pub(crate) fn read(body: &[u8], json: bool) -> Result<(String, bool), Failure> {
    let status: Status = serde_json::from_slice(body).map_err(odd_answer)?;
    let text = match json {
        true => String::from_utf8_lossy(body).trim_end().to_owned() + "\n",
        false => render(&status, now()),
    };
    Ok((text, status.healthy))
}

/// Asks a `GET` of whoever listens; starts nobody.
pub(crate) fn ask(socket: &Path, path: &str) -> Result<Vec<u8>, Missed> {
    let request = encode_get(path).map_err(Missed::Failed)?;
    question(socket, &request, Version::Ours)
}

/// An answer whose JSON is not what PROTOCOL.md says.
#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
pub(crate) fn odd_answer(error: serde_json::Error) -> Failure {
    Failure::new(FailureKind::Protocol, format!("the broker's answer is not understood: {error}"))
        .hint("natssh broker restart")
}

/// What is said where a broker is needed and none may be started.
pub(crate) fn no_broker() -> Failure {
    Failure::new(FailureKind::Unreachable, "no broker is running").hint("natssh broker start")
}

/// Writes to stdout; a reader that has seen enough, such as `head`, is no failure.
pub(crate) fn print(text: &str, status: ExitCode) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&Failure::new(FailureKind::Internal, format!("write to stdout: {e}")), 1)
        }
        _ => status,
    }
}

/// The whole screen.
pub(crate) fn render(status: &Status, now: u64) -> String {
    let mut parts = vec![summary(status)];
    if !status.upstreams.is_empty() {
        parts.push(upstreams(&status.upstreams, now));
    }
    if !status.sessions.is_empty() {
        parts.push(sessions::summary(&status.sessions, now));
    }
    if !status.identities.is_empty() {
        parts.push(identities(&status.identities, now));
    }
    if !status.failures.is_empty() {
        parts.push(failures(&status.failures, now));
    }
    parts.join("\n")
}

/// `connected`, `not yet valid`: a state as its own word.
pub(crate) fn state_word(state: UpstreamState) -> &'static str {
    match state {
        UpstreamState::Idle => "idle",
        UpstreamState::Connecting => "connecting",
        UpstreamState::Connected => "connected",
        UpstreamState::Suspect => "suspect",
        UpstreamState::Down => "down",
    }
}

/// One failure: when, who, how often, and below it what to type.
pub(crate) fn failure_lines(failure: &FailureRecord, now: u64) -> String {
    let mut who: Vec<String> = failure.node.iter().map(|node| one_line(node)).collect();
    who.extend(failure.upstream.iter().map(|upstream| format!("through {}", one_line(upstream))));
    if failure.count > 1 {
        who.push(count(failure.count, "time"));
    }
    let who = if who.is_empty() { String::new() } else { format!("{}: ", who.join(", ")) };
    let mut text = format!("{:<10}  {who}{}\n", relative(failure.at, now), one_line(&failure.message));
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("{:<10}  try: {}\n", "", one_line(hint)));
    }
    text
}

fn summary(status: &Status) -> String {
    let health = match (status.draining, status.healthy) {
        (true, _) => "draining",
        (false, true) => "healthy",
        (false, false) => "needs you",
    };
    let mut text = format!(
        "broker {}  {health}  pid {}  up {}  {}\nsocket {}\nconfig {}\n",
        one_line(&status.version),
        status.pid,
        duration(status.uptime_seconds),
        bytes(status.memory_bytes),
        one_line(&status.socket),
        status.config.as_deref().map_or_else(|| "none, defaults are in force".into(), one_line),
    );
    if let Some(address) = &status.metrics {
        text.push_str(&format!("metrics http://{}/metrics\n", one_line(address)));
    }
    for warning in &status.warnings {
        text.push_str(&format!("warning: {}\n", one_line(warning)));
    }
    if status.version != VERSION {
        text.push_str(&format!("natssh {VERSION} asks a broker of another version: natssh broker restart\n"));
    }
    let seen = &status.requests;
    let refused: Vec<String> = [
        (seen.strangers, "of another user"),
        (seen.malformed, "not understood"),
        (seen.timed_out, "never finished"),
        (seen.busy, "too many at once"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{number} {what}"))
    .collect();
    if !refused.is_empty() {
        text.push_str(&format!("requests {}, of them refused: {}\n", seen.accepted, refused.join(", ")));
    }
    text
}

fn upstreams(upstreams: &[Upstream], now: u64) -> String {
    let titles = ["UPSTREAM", "STATE", "ADDRESS", "CLUSTER", "TRUNKS", "STREAMS", "ROUND TRIP", "DIALS"];
    let mut table = Table::new(&titles);
    let mut notes = String::new();
    for upstream in upstreams {
        let failed = match upstream.dials_failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        table.row(vec![
            one_line(&upstream.name),
            state_word(upstream.state).into(),
            one_line(&upstream.address),
            upstream.cluster.as_deref().map(one_line).unwrap_or_default(),
            upstream.trunks.len().to_string(),
            upstream.streams.to_string(),
            upstream.round_trip_ms.map(milliseconds).unwrap_or_default(),
            format!("{} ok{failed}", upstream.dials_ok),
        ]);
        for note in upstream_notes(upstream, now) {
            notes.push_str(&format!("  {}: {note}\n", one_line(&upstream.name)));
        }
    }
    table.render() + &notes
}

/// What the table has no column for: the last error, the next dial, warnings.
pub(crate) fn upstream_notes(upstream: &Upstream, now: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(error) = &upstream.last_error {
        let hint = error.hint.as_ref().map(|hint| format!(" ({})", one_line(hint))).unwrap_or_default();
        notes.push(format!("last error {}: {}{hint}", relative(error.at, now), one_line(&error.message)));
    }
    if let Some(at) = upstream.next_dial_at.filter(|at| *at > now) {
        notes.push(format!("next dial {}", relative(at, now)));
    }
    notes.extend(upstream.breakers.iter().map(|breaker| refused(&upstream.name, breaker, now)));
    for line in upstream.handshakes.iter().filter(|line| line.waiting > 0) {
        notes.push(format!(
            "{} waiting for {}: {} of {} handshakes in flight",
            count(line.waiting, "caller"),
            one_line(&line.server),
            line.in_flight,
            line.limit
        ));
    }
    if upstream.told_busy > 0 {
        notes.push(format!("{} told \"busy\" since the start", count(upstream.told_busy, "caller")));
    }
    if upstream.streams_cut > 0 {
        notes.push(format!("{} cut since the start", count(upstream.streams_cut, "stream")));
    }
    notes.extend(upstream.warnings.iter().map(|warning| one_line(warning)));
    notes
}

/// Who was refused where, until when, and how to try at once.
fn refused(upstream: &str, breaker: &Breaker, now: u64) -> String {
    let login = breaker.login.as_deref().map(|login| format!(" as {}", one_line(login))).unwrap_or_default();
    let next = match breaker.state {
        BreakerState::Open => format!("asked again {}", relative(breaker.until, now)),
        BreakerState::HalfOpen => "the next caller asks".into(),
    };
    format!(
        "{} refused identity {}{login} {}; {next}, or now: natssh retry {}",
        one_line(&breaker.server),
        one_line(&breaker.identity),
        count(breaker.refusals.into(), "time"),
        one_line(upstream),
    )
}

fn identities(identities: &[Identity], now: u64) -> String {
    let mut table = Table::new(&["IDENTITY", "STATE", "USER", "LOGINS", "EXPIRES", "SOURCE"]);
    let mut notes = String::new();
    for identity in identities {
        table.row(vec![
            one_line(&identity.name),
            identity.state.in_words().into(),
            identity.user.as_deref().map(one_line).unwrap_or_default(),
            one_line(&identity.principals.join(", ")),
            identity.valid_until.map(|until| relative(until, now)).unwrap_or_default(),
            one_line(&identity.source),
        ]);
        if let Some(message) = &identity.message {
            let hint = identity.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            notes.push_str(&format!("  {}\n", one_line(&format!("{}: {message}{hint}", identity.name))));
        }
    }
    table.render() + &notes
}

fn failures(failures: &[FailureRecord], now: u64) -> String {
    let mut text = String::from("RECENT FAILURES\n");
    for failure in failures.iter().take(FAILURES_SHOWN) {
        text.push_str(&failure_lines(failure, now));
    }
    if failures.len() > FAILURES_SHOWN {
        text.push_str(&format!("and {} more: natssh why HOST\n", failures.len() - FAILURES_SHOWN));
    }
    text
}
