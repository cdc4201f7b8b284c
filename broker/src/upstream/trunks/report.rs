//! What `status` shows of trunks.

use super::super::ledger::Health;
use super::super::outage::Outage;
use super::{State, Trunks};
use crate::failures::unix_now;
use natssh_wire::status::{self, TrunkState, UpstreamState};
use tokio::time::Instant;

impl Trunks {
    /// Adds what is known to the upstream's entry in `status`.
    pub fn report(&self, entry: &mut status::Upstream) {
        let state = self.lock();
        let now = unix_now();
        for known in state.ledger.entries() {
            let Some(trunk) = state.trunks.get(&known.id) else { continue };
            entry.trunks.push(status::Trunk {
                id: known.id,
                state: match known.health {
                    Health::Open => TrunkState::Open,
                    Health::Suspect => TrunkState::Suspect,
                    Health::Draining => TrunkState::Draining,
                },
                opened_at: trunk.opened_at,
                streams: known.streams,
                streams_total: known.total,
                identity_generation: known.generation,
                round_trip_ms: trunk.round_trip_ms(),
            });
            entry.streams += known.streams;
            entry.round_trip_ms = trunk.round_trip_ms().or(entry.round_trip_ms);
        }
        entry.state = worse(entry.state, state.upstream_state());
        entry.streams_total += state.facts.streams_total;
        entry.streams_cut += state.facts.streams_cut;
        entry.dials_ok += state.facts.dials_ok;
        entry.dials_failed += state.facts.dials_failed;
        entry.sha1 |= state.facts.sha1;
        if entry.last_error.as_ref().map(|e| e.at) < state.facts.last_error.as_ref().map(|e| e.at) {
            entry.last_error.clone_from(&state.facts.last_error);
        }
        if state.facts.server.is_some() {
            entry.server.clone_from(&state.facts.server);
        }
        if let Some(due) = state.outage.as_ref().and_then(Outage::redial_at) {
            let left = due.saturating_duration_since(Instant::now());
            entry.next_dial_at = Some(now + left.as_secs());
        }
        if let Some(breaker) = self.terms.circuit.report() {
            entry.next_dial_at = entry.next_dial_at.max(Some(breaker.until));
            entry.breakers.push(breaker);
        }
        if let Some(limit) = state.idle.known() {
            entry.idle_limit_seconds = Some(limit.as_secs());
        }
    }
}

impl State {
    fn upstream_state(&self) -> UpstreamState {
        let any = |health| self.ledger.entries().iter().any(|e| e.health == health);
        if any(Health::Open) {
            UpstreamState::Connected
        } else if any(Health::Suspect) {
            UpstreamState::Suspect
        } else if self.outage.is_some() {
            UpstreamState::Down
        } else if self.dialling {
            UpstreamState::Connecting
        } else {
            UpstreamState::Idle
        }
    }
}

/// Of several sets of trunks, the one that needs attention speaks for the upstream.
fn worse(a: UpstreamState, b: UpstreamState) -> UpstreamState {
    let rank = |state| match state {
        UpstreamState::Idle => 0,
        UpstreamState::Connecting => 1,
        UpstreamState::Connected => 2,
        UpstreamState::Suspect => 3,
        UpstreamState::Down => 4,
    };
    if rank(a) >= rank(b) { a } else { b }
}
