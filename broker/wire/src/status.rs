//! What `GET /v1/status` and `GET /v1/failures` answer. Stable: fields are added, never renamed.
//!
//! Times are seconds since 1970 (UTC), durations carry their unit in the name.

use crate::FailureKind;
use serde::{Deserialize, Serialize};

/// The whole broker at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The broker's version.
    pub version: String,
    /// The version of the local API it speaks.
    pub protocol: u32,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started_at: u64,
    /// How long it has run.
    pub uptime_seconds: u64,
    /// Resident memory (`VmRSS`), 0 where the platform does not tell.
    pub memory_bytes: u64,
    /// The socket it listens on.
    pub socket: String,
    /// The configuration file in force, if there is one.
    #[serde(default)]
    pub config: Option<String>,
    /// Where metrics are served besides the local socket (`127.0.0.1:9464`), while that port is open.
    #[serde(default)]
    pub metrics: Option<String>,
    /// False when something needs a person: an upstream down, an identity expired.
    pub healthy: bool,
    /// True once it takes no new streams.
    pub draining: bool,
    /// One entry an upstream, by name.
    pub upstreams: Vec<Upstream>,
    /// One entry an identity, by name.
    pub identities: Vec<Identity>,
    /// One entry a session, by node; and one for each node that refused and is left in peace for a while.
    #[serde(default)]
    pub sessions: Vec<Session>,
    /// The last failures, newest first (at most 20 here; `GET /v1/failures` has them all).
    pub failures: Vec<FailureRecord>,
    /// What the doors saw.
    pub requests: Requests,
    /// Things a person should know of the broker as a whole though nothing failed.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Requests at the local door since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Connections accepted.
    pub accepted: u64,
    /// Peers of another user, refused.
    pub strangers: u64,
    /// Requests that were not understood: garbage, oversized headers, unknown paths.
    pub malformed: u64,
    /// Clients that connected and did not finish a request in time.
    pub timed_out: u64,
    /// Connections refused because too many were open.
    pub busy: u64,
}

/// How an upstream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamState {
    /// Nobody has asked for it yet, or its trunks were closed for lack of use.
    Idle,
    /// A first trunk is being dialled.
    Connecting,
    /// At least one trunk takes streams.
    Connected,
    /// The last trunk has not answered for a while (15 s); nothing new is put on it.
    Suspect,
    /// The last dial failed; the next one waits for its back-off or for a request.
    Down,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name in the configuration, or the tsh profile's.
    pub name: String,
    /// `teleport`, `command` or `direct`.
    pub kind: String,
    /// `host:port` of the proxy; for `command` the command as it was written; empty for `direct`.
    pub address: String,
    /// The cluster its nodes belong to, where that is known.
    #[serde(default)]
    pub cluster: Option<String>,
    /// How it is doing.
    pub state: UpstreamState,
    /// The identity it authenticates with.
    #[serde(default)]
    pub identity: Option<String>,
    /// Trunks open now, draining ones included.
    pub trunks: Vec<Trunk>,
    /// Streams open now.
    pub streams: u64,
    /// Streams opened since the start.
    pub streams_total: u64,
    /// Streams that were opened and ended by the upstream or the network before their end.
    pub streams_cut: u64,
    /// Trunk dials that succeeded.
    pub dials_ok: u64,
    /// Trunk dials that failed.
    pub dials_failed: u64,
    /// The last keepalive's round trip on the youngest trunk.
    #[serde(default)]
    pub round_trip_ms: Option<f64>,
    /// The last failure of a dial or a trunk, even if it has recovered since.
    #[serde(default)]
    pub last_error: Option<FailureRecord>,
    /// When the next dial may be made, while the upstream is down.
    #[serde(default)]
    pub next_dial_at: Option<u64>,
    /// The identification the server sent, such as `SSH-2.0-Teleport`.
    #[serde(default)]
    pub server: Option<String>,
    /// True when the server offers nothing newer than SHA-1 RSA (Teleport up to v8).
    #[serde(default)]
    pub sha1: bool,
    /// The idle limit of the cluster, learned from trunks that were cut by it.
    #[serde(default)]
    pub idle_limit_seconds: Option<u64>,
    /// Servers with handshakes in flight or callers waiting for one, the fullest first (at most 10).
    #[serde(default)]
    pub handshakes: Vec<Handshakes>,
    /// Servers that refused an authentication and are not asked again for a while.
    #[serde(default)]
    pub breakers: Vec<Breaker>,
    /// Callers that were told "busy", because their turn for a handshake did not come in time.
    #[serde(default)]
    pub told_busy: u64,
    /// Things a person should know though nothing failed.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The handshakes in front of one server. A stream counts until 2 s after the server's first
/// byte, because the end of its handshake cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshakes {
    /// `host:port` as the upstream reaches it.
    pub server: String,
    /// Handshakes that may be going on now.
    pub in_flight: u64,
    /// Callers that wait for their turn.
    pub waiting: u64,
    /// No more are in flight than this.
    pub limit: u64,
}

/// A server that refused an authentication. It closes with a success, with a newer identity, or by
/// `POST /v1/retry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// `host:port` as the upstream reaches it.
    pub server: String,
    /// The login that was refused; none where the identity decides.
    #[serde(default)]
    pub login: Option<String>,
    /// The identity that was refused.
    pub identity: String,
    /// Whether somebody may ask again.
    pub state: BreakerState,
    /// Refusals in a row.
    pub refusals: u32,
    /// When the next attempt may be made.
    pub until: u64,
}

/// Whether a server that has refused may be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Not before its time is over.
    Open,
    /// The next caller asks, for all.
    HalfOpen,
}

/// One connection of an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trunk {
    /// Counts up from 1 in each upstream.
    pub id: u64,
    /// `open`, `suspect` or `draining`.
    pub state: TrunkState,
    /// When it was authenticated.
    pub opened_at: u64,
    /// Streams on it now.
    pub streams: u64,
    /// Streams it has carried.
    pub streams_total: u64,
    /// The generation of the identity that opened it.
    pub identity_generation: u64,
    /// The last keepalive's round trip.
    #[serde(default)]
    pub round_trip_ms: Option<f64>,
}

/// Whether a trunk takes streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrunkState {
    /// It takes new streams.
    Open,
    /// It has not answered for a while; it takes none until it does.
    Suspect,
    /// It takes none and closes with its last one.
    Draining,
}

/// Whether a session takes commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It is being authenticated.
    Opening,
    /// It takes commands.
    Open,
    /// It takes none beside those it has: a bulk transfer, or a client that does not read.
    Private,
    /// It has not answered for a while (15 s); it takes none until it does.
    Suspect,
    /// It takes none and closes with its last one.
    Draining,
    /// There is no session: the node refused, and is not asked again for a while.
    Refused,
}

impl SessionState {
    /// For people.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Private => "private",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
            Self::Refused => "refused",
        }
    }
}

/// One authenticated connection to a node, on which commands run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// `host:port`, as ssh_config's `HostName` and `Port` say.
    pub node: String,
    /// The login there.
    pub user: String,
    /// The upstream that leads there; none where the user's ssh_config names the way.
    #[serde(default)]
    pub upstream: Option<String>,
    /// Whether it takes commands.
    pub state: SessionState,
    /// When it was authenticated.
    #[serde(default)]
    pub opened_at: Option<u64>,
    /// For how long it has carried no command; none while it does.
    #[serde(default)]
    pub idle_seconds: Option<u64>,
    /// Commands on it now.
    pub channels: u64,
    /// Commands it has carried, these included.
    pub channels_total: u64,
    /// Callers that wait for a place on any session of the same kind; told with the oldest of these.
    #[serde(default)]
    pub waiting: u64,
    /// The last keepalive's round trip.
    #[serde(default)]
    pub round_trip_ms: Option<f64>,
    /// Bytes of its commands' input.
    #[serde(default)]
    pub bytes_to_node: u64,
    /// Bytes of their output.
    #[serde(default)]
    pub bytes_from_node: u64,
    /// When the node is asked again, after a refusal.
    #[serde(default)]
    pub next_try_at: Option<u64>,
    /// What failed last: an authentication, or a session with commands on it.
    #[serde(default)]
    pub last_failure: Option<FailureRecord>,
}

/// What `DELETE /v1/sessions[/HOST]` answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Sessions that take no more commands; those with commands on them close with the last one.
    pub closed: u64,
}

/// How an identity is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityState {
    /// Valid.
    Valid,
    /// Valid, but not for long (15 % of its life, or 10 minutes).
    Expiring,
    /// Past its end.
    Expired,
    /// Its beginning is still to come: usually a clock that is wrong.
    NotYetValid,
    /// A file is missing, unreadable or makes no sense.
    Unusable,
}

impl IdentityState {
    /// For people.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::NotYetValid => "not yet valid",
            Self::Unusable => "unusable",
        }
    }

    /// Whether it may be used now.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Valid | Self::Expiring)
    }
}

/// One identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name in the configuration, or the tsh profile's.
    pub name: String,
    /// Where it comes from, for a person: `tsh profile example.com`, `identity file /path`.
    pub source: String,
    /// The kind of that place: `tsh`, `file`, `directory`, `key` or `agent`.
    #[serde(default)]
    pub kind: String,
    /// How it is doing.
    pub state: IdentityState,
    /// The certificate's key id: the Teleport user.
    #[serde(default)]
    pub user: Option<String>,
    /// The Teleport cluster that its certificate leads to.
    #[serde(default)]
    pub cluster: Option<String>,
    /// The upstreams that authenticate with it.
    #[serde(default)]
    pub upstreams: Vec<String>,
    /// The logins it may use.
    #[serde(default)]
    pub principals: Vec<String>,
    /// First second of validity.
    #[serde(default)]
    pub valid_from: Option<u64>,
    /// First second after validity; none for a plain key.
    #[serde(default)]
    pub valid_until: Option<u64>,
    /// Counts up each time the files changed.
    pub generation: u64,
    /// What is wrong, when something is.
    #[serde(default)]
    pub message: Option<String>,
    /// What to type then.
    #[serde(default)]
    pub hint: Option<String>,
}

/// A failure that somebody was told of, kept because stderr may have gone nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// When it happened last.
    pub at: u64,
    /// How often the same one came in a row.
    pub count: u64,
    /// The node asked for, if one was.
    #[serde(default)]
    pub node: Option<String>,
    /// The upstream it came from, if it got so far.
    #[serde(default)]
    pub upstream: Option<String>,
    /// What code decides by.
    pub kind: FailureKind,
    /// One sentence.
    pub message: String,
    /// What to type.
    #[serde(default)]
    pub hint: Option<String>,
}

/// What `GET /v1/failures` answers; `?node=HOST` narrows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// Newest first.
    pub failures: Vec<FailureRecord>,
    /// With `?node=`: the upstream that the node's route chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an older broker sends: every field that had no default when it was written, and nothing else.
    const OLDEST: &str = r#"{
        "version": "0.1.0", "protocol": 1, "pid": 7, "started_at": 100, "uptime_seconds": 5, "memory_bytes": 1,
        "socket": "/s", "healthy": true, "draining": false,
        "upstreams": [{"name": "t", "kind": "teleport", "address": "p:3023", "state": "connected",
            "trunks": [{"id": 1, "state": "open", "opened_at": 101, "streams": 2, "streams_total": 3,
                "identity_generation": 1, "from_a_newer_broker": {}}],
            "streams": 2, "streams_total": 3, "streams_cut": 0, "dials_ok": 1, "dials_failed": 0}],
        "identities": [{"name": "t", "source": "tsh profile t", "state": "not_yet_valid", "generation": 1}],
        "failures": [{"at": 102, "count": 1, "kind": "offline", "message": "node n is offline"}],
        "requests": {"accepted": 1, "strangers": 0, "malformed": 0, "timed_out": 0, "busy": 0}
    }"#;

    /// A session, from the first broker that had any.
    const SESSION: &str =
        r#"{"node": "n:22", "user": "root", "state": "open", "channels": 1, "channels_total": 7}"#;

    #[test]
    fn fields_with_a_default_may_be_missing_and_unknown_ones_present() {
        let status: Status = serde_json::from_str(OLDEST).unwrap();
        assert_eq!(status.upstreams[0].state, UpstreamState::Connected);
        assert_eq!(status.upstreams[0].trunks[0].round_trip_ms, None);
        assert_eq!(status.identities[0].state, IdentityState::NotYetValid);
        assert_eq!(status.failures[0].node, None);
    }

    #[test]
    fn every_field_and_every_state_is_documented() {
        const PROSE: &str = include_str!("../../../PROTOCOL.md");
        let mut status: Status = serde_json::from_str(OLDEST).unwrap();
        status.upstreams[0].last_error = status.failures.first().cloned();
        status.sessions = vec![serde_json::from_str(SESSION).unwrap()];
        let answers = [
            serde_json::to_value(Closed::default()).unwrap(),
            serde_json::to_value(&status).unwrap(),
            serde_json::to_value(Failures { upstream: Some("t".into()), ..Failures::default() }).unwrap(),
        ];
        for name in answers.iter().flat_map(names) {
            assert!(PROSE.contains(&format!("`{name}`")) || PROSE.contains(&format!("\"{name}\"")), "{name}");
        }
        for state in ["idle", "connecting", "connected", "suspect", "down"] {
            assert!(serde_json::from_str::<UpstreamState>(&format!("\"{state}\"")).is_ok());
            assert!(PROSE.contains(&format!("`{state}`")), "{state}");
        }
        for state in ["opening", "open", "private", "suspect", "draining", "refused"] {
            let read: SessionState = serde_json::from_str(&format!("\"{state}\"")).unwrap();
            assert!(read.in_words() == state && PROSE.contains(&format!("`{state}`")), "{state}");
        }
        for state in ["valid", "expiring", "expired", "not_yet_valid", "unusable"] {
            assert!(serde_json::from_str::<IdentityState>(&format!("\"{state}\"")).is_ok());
            assert!(PROSE.contains(&format!("`{state}`")), "{state}");
        }
    }

    /// The keys of every object in a value.
    fn names(value: &serde_json::Value) -> Vec<String> {
        match value {
            serde_json::Value::Object(map) => {
                map.iter().flat_map(|(name, value)| [vec![name.clone()], names(value)].concat()).collect()
            }
            serde_json::Value::Array(values) => values.iter().flat_map(names).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_status_reads_back_as_it_was() {
        let status: Status = serde_json::from_str(OLDEST).unwrap();
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
        let failures = Failures { failures: status.failures, upstream: Some("t".into()) };
        let text = serde_json::to_string(&failures).unwrap();
        assert_eq!(serde_json::from_str::<Failures>(&text).unwrap(), failures);
    }
}
