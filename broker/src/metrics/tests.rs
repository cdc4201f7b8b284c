//! The page is read back, and held against the documentation and the dashboard.

mod parser;

use super::*;
use natssh_wire::FailureKind;
use natssh_wire::status::{Identity, Requests, Session, Trunk, Upstream};
use parser::Parsed;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const DOCS: &str = include_str!("../../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../../examples/grafana/natssh.json");

fn reading(name: &str) -> Reading {
    let trunk = |id, state| Trunk {
        id,
        state,
        opened_at: 1,
        streams: 0,
        streams_total: 0,
        identity_generation: 1,
        round_trip_ms: None,
    };
    let status = Status {
        version: "0.1.0".into(),
        protocol: 1,
        pid: 1,
        started_at: 40,
        uptime_seconds: 60,
        memory_bytes: 9 << 20,
        socket: String::new(),
        config: None,
        metrics: None,
        warnings: Vec::new(),
        healthy: false,
        draining: false,
        upstreams: vec![Upstream {
            trunks: vec![trunk(1, TrunkState::Open), trunk(2, TrunkState::Draining)],
            state: UpstreamState::Suspect,
            round_trip_ms: Some(41.5),
            handshakes: vec![handshakes(8, 3), handshakes(1, 0)],
            ..upstream(name)
        }],
        identities: vec![identity(name, Some(90)), identity("plain key", None)],
        sessions: vec![
            session(SessionState::Open, 3),
            session(SessionState::Private, 1),
            session(SessionState::Refused, 0),
        ],
        failures: Vec::new(),
        requests: Requests { accepted: 9, busy: 2, ..Requests::default() },
    };
    let meters = Meters::default();
    let failures =
        Totals::from([((Some(name.to_owned()), FailureKind::Offline), 3), ((None, FailureKind::Config), 1)]);
    meters.of(name).dial_failed();
    Reading { status, failures, meters: meters.all(), sessions: Arc::default(), unread_bytes: 7, now: 100 }
}

fn handshakes(in_flight: u64, waiting: u64) -> Handshakes {
    Handshakes { server: format!("web-{in_flight}:22"), in_flight, waiting, limit: 8 }
}

fn upstream(name: &str) -> Upstream {
    let text = r#"{"name": "", "kind": "teleport", "address": "", "state": "idle", "trunks": [], "streams": 0,
        "streams_total": 0, "streams_cut": 0, "dials_ok": 0, "dials_failed": 0}"#;
    Upstream { name: name.into(), ..serde_json::from_str(text).unwrap() }
}

fn session(state: SessionState, channels: u64) -> Session {
    let text = r#"{"node": "web:22", "user": "root", "state": "open", "channels": 0, "channels_total": 9, "waiting": 2}"#;
    Session { state, channels, ..serde_json::from_str(text).unwrap() }
}

fn identity(name: &str, valid_until: Option<u64>) -> Identity {
    let text = r#"{"name": "", "source": "", "state": "expired", "generation": 1}"#;
    Identity { name: name.into(), valid_until, ..serde_json::from_str(text).unwrap() }
}

#[test]
fn the_page_says_what_was_counted() {
    let reading = reading("office");
    let meter = &reading.meters[0].1;
    meter.dials.observe(Duration::from_millis(300));
    let carried = meter.stream_opened(Duration::from_millis(7));
    carried.traffic.add_to_node(1500);
    carried.stream_cut();
    reading.sessions.opens.observe(Duration::from_millis(30));
    reading.sessions.leases.observe(Duration::ZERO);
    reading.sessions.not_opened();
    reading.sessions.cut(4);
    let page = page(&reading);
    let parsed = Parsed::of(&page).unwrap_or_else(|wrong| panic!("{wrong}\n{page}"));
    let office = ("upstream", "office");
    for (name, labels, value) in [
        ("natssh_build_info", &[("version", "0.1.0")][..], 1.0),
        ("natssh_uptime_seconds", &[], 60.0),
        ("natssh_healthy", &[], 0.0),
        ("natssh_unread_bytes", &[], 7.0),
        ("natssh_requests_refused_total", &[("reason", "busy")], 2.0),
        ("natssh_failures_total", &[office, ("kind", "offline")], 3.0),
        ("natssh_failures_total", &[("upstream", ""), ("kind", "config")], 1.0),
        ("natssh_upstream_up", &[office], 0.0),
        ("natssh_upstream_round_trip_seconds", &[office], 0.0415),
        ("natssh_trunks", &[office, ("state", "open")], 1.0),
        ("natssh_trunks", &[office, ("state", "suspect")], 0.0),
        ("natssh_trunks", &[office, ("state", "draining")], 1.0),
        ("natssh_breakers", &[office], 0.0),
        ("natssh_handshakes_in_flight", &[office], 9.0),
        ("natssh_handshakes_waiting", &[office], 3.0),
        ("natssh_dial_seconds_bucket", &[office, ("le", "0.25")], 0.0),
        ("natssh_dial_seconds_bucket", &[office, ("le", "0.5")], 1.0),
        ("natssh_dial_seconds_sum", &[office], 0.3),
        ("natssh_dials_failed_total", &[office], 1.0),
        ("natssh_stream_open_seconds_count", &[office], 1.0),
        ("natssh_streams_open", &[office], 1.0),
        ("natssh_streams_opened_total", &[office], 1.0),
        ("natssh_streams_cut_total", &[office], 1.0),
        ("natssh_bytes_total", &[office, ("direction", "to_node")], 1500.0),
        ("natssh_bytes_total", &[office, ("direction", "from_node")], 0.0),
        ("natssh_sessions", &[("state", "open")], 1.0),
        ("natssh_sessions", &[("state", "private")], 1.0),
        ("natssh_sessions", &[("state", "suspect")], 0.0),
        ("natssh_nodes_refusing", &[], 1.0),
        ("natssh_commands_running", &[], 4.0),
        ("natssh_commands_waiting", &[], 6.0),
        ("natssh_session_open_seconds_bucket", &[("le", "0.025")], 0.0),
        ("natssh_session_open_seconds_count", &[], 1.0),
        ("natssh_sessions_failed_total", &[], 1.0),
        ("natssh_command_wait_seconds_bucket", &[("le", "0.001")], 1.0),
        ("natssh_commands_cut_total", &[], 4.0),
        ("natssh_identity_expires_in_seconds", &[("identity", "office")], -10.0),
        ("natssh_identity_valid", &[("identity", "office")], 0.0),
    ] {
        assert_eq!(parsed.value(name, labels), Some(value), "{name} {labels:?}\n{page}");
    }
    assert_eq!(parsed.value("natssh_identity_expires_in_seconds", &[("identity", "plain key")]), None);
    drop(carried);
}

#[test]
fn the_strict_parser_is_strict() {
    for wrong in [
        "natssh_x 1\n",
        "# HELP natssh_x h\n# TYPE natssh_x gauge\nnatssh_x 1",
        "# HELP natssh_x h\n# TYPE natssh_x counter\nnatssh_x 1\n",
        "# HELP natssh_x h\n# TYPE natssh_x gauge\nnatssh_y 1\n",
        "# HELP natssh_x h\n# TYPE natssh_x gauge\nnatssh_x{a=\"b} 1\n",
        "# HELP natssh_x h\n# TYPE natssh_x gauge\nnatssh_x{a=\"\\q\"} 1\n",
        "# HELP natssh_x h\n# TYPE natssh_x gauge\nnatssh_x one\n",
        "# HELP natssh_x h\n# TYPE natssh_x gauge\nnatssh_x 1\nnatssh_x 2\n",
        "# HELP natssh_x h\n# TYPE natssh_x histogram\nnatssh_x_bucket{le=\"1\"} 1\nnatssh_x_count 1\n",
    ] {
        assert!(Parsed::of(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_family_is_documented_and_every_documented_one_is_there() {
    let parsed = Parsed::of(&page(&reading("office"))).unwrap();
    for name in parsed.types.keys() {
        assert!(DOCS.contains(&format!("| `{name}` |")), "docs/metrics.md lacks {name}");
    }
    for name in words(DOCS) {
        assert!(is_served(&parsed, &name), "docs/metrics.md names {name}, which nobody serves");
    }
}

#[test]
fn the_dashboard_asks_for_nothing_that_is_not_served() {
    let parsed = Parsed::of(&page(&reading("office"))).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "two panels with one id");
        assert!(panel["title"].is_string() && panel["type"].is_string() && panel["gridPos"]["w"].is_u64());
        for target in panel["targets"].as_array().expect("targets") {
            let expr = target["expr"].as_str().expect("an expr");
            assert!(!words(expr).is_empty(), "{expr}");
            assert!(words(expr).iter().all(|name| is_served(&parsed, name)), "{expr}");
        }
    }
    let asked: String = panels.iter().map(|panel| panel["targets"].to_string()).collect();
    for question in ["natssh_dial_seconds", "natssh_streams_open", "natssh_identity_expires_in_seconds"] {
        assert!(asked.contains(question), "{question}");
    }
}

/// The names of metrics in a text.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("natssh_")).map(str::to_owned).collect()
}

fn is_served(parsed: &Parsed, name: &str) -> bool {
    let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    let is = |name: &str, kind: &str| parsed.types.get(name).is_some_and(|found| found == kind);
    parsed.types.contains_key(name) || histogram.is_some_and(|base| is(base, "histogram"))
}

proptest! {
    #[test]
    fn whatever_the_names_and_numbers_the_page_can_be_read(
        name in "\\PC{0,20}|[\\\\\"\n{},= ]{0,8}", took in prop::collection::vec(0..100_000u64, 0..20),
        bytes: u64, unread: usize, until in prop::option::of(any::<u64>()), ms in prop::option::of(0.0..1e9f64),
    ) {
        let mut reading = reading(&name);
        reading.unread_bytes = unread;
        reading.status.identities[0].valid_until = until;
        reading.status.upstreams[0].round_trip_ms = ms;
        let meter = reading.meters[0].1.clone();
        meter.traffic.add_to_node(bytes);
        took.iter().for_each(|ms| meter.dials.observe(Duration::from_millis(*ms)));
        let parsed = Parsed::of(&page(&reading)).map_err(TestCaseError::fail)?;
        let labels = [("upstream", name.as_str())];
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let count = took.len() as f64;
        prop_assert_eq!(parsed.value("natssh_dial_seconds_count", &labels), Some(count));
    }
}
