//! What a Teleport proxy means by its refusals. No I/O.
//!
//! The texts are those of Teleport 4 to 18 (lib/srv/regular/proxy.go,
//! lib/proxy/router.go), sent on extended data before the failure.

use crate::text::one_line;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::time::Duration;

/// A refusal, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The proxy records sessions and wants the agent: ask again with it.
    WantsAgent(Failure),
    /// The node has no tunnel now; just after the proxy came back it may be on its way.
    MayRejoin(Failure),
    /// Asking again is no use.
    Final(Failure),
}

/// Reads the proxy's text for a stream to `node`.
pub(super) fn read(text: &str, node: &NodeAddr) -> Refusal {
    let lower = text.to_lowercase();
    let has = |part: &str| lower.contains(part);
    let say = |kind, message: String| Failure::new(kind, message);
    if has("agent forwarding required") || has("agent forwarding has not been requested") {
        let text =
            "the proxy records sessions and needs the agent, which the role does not allow (forward_agent)";
        return Refusal::WantsAgent(say(FailureKind::Denied, text.into()));
    }
    if has("ambiguous") {
        let text =
            format!("more than one node is called {}: use its UUID, or map the name in a route", node.host);
        return Refusal::Final(say(FailureKind::Ambiguous, text).hint("tsh ls -v"));
    }
    if has("unknown cluster") || has("cluster") && has("is not found") {
        let text =
            format!("the proxy does not know the cluster asked for node {}: {}", node.host, one_line(text));
        return Refusal::Final(say(FailureKind::UnknownNode, text).hint("tsh clusters"));
    }
    // The proxy before v14 says the same for a node it never heard of and for
    // one whose tunnel is gone; only the place of the node's id differs.
    if has("no node reverse tunnel for  found") {
        let text = format!("no node called {} is known to the proxy, or it never connected", node.host);
        return Refusal::MayRejoin(say(FailureKind::UnknownNode, text).hint("tsh ls"));
    }
    // A proxy that has no tunnel to it tries by itself (lib/proxy/router.go; 14.0.0-dev as well as those before).
    if has("over direct dial") {
        if has("no such host") {
            let text = format!("no node called {} is known to the proxy", node.host);
            return Refusal::MayRejoin(say(FailureKind::UnknownNode, text).hint("tsh ls"));
        }
        let why =
            text.lines().map(str::trim).find(|line| line.starts_with("dial ")).unwrap_or("no reason given");
        let text = format!(
            "node {} is offline: it has no tunnel, and the proxy cannot dial it ({})",
            node.host,
            one_line(why)
        );
        return Refusal::MayRejoin(say(FailureKind::Offline, text).hint("tsh ls"));
    }
    if has("no tunnel connection found") || has("agent is offline or has disconnected") {
        let text = format!("node {} is offline: the proxy knows it, but it has no tunnel", node.host);
        return Refusal::MayRejoin(say(FailureKind::Offline, text).hint("tsh ls"));
    }
    if has("is offline or does not exist") {
        let text = format!("node {} is offline or does not exist", node.host);
        return Refusal::MayRejoin(say(FailureKind::Offline, text).hint("tsh ls"));
    }
    if has("unable to locate node") || has("direct dialing to nodes not found") {
        let text = format!("no node called {} is known to the proxy", node.host);
        return Refusal::Final(say(FailureKind::UnknownNode, text).hint("tsh ls"));
    }
    if has("mfa") {
        let text = format!(
            "node {} wants multi-factor authentication for each session, which needs a person",
            node.host
        );
        return Refusal::Final(say(FailureKind::Denied, text).hint(format!("tsh ssh {}", node.host)));
    }
    if has("access denied") || has("access to") && has("denied") {
        let text = format!("the proxy denies access to {}: {}", node.host, one_line(text));
        return Refusal::Final(say(FailureKind::Denied, text).hint("tsh status"));
    }
    let said = one_line(text);
    let said = if said.is_empty() { "it gave no reason".into() } else { said };
    Refusal::Final(
        say(FailureKind::Protocol, format!("the proxy refused a stream to {node}: {said}"))
            .hint("natssh status"),
    )
}

/// The limit in "Client exceeded idle timeout of 20s" (lib/srv/monitor.go), if the text is that.
pub(in crate::upstream) fn idle_limit(text: &str) -> Option<Duration> {
    let lower = text.to_lowercase();
    let after = &lower[lower.find("idle timeout of ")? + "idle timeout of ".len()..];
    go_duration(after.split_whitespace().next()?)
}

/// A duration as Go prints it: `20s`, `1m30s`, `1h0m0s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut number = String::new();
    let mut units = 0;
    for c in text.trim_end_matches(['.', ',']).chars() {
        let unit = match c {
            '0'..='9' | '.' => {
                number.push(c);
                continue;
            }
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        number.clear();
        units += 1;
    }
    (units > 0 && number.is_empty() && seconds < 1e9).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(text: &str) -> (FailureKind, &'static str) {
        match read(text, &NodeAddr::parse("worker:22").unwrap()) {
            Refusal::WantsAgent(f) => (f.kind, "agent"),
            Refusal::MayRejoin(f) => (f.kind, "rejoin"),
            Refusal::Final(f) => (f.kind, "final"),
        }
    }

    /// Texts of real clusters, to the letter.
    #[test]
    fn the_proxys_texts_are_understood() {
        let offline = |agent: &str, id: &str| {
            format!(
                "Teleport proxy failed to connect to \"node\" agent \"{agent}\" over reverse tunnel:\n\n  no tunnel \
                 connection found: no node reverse tunnel for {id} found\n\nThis usually means that the agent is \
                 offline or has disconnected. Check the\nagent logs and, if the issue persists, try restarting it or \
                 re-registering it\nwith the cluster."
            )
        };
        let by_itself = |why: &str| {
            format!(
                "Teleport proxy failed to connect to \"node\" agent \"worker:22\" over direct dial:\n\n  {why}\n\nThis \
                 usually means that the agent is offline or has disconnected. Check the\nagent logs and, if the issue \
                 persists, try restarting it or re-registering it\nwith the cluster."
            )
        };
        for (text, expected) in [
            (
                by_itself("dial tcp: lookup worker on 10.0.0.53:53: no such host").as_str(),
                (FailureKind::UnknownNode, "rejoin"),
            ),
            (
                &by_itself("dial tcp 10.0.0.7:22: connect: connection refused"),
                (FailureKind::Offline, "rejoin"),
            ),
            (offline("nosuchhost:22", "").as_str(), (FailureKind::UnknownNode, "rejoin")),
            (
                &offline("@local-node", "fa133e75-987d-43e7-ae56-b86504d7588c.poc"),
                (FailureKind::Offline, "rejoin"),
            ),
            (
                "invalid format for proxy request: unknown cluster \"nosuchcluster\"",
                (FailureKind::UnknownNode, "final"),
            ),
            ("unable to locate node matching uuid-like target 1111", (FailureKind::UnknownNode, "final")),
            ("err-node-is-ambiguous", (FailureKind::Ambiguous, "final")),
            ("target host worker is offline or does not exist", (FailureKind::Offline, "rejoin")),
            (
                "direct dialing to nodes not found in inventory is not supported",
                (FailureKind::UnknownNode, "final"),
            ),
            ("agent forwarding required in proxy recording mode", (FailureKind::Denied, "agent")),
            ("access to resource requires MFA", (FailureKind::Denied, "final")),
            ("", (FailureKind::Protocol, "final")),
            ("something new", (FailureKind::Protocol, "final")),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
    }

    #[test]
    fn the_idle_limit_is_learned_from_the_proxys_own_words() {
        let limit = |text| idle_limit(text).map(|d| d.as_secs());
        assert_eq!(limit("Client exceeded idle timeout of 20s"), Some(20));
        assert_eq!(limit("client exceeded idle timeout of 1h2m3s\r\n"), Some(3723));
        assert_eq!(limit("idle timeout of ever"), None);
        assert_eq!(limit("Client certificate expired at 2026"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", duration in "[0-9hms.]{0,20}") {
            kind(&text);
            idle_limit(&text);
            idle_limit(&format!("idle timeout of {duration}"));
        }
    }
}
