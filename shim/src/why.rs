//! `natssh why HOST`: what went wrong with a node, when ssh's stderr went nowhere.

use crate::call::Missed;
use crate::status::{ask, failure_lines, no_broker, odd_answer, print, state_word, upstream_notes};
use crate::words::{count, duration, now, one_line};
use crate::{NO_BROKER, complain, place, start};
use natssh_wire::request::percent_encode;
use natssh_wire::status::{Failures, Status};
use natssh_wire::{Failure, NodeAddr};
use std::process::ExitCode;
use std::time::Instant;

/// Asks and prints. 0: nothing failed lately; 1: something did; 3: no broker can be started.
pub(crate) fn run(host: &str) -> Result<ExitCode, Failure> {
    // `user@host` and `host:port` are what people have in their history.
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = &NodeAddr::parse(host).map_or_else(|_| host.to_owned(), |node| node.host);
    let paths = place::paths()?;
    let question = format!("/v1/failures?node={}", percent_encode(host));
    let answers = || {
        ask(&paths.socket, &question).and_then(|failures| Ok((failures, ask(&paths.socket, "/v1/status")?)))
    };
    let mut answered = answers();
    if matches!(answered, Err(Missed::Absent)) {
        // ssh would have had one started: what is in its way is the reason that is asked for.
        match start::start(&paths, Instant::now() + start::PATIENCE) {
            Ok(_) => answered = answers(),
            Err(failure) => return Ok(complain(&failure, NO_BROKER)),
        }
    }
    let (failures, status) = match answered {
        Ok(bodies) => bodies,
        Err(Missed::Absent) => return Ok(complain(&no_broker(), NO_BROKER)),
        Err(Missed::Failed(failure)) => return Err(failure),
    };
    let failures: Failures = serde_json::from_slice(&failures).map_err(odd_answer)?;
    let status: Status = serde_json::from_slice(&status).map_err(odd_answer)?;
    let text = render(host, &failures, &status, now());
    Ok(print(&text, ExitCode::from(u8::from(!failures.failures.is_empty()))))
}

/// The failures of the node, then the state of its upstream.
fn render(host: &str, failures: &Failures, status: &Status, now: u64) -> String {
    let host = one_line(host);
    let mut text = match failures.failures.len() as u64 {
        0 => {
            format!("no failure of {host} since the broker started {} ago\n", duration(status.uptime_seconds))
        }
        number => format!("{host}: {}, newest first\n", count(number, "failure")),
    };
    for failure in &failures.failures {
        text.push_str(&failure_lines(failure, now));
    }
    let known = failures.upstream.as_deref();
    for upstream in status.upstreams.iter().filter(|u| known.is_none_or(|name| name == u.name)) {
        let (name, state) = (one_line(&upstream.name), state_word(upstream.state));
        let trunks = count(upstream.trunks.len() as u64, "trunk");
        let streams = count(upstream.streams, "stream");
        let its = if known.is_some() { "its upstream" } else { "upstream" };
        text.push_str(&format!("{its} {name} is {state}: {trunks}, {streams}\n"));
        for note in upstream_notes(upstream, now) {
            text.push_str(&format!("  {note}\n"));
        }
    }
    text
}
