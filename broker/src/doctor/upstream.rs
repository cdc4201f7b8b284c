//! The upstreams: their names, and what came of dialling them.
//!
//! The broker dials, with all that belongs to a trunk: a bare connection would
//! count as an unauthenticated one at the server, and prove less.

use super::Finding;
use super::bounded::within;
use crate::config::{Kind, Settings, Upstream};
use crate::identity::Source;
use natssh_wire::NodeAddr;
use natssh_wire::status::{self, Breaker, Status, UpstreamState};
use std::collections::BTreeMap;
use std::net::ToSocketAddrs as _;
use std::time::Duration;

/// A resolver that takes longer makes every dial too late.
const LIMIT: Duration = Duration::from_secs(4);

/// What the name of an upstream's server came to: so many addresses, or why there is none.
pub(super) type Names = BTreeMap<String, Result<usize, String>>;

pub(super) fn gather(settings: Option<&Settings>) -> Names {
    let upstreams = settings.into_iter().flat_map(|settings| settings.upstreams.values());
    let servers = upstreams.filter_map(|upstream| Some((upstream.name.clone(), upstream.proxy()?.clone())));
    servers.map(|(name, server)| (name, resolve(server))).collect()
}

fn resolve(server: NodeAddr) -> Result<usize, String> {
    let asked =
        within(LIMIT, move || (server.host.as_str(), server.port).to_socket_addrs().map(Iterator::count));
    match asked {
        Some(Ok(count)) => Ok(count),
        Some(Err(error)) => Err(error.to_string()),
        None => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

pub(super) fn judge(settings: Option<&Settings>, names: &Names, answer: Option<&Status>) -> Vec<Finding> {
    let Some(settings) = settings else { return Vec::new() };
    let each = |upstream: &Upstream| match upstream.kind {
        Kind::Direct => Vec::new(),
        Kind::Command(_) => {
            let text = format!("{}: a command for each connection, which is not run to look", upstream.name);
            vec![Finding::ok("upstream", text)]
        }
        Kind::Teleport { .. } | Kind::Bastion(_) => {
            dialled(settings, upstream, names.get(&upstream.name), answer)
        }
    };
    settings.upstreams.values().flat_map(each).collect()
}

/// An upstream with trunks: its name, then what the broker made of it.
fn dialled(
    settings: &Settings,
    upstream: &Upstream,
    resolved: Option<&Result<usize, String>>,
    answer: Option<&Status>,
) -> Vec<Finding> {
    let name = &upstream.name;
    let addresses = match (upstream.proxy(), resolved) {
        (Some(server), Some(Err(error))) => {
            let text = format!("{name}: the name {} cannot be resolved: {error}", server.host);
            return vec![Finding::failure("upstream", text, format!("getent hosts {}", server.host))];
        }
        (_, Some(Ok(count))) if *count > 1 => format!(" ({count} addresses)"),
        _ => String::new(),
    };
    let Some(answer) = answer else {
        let text = format!("{name}: not dialled, there is no broker to do it");
        return vec![Finding::warning("upstream", text, "natssh broker start")];
    };
    let Some(found) = answer.upstreams.iter().find(|found| found.name == *name) else {
        let text = format!("{name}: the broker does not know it yet");
        return vec![Finding::warning("upstream", text, "natssh broker reload")];
    };
    let identity = upstream.identity.as_ref().and_then(|name| settings.identities.get(name));
    if found.state == UpstreamState::Idle && matches!(identity, Some(Source::Agent(None))) {
        let text = format!("{name} at {}{addresses}: dialled with each caller's own agent", found.address);
        return vec![Finding::ok("upstream", text)];
    }
    found_by_broker(found, &addresses)
}

/// What the broker says of an upstream that it was told to dial.
fn found_by_broker(found: &status::Upstream, addresses: &str) -> Vec<Finding> {
    let what = format!("{} at {}{addresses}", found.name, found.address);
    let error = found.last_error.as_ref();
    let why = error.map(|error| format!(": {}", error.message)).unwrap_or_default();
    let fix = error.and_then(|error| error.hint.clone()).unwrap_or_else(|| "natssh status".into());
    let first = match found.state {
        UpstreamState::Connected => {
            let server = found.server.as_deref().unwrap_or("a server without a name");
            let round_trip = found.round_trip_ms.map(|ms| format!(", {ms:.1} ms away")).unwrap_or_default();
            Finding::ok("upstream", format!("{what}: dialled and authenticated, {server}{round_trip}"))
        }
        UpstreamState::Down => Finding::failure("upstream", format!("{what} is down{why}"), fix),
        UpstreamState::Suspect => {
            Finding::failure("upstream", format!("{what} does not answer at the moment{why}"), fix)
        }
        // Five seconds are what a dial may take.
        UpstreamState::Connecting => {
            Finding::failure("upstream", format!("{what} has not answered in time{why}"), fix)
        }
        // It was not even dialled: its identity is missing, and that has a finding of its own.
        UpstreamState::Idle => Finding::failure("upstream", format!("{what} was not dialled{why}"), fix),
    };
    let warnings = found
        .warnings
        .iter()
        .map(|warning| Finding::warning("upstream", format!("{}: {warning}", found.name), "natssh status"));
    let refused = found.breakers.iter().map(|breaker| refused(&found.name, breaker));
    std::iter::once(first).chain(refused).chain(warnings).collect()
}

/// A server behind an upstream, or the upstream's own, that is not asked again for a while.
fn refused(upstream: &str, breaker: &Breaker) -> Finding {
    let login = breaker.login.as_ref().map(|login| format!(" as {login}")).unwrap_or_default();
    let (server, identity) = (&breaker.server, &breaker.identity);
    let text =
        format!("{upstream}: {server} refused identity {identity}{login}, and is left in peace for a while");
    Finding::failure("upstream", text, format!("natssh retry {upstream}"))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use natssh_wire::FailureKind;
    use natssh_wire::status::FailureRecord;

    fn upstream(state: UpstreamState) -> status::Upstream {
        let text = r#"{"name": "office", "kind": "teleport", "address": "p:3023", "state": "idle", "trunks": [],
            "streams": 0, "streams_total": 0, "streams_cut": 0, "dials_ok": 0, "dials_failed": 0}"#;
        status::Upstream { state, ..serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn an_upstream_that_was_dialled_says_who_answered_and_how_far_away() {
        let found = status::Upstream {
            server: Some("SSH-2.0-Teleport".into()),
            round_trip_ms: Some(41.26),
            warnings: vec!["an old proxy".into()],
            ..upstream(UpstreamState::Connected)
        };
        let findings = found_by_broker(&found, " (2 addresses)");
        assert_eq!(
            findings[0],
            Finding::ok(
                "upstream",
                "office at p:3023 (2 addresses): dialled and authenticated, SSH-2.0-Teleport, 41.3 ms away"
            )
        );
        assert_eq!(findings[1].verdict, Verdict::Warning);
    }

    #[test]
    fn a_refusal_is_told_with_the_way_to_ask_again() {
        let breaker = Breaker {
            server: "p:3023".into(),
            login: Some("ops".into()),
            identity: "me".into(),
            state: status::BreakerState::Open,
            refusals: 1,
            until: 60,
        };
        let found = status::Upstream { breakers: vec![breaker], ..upstream(UpstreamState::Connected) };
        let finding = &found_by_broker(&found, "")[1];
        assert_eq!(finding.verdict, Verdict::Failure);
        assert!(finding.message.contains("p:3023 refused identity me as ops"), "{}", finding.message);
        assert!(finding.fix.as_ref().is_some_and(|fix| fix.contains("natssh retry office")));
    }

    #[test]
    fn one_that_is_not_open_fails_with_the_brokers_reason_and_hint() {
        let last_error = FailureRecord {
            at: 1,
            count: 1,
            node: None,
            upstream: None,
            kind: FailureKind::Unreachable,
            message: "connection refused".into(),
            hint: Some("tsh status".into()),
        };
        for state in
            [UpstreamState::Down, UpstreamState::Suspect, UpstreamState::Connecting, UpstreamState::Idle]
        {
            let found = status::Upstream { last_error: Some(last_error.clone()), ..upstream(state) };
            let finding = &found_by_broker(&found, "")[0];
            assert_eq!((finding.verdict, finding.fix.as_deref()), (Verdict::Failure, Some("tsh status")));
            assert!(finding.message.ends_with(": connection refused"), "{}", finding.message);
        }
    }
}
