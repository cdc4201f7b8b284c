//! What Prometheus is told: `GET /metrics`, in its text format 0.0.4.
//!
//! Counting happens where things happen, in a [`Meter`] for each upstream; this
//! file turns the counts and a [`Status`] into one page. No series carries a node's
//! name: nodes come and go by the hundred, and a monitoring system keeps every
//! name for ever. docs/metrics.md describes each family.

mod histogram;
mod meter;
mod sessions;
#[cfg(test)]
mod tests;
mod text;

pub use histogram::{BOUNDS, Histogram};
pub use meter::{Carried, Meter, Meters};
pub use sessions::SessionMeter;

use crate::failures::Totals;
use natssh_wire::status::{Handshakes, SessionState, Status, TrunkState, UpstreamState};
use std::sync::Arc;
use text::{Kind, Page};

/// What the page is to be served as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything the page is made of, read at one moment.
pub struct Reading {
    /// The broker as `status` shows it.
    pub status: Status,
    /// Failures since the start.
    pub failures: Totals,
    /// The meters, by upstream.
    pub meters: Vec<(String, Arc<Meter>)>,
    /// The meter of sessions.
    pub sessions: Arc<SessionMeter>,
    /// Bytes that wait for slow readers.
    pub unread_bytes: usize,
    /// Seconds since 1970.
    pub now: u64,
}

/// The whole page. Each family is named on it, with or without series.
#[must_use]
pub fn page(reading: &Reading) -> String {
    let mut page = Page::default();
    broker(&mut page, reading);
    upstreams(&mut page, &reading.status);
    streams(&mut page, reading);
    sessions(&mut page, reading);
    identities(&mut page, reading);
    page.into_text()
}

fn broker(page: &mut Page, reading: &Reading) {
    let status = &reading.status;
    page.family("natssh_build_info", Kind::Gauge, "Always 1; the version is the label.")
        .sample(&[("version", &status.version)], 1);
    page.family("natssh_uptime_seconds", Kind::Gauge, "Since the broker started.")
        .sample(&[], status.uptime_seconds);
    page.family("natssh_memory_bytes", Kind::Gauge, "Resident memory of the broker.")
        .sample(&[], status.memory_bytes);
    page.family(
        "natssh_healthy",
        Kind::Gauge,
        "0 when something needs a person: an upstream is down, an identity expired.",
    )
    .sample(&[], u8::from(status.healthy));
    page.family("natssh_unread_bytes", Kind::Gauge, "Bytes from nodes that wait for slow readers.")
        .sample(&[], reading.unread_bytes);
    page.family("natssh_requests_total", Kind::Counter, "Connections accepted at the local door.")
        .sample(&[], status.requests.accepted);
    let mut refused =
        page.family("natssh_requests_refused_total", Kind::Counter, "Of these, refused; by reason.");
    for (reason, count) in [
        ("stranger", status.requests.strangers),
        ("malformed", status.requests.malformed),
        ("timed_out", status.requests.timed_out),
        ("busy", status.requests.busy),
    ] {
        refused.sample(&[("reason", reason)], count);
    }
    let mut failures = page.family(
        "natssh_failures_total",
        Kind::Counter,
        "Failures that somebody was told of, by kind (PROTOCOL.md); upstream is empty where none was asked.",
    );
    for ((upstream, kind), count) in &reading.failures {
        failures.sample(&[("upstream", upstream.as_deref().unwrap_or("")), ("kind", kind.word())], count);
    }
}

fn upstreams(page: &mut Page, status: &Status) {
    let mut up = page.family("natssh_upstream_up", Kind::Gauge, "0 while an upstream is suspect or down.");
    for upstream in &status.upstreams {
        let is_up = !matches!(upstream.state, UpstreamState::Suspect | UpstreamState::Down);
        up.sample(&[("upstream", &upstream.name)], u8::from(is_up));
    }
    let mut round_trip = page.family(
        "natssh_upstream_round_trip_seconds",
        Kind::Gauge,
        "The last keepalive's round trip on the youngest trunk.",
    );
    for upstream in &status.upstreams {
        if let Some(ms) = upstream.round_trip_ms {
            round_trip.sample(&[("upstream", &upstream.name)], ms / 1000.0);
        }
    }
    for (name, help, of) in [
        (
            "natssh_handshakes_in_flight",
            "Connections that have not authenticated yet, over the ten fullest servers of an upstream.",
            (|server: &Handshakes| server.in_flight) as fn(&Handshakes) -> u64,
        ),
        ("natssh_handshakes_waiting", "Callers that wait for their turn at these.", |server| server.waiting),
    ] {
        let mut family = page.family(name, Kind::Gauge, help);
        for upstream in &status.upstreams {
            let sum: u64 = upstream.handshakes.iter().map(of).sum();
            family.sample(&[("upstream", &upstream.name)], sum);
        }
    }
    let mut breakers = page.family(
        "natssh_breakers",
        Kind::Gauge,
        "Servers that refused an authentication and are left in peace for a while.",
    );
    for upstream in &status.upstreams {
        breakers.sample(&[("upstream", &upstream.name)], upstream.breakers.len());
    }
    let mut trunks = page.family("natssh_trunks", Kind::Gauge, "Open connections of an upstream, by state.");
    for upstream in &status.upstreams {
        for (word, state) in
            [("open", TrunkState::Open), ("suspect", TrunkState::Suspect), ("draining", TrunkState::Draining)]
        {
            let count = upstream.trunks.iter().filter(|trunk| trunk.state == state).count();
            trunks.sample(&[("upstream", &upstream.name), ("state", word)], count);
        }
    }
}

fn streams(page: &mut Page, reading: &Reading) {
    let mut each = |name, kind, help, put: &dyn Fn(&mut text::Family<'_>, &str, &Meter)| {
        let mut family = page.family(name, kind, help);
        for (upstream, meter) in &reading.meters {
            put(&mut family, upstream, meter);
        }
    };
    each(
        "natssh_dial_seconds",
        Kind::Histogram,
        "Time of the dials that opened a trunk: TCP, key exchange, authentication.",
        &|family, upstream, meter| family.histogram(&[("upstream", upstream)], &meter.dials),
    );
    each(
        "natssh_dials_failed_total",
        Kind::Counter,
        "Dials that opened none.",
        &|family, upstream, meter| family.sample(&[("upstream", upstream)], meter.dials_failed()),
    );
    each(
        "natssh_stream_open_seconds",
        Kind::Histogram,
        "Time from the request for a stream to the open stream, a dial included where one was needed.",
        &|family, upstream, meter| family.histogram(&[("upstream", upstream)], &meter.opens),
    );
    each("natssh_streams_open", Kind::Gauge, "Streams open now.", &|family, upstream, meter| {
        family.sample(&[("upstream", upstream)], meter.streams_open());
    });
    each("natssh_streams_opened_total", Kind::Counter, "Streams opened.", &|family, upstream, meter| {
        family.sample(&[("upstream", upstream)], meter.streams_opened());
    });
    each(
        "natssh_streams_cut_total",
        Kind::Counter,
        "Streams that ended before their time.",
        &|family, upstream, meter| family.sample(&[("upstream", upstream)], meter.streams_cut()),
    );
    each("natssh_bytes_total", Kind::Counter, "Bytes carried, by direction.", &|family, upstream, meter| {
        for (direction, bytes) in
            [("to_node", meter.traffic.to_node()), ("from_node", meter.traffic.from_node())]
        {
            family.sample(&[("upstream", upstream), ("direction", direction)], bytes);
        }
    });
}

fn sessions(page: &mut Page, reading: &Reading) {
    let (all, meter) = (&reading.status.sessions, &reading.sessions);
    let mut open =
        page.family("natssh_sessions", Kind::Gauge, "Authenticated connections to nodes, by state.");
    for state in [
        SessionState::Opening,
        SessionState::Open,
        SessionState::Private,
        SessionState::Suspect,
        SessionState::Draining,
    ] {
        let count = all.iter().filter(|session| session.state == state).count();
        open.sample(&[("state", state.in_words())], count);
    }
    let refused = all.iter().filter(|session| session.state == SessionState::Refused).count();
    page.family(
        "natssh_nodes_refusing",
        Kind::Gauge,
        "Nodes that refused and are left in peace for a while.",
    )
    .sample(&[], refused);
    page.family("natssh_commands_running", Kind::Gauge, "Commands that run on sessions now.")
        .sample(&[], all.iter().map(|session| session.channels).sum::<u64>());
    page.family("natssh_commands_waiting", Kind::Gauge, "Commands that wait for a place on a session.")
        .sample(&[], all.iter().map(|session| session.waiting).sum::<u64>());
    page.family(
        "natssh_session_open_seconds",
        Kind::Histogram,
        "Time to open a session: the stream, the key exchange, the authentication.",
    )
    .histogram(&[], &meter.opens);
    page.family("natssh_sessions_failed_total", Kind::Counter, "Sessions that were not opened.")
        .sample(&[], meter.sessions_failed());
    page.family(
        "natssh_command_wait_seconds",
        Kind::Histogram,
        "Time from the request for a command to its channel, a new session included where one was needed.",
    )
    .histogram(&[], &meter.leases);
    page.family("natssh_commands_cut_total", Kind::Counter, "Commands whose session ended under them.")
        .sample(&[], meter.commands_cut());
}

fn identities(page: &mut Page, reading: &Reading) {
    let mut left = page.family(
        "natssh_identity_expires_in_seconds",
        Kind::Gauge,
        "Until the certificate ends; below 0 once it has. Plain keys have no such series.",
    );
    for identity in &reading.status.identities {
        if let Some(until) = identity.valid_until.and_then(|until| i64::try_from(until).ok()) {
            let left_seconds = until.saturating_sub_unsigned(reading.now);
            left.sample(&[("identity", &identity.name)], left_seconds);
        }
    }
    let mut valid = page.family("natssh_identity_valid", Kind::Gauge, "1 while the identity may be used.");
    for identity in &reading.status.identities {
        valid.sample(&[("identity", &identity.name)], u8::from(identity.state.is_good()));
    }
}
