//! `natssh sessions`: the authenticated connections to nodes, listed and closed.

use crate::call::{Missed, Version, question};
use crate::status::{ask, no_broker, odd_answer, print};
use crate::table::Table;
use crate::words::{bytes, count, duration, milliseconds, now, one_line, relative};
use crate::{NO_BROKER, complain, place};
use natssh_wire::request::{encode_delete, percent_encode};
use natssh_wire::status::{Closed, Session, SessionState, Status};
use natssh_wire::{Failure, NodeAddr};
use std::cmp::Reverse;
use std::process::ExitCode;

/// How many fit on the screen of `natssh status`.
const SHOWN: usize = 10;

/// Asks and prints all of them. 0: done; 3: no broker runs.
pub(crate) fn list(json: bool) -> Result<ExitCode, Failure> {
    let paths = place::paths()?;
    let body = match ask(&paths.socket, "/v1/status") {
        Ok(body) => body,
        Err(Missed::Absent) => return Ok(complain(&no_broker(), NO_BROKER)),
        Err(Missed::Failed(failure)) => return Err(failure),
    };
    let status: Status = serde_json::from_slice(&body).map_err(odd_answer)?;
    let text = match (json, status.sessions.is_empty()) {
        (true, _) => serde_json::to_string_pretty(&status.sessions).map_err(odd_answer)? + "\n",
        (false, true) => "no sessions are open\n".into(),
        (false, false) => table(&status.sessions.iter().collect::<Vec<_>>(), now()),
    };
    Ok(print(&text, ExitCode::SUCCESS))
}

/// Closes those of a host, or all. 0: none is left that takes commands; 3: no broker runs.
pub(crate) fn close(host: Option<&str>) -> Result<ExitCode, Failure> {
    let paths = place::paths()?;
    // `user@host` is what people have in their history.
    let host = host.map(|host| host.rsplit_once('@').map_or(host, |(_, host)| host));
    let path = host.map_or_else(String::new, |host| format!("/{}", percent_encode(host)));
    let request = encode_delete(&format!("/v1/sessions{path}"))?;
    let body = match question(&paths.socket, &request, Version::Ours) {
        Ok(body) => body,
        Err(Missed::Absent) => return Ok(complain(&no_broker(), NO_BROKER)),
        Err(Missed::Failed(failure)) => return Err(failure),
    };
    let Closed { closed } = serde_json::from_slice(&body).map_err(odd_answer)?;
    let of = host.map_or_else(String::new, |host| format!(" to {}", one_line(host)));
    let text = match closed {
        0 => format!("no session{of} was open\n"),
        closed => format!("{}{of} closed\n", count(closed, "session")),
    };
    Ok(print(&text, ExitCode::SUCCESS))
}

/// The part of `natssh status`: what needs attention first, then what is in use, then what was used last.
pub(crate) fn summary(sessions: &[Session], now: u64) -> String {
    let mut sorted: Vec<_> = sessions.iter().collect();
    sorted.sort_by_key(|session| {
        (session.state == SessionState::Open, Reverse(session.channels), session.idle_seconds)
    });
    let mut text = table(&sorted[..sorted.len().min(SHOWN)], now);
    if sorted.len() > SHOWN {
        text.push_str(&format!("and {} more: natssh sessions\n", sorted.len() - SHOWN));
    }
    text
}

fn table(sessions: &[&Session], now: u64) -> String {
    let titles =
        ["SESSION", "STATE", "UPSTREAM", "OPEN FOR", "IDLE", "COMMANDS", "ROUND TRIP", "SENT", "RECEIVED"];
    let mut table = Table::new(&titles);
    let mut notes = String::new();
    for session in sessions {
        let who = one_line(&format!("{}@{}", session.user, session.node));
        table.row(vec![
            who.clone(),
            session.state.in_words().into(),
            session.upstream.as_deref().map(one_line).unwrap_or_default(),
            session.opened_at.map(|at| duration(now.saturating_sub(at))).unwrap_or_default(),
            session.idle_seconds.map(duration).unwrap_or_default(),
            format!("{} of {}", session.channels, session.channels_total),
            session.round_trip_ms.map(milliseconds).unwrap_or_default(),
            bytes(session.bytes_to_node),
            bytes(session.bytes_from_node),
        ]);
        for note in self::notes(session, now) {
            notes.push_str(&format!("  {who}: {note}\n"));
        }
    }
    table.render() + &notes
}

/// What the table has no column for.
fn notes(session: &Session, now: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if session.waiting > 0 {
        notes.push(format!("{} waiting for a place", count(session.waiting, "command")));
    }
    if let Some(at) = session.next_try_at.filter(|at| *at > now) {
        let host = NodeAddr::parse(&session.node).map_or_else(|_| session.node.clone(), |node| node.host);
        notes.push(format!(
            "asked again {}, or by the next command: natssh sessions close {}",
            relative(at, now),
            one_line(&host)
        ));
    }
    if let Some(failure) = &session.last_failure {
        let hint = failure.hint.as_ref().map(|hint| format!(" ({})", one_line(hint))).unwrap_or_default();
        notes.push(format!(
            "last failure {}: {}{hint}",
            relative(failure.at, now),
            one_line(&failure.message)
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(node: &str, state: SessionState) -> Session {
        let text = r#"{"node": "", "user": "root", "state": "open", "channels": 0, "channels_total": 7,
            "idle_seconds": 125, "opened_at": 400, "round_trip_ms": 41.2, "bytes_to_node": 100,
            "bytes_from_node": 4096, "upstream": "office"}"#;
        Session { node: node.into(), state, ..serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn a_session_is_a_line_and_what_is_wrong_with_it_another() {
        let refused = serde_json::from_str(
            r#"{"node": "db-1:22", "user": "deploy", "state": "refused", "channels": 0, "channels_total": 0,
            "next_try_at": 1030, "waiting": 2, "last_failure": {"at": 940, "count": 1, "kind": "denied",
            "message": "deploy@db-1: Permission denied (publickey)", "hint": "ssh -v"}}"#,
        )
        .unwrap();
        let text = summary(&[session("web-1:22", SessionState::Open), refused], 1000);
        let expected = "\
SESSION        STATE    UPSTREAM  OPEN FOR  IDLE  COMMANDS  ROUND TRIP  SENT   RECEIVED
deploy@db-1:22  refused  -         -         -     0 of 0    -           0 B    0 B
root@web-1:22   open     office    10 m      2 m   0 of 7    41 ms       100 B  4 KiB
  deploy@db-1:22: 2 commands waiting for a place
  deploy@db-1:22: asked again in 30 s, or by the next command: natssh sessions close db-1
  deploy@db-1:22: last failure 1 m ago: deploy@db-1: Permission denied (publickey) (ssh -v)
";
        let words = |text: &str| -> Vec<Vec<String>> {
            text.lines()
                .map(|line| {
                    line.split("  ")
                        .map(|cell| cell.trim().to_owned())
                        .filter(|cell| !cell.is_empty())
                        .collect()
                })
                .collect()
        };
        assert_eq!(words(&text), words(expected));
    }

    #[test]
    fn a_thousand_sessions_leave_the_screen_calm_and_troubled_ones_on_top() {
        let mut all: Vec<_> =
            (0..1000).map(|n| session(&format!("web-{n}:22"), SessionState::Open)).collect();
        all[700].state = SessionState::Suspect;
        all[900].channels = 3;
        let text = summary(&all, 1000);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 12);
        assert!(lines[1].starts_with("root@web-700:22") && lines[2].starts_with("root@web-900:22"), "{text}");
        assert_eq!(lines[11], "and 990 more: natssh sessions");
    }
}
