//! The page is read back by a parser that takes nothing the format does not allow.

use super::*;
use natssh_wire::FailureKind;
use natssh_wire::status::{Identity, Requests, Trunk, Upstream};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const DOCS: &str = include_str!("../../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../../examples/grafana/natssh.json");

/// The series of a page: name, labels, value.
#[derive(Debug, Default)]
struct Parsed {
    types: BTreeMap<String, String>,
    series: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Parsed {
    fn of(text: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        let (mut family, mut helped) = (String::new(), BTreeSet::new());
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("the last line does not end".into());
        }
        for line in text.lines() {
            let said = |what: &str| format!("{what}: {line:?}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| said("no help"))?;
                unescape(help, "").ok_or_else(|| said("an escape that is none"))?;
                if !helped.insert(name.to_owned()) {
                    return Err(said("a family twice"));
                }
                family = name.into();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| said("no type"))?;
                let known = ["counter", "gauge", "histogram"].contains(&kind);
                if name != family || !known || !is_name(name) {
                    return Err(said("a type out of place"));
                }
                if (kind == "counter") != name.ends_with("_total") {
                    return Err(said("counters, and they alone, end in _total"));
                }
                parsed.types.insert(name.into(), kind.into());
            } else {
                let (name, labels, value) = series(line).ok_or_else(|| said("no series"))?;
                let kind = parsed.types.get(&family).ok_or_else(|| said("a series without a type"))?;
                let base = match kind.as_str() {
                    "histogram" => {
                        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end))
                    }
                    _ => Some(name.as_str()),
                };
                if base != Some(&family) {
                    return Err(said("a series of another family"));
                }
                if parsed.series.insert((name, labels), value).is_some() {
                    return Err(said("a series twice"));
                }
            }
        }
        parsed.check_histograms()?;
        Ok(parsed)
    }

    /// Buckets grow with their bounds, and the last one is the count.
    fn check_histograms(&self) -> Result<(), String> {
        for ((name, labels), value) in &self.series {
            if self.types.contains_key(name)
                && (!value.is_finite() || (*value < 0.0 && name.ends_with("_total")))
            {
                return Err(format!("{name} is {value}"));
            }
            let Some(base) = name.strip_suffix("_count") else { continue };
            let mut bounds: Vec<(f64, f64)> = Vec::new();
            for ((other, of), count) in &self.series {
                let mut of = of.clone();
                let Some(bound) = of.remove("le") else { continue };
                if *other == format!("{base}_bucket") && of == *labels {
                    let bound =
                        if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| bound)? };
                    bounds.push((bound, *count));
                }
            }
            bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            let grows = bounds.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let last = bounds.last().copied();
            if !grows || last != Some((f64::INFINITY, *value)) {
                return Err(format!("{base}: {bounds:?}, {value} in all"));
            }
        }
        Ok(())
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        self.series.get(&(name.into(), labels)).copied()
    }
}

fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// `name{label="value",…} number`
fn series(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let close = closing_quote(after)?;
            let fresh = labels.insert(label.to_owned(), unescape(&after[..close], "\"")?).is_none();
            if !is_name(label) || label.contains(':') || !fresh {
                return None;
            }
            rest = &after[close + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    let number = rest.strip_prefix(' ')?;
    let plain = number.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    (is_name(name) && plain).then_some((name.to_owned(), labels, number.parse().ok()?))
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at)
    })
}

fn unescape(text: &str, more: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                '\\' => '\\',
                other if more.contains(other) => other,
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

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
        failures: Vec::new(),
        requests: Requests { accepted: 9, busy: 2, ..Requests::default() },
    };
    let meters = Meters::default();
    let failures =
        Totals::from([((Some(name.to_owned()), FailureKind::Offline), 3), ((None, FailureKind::Config), 1)]);
    meters.of(name).dial_failed();
    Reading { status, failures, meters: meters.all(), unread_bytes: 7, now: 100 }
}

fn handshakes(in_flight: u64, waiting: u64) -> Handshakes {
    Handshakes { server: format!("web-{in_flight}:22"), in_flight, waiting, limit: 8 }
}

fn upstream(name: &str) -> Upstream {
    let text = r#"{"name": "", "kind": "teleport", "address": "", "state": "idle", "trunks": [], "streams": 0,
        "streams_total": 0, "streams_cut": 0, "dials_ok": 0, "dials_failed": 0}"#;
    Upstream { name: name.into(), ..serde_json::from_str(text).unwrap() }
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
