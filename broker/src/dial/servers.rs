//! Servers of which any will do, such as the proxies of one cluster: the quickest that works is preferred.
//!
//! What is known of them comes from connections that were made to be used. A
//! server that was never measured comes first, in the order of the
//! configuration: so each is measured in its time.

use super::{Connected, connect};
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A server that failed comes last for so long.
const AVOIDED: Duration = Duration::from_secs(60);

/// Servers that are as good as each other.
#[derive(Debug)]
pub struct Servers {
    role: &'static str,
    known: Mutex<Ranking>,
}

impl Servers {
    /// Servers of which nothing is known yet; `role` says in messages what they are.
    #[must_use]
    pub fn new(role: &'static str, servers: Vec<NodeAddr>) -> Self {
        let new = |address| Ranked { address, took: None, failed: None };
        Self { role, known: Mutex::new(Ranking(servers.into_iter().map(new).collect())) }
    }

    /// Connects to the best that answers.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(&self, deadline: Instant) -> Result<Connected, Failure> {
        let servers = self.with(|known| known.in_order(Instant::now()));
        let connected = connect(self.role, &servers, deadline).await?;
        self.with(|known| {
            known.took(&connected.server, connected.took);
            connected.beaten.iter().for_each(|server| known.failed(server, Instant::now()));
        });
        Ok(connected)
    }

    /// The time for the rest of a dial to one of them: with another in reserve, half of what is left.
    #[must_use]
    pub fn share_of(&self, deadline: Instant) -> Instant {
        let left = deadline.saturating_duration_since(Instant::now());
        if self.with(|known| known.0.len()) > 1 { deadline - left / 2 } else { deadline }
    }

    /// A server that connected came to nothing after all. A refusal is not its own: the others would refuse too.
    pub fn judge(&self, server: &NodeAddr, failure: &Failure) {
        use FailureKind::{HostKey, Protocol, Timeout, Unreachable};
        if matches!(failure.kind, HostKey | Protocol | Timeout | Unreachable) {
            self.with(|known| known.failed(server, Instant::now()));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Ranking) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is known of each, in the order of the configuration. No I/O; the caller supplies the time.
#[derive(Debug)]
struct Ranking(Vec<Ranked>);

#[derive(Debug)]
struct Ranked {
    address: NodeAddr,
    /// How long the last connection took.
    took: Option<Duration>,
    /// When it failed, if nothing has succeeded since.
    failed: Option<Instant>,
}

impl Ranking {
    fn in_order(&self, now: Instant) -> Vec<NodeAddr> {
        let mut ranked: Vec<_> = self.0.iter().collect();
        let avoided = |server: &Ranked| server.failed.is_some_and(|at| now < at + AVOIDED);
        ranked.sort_by_key(|server| (avoided(server), server.took));
        ranked.into_iter().map(|server| server.address.clone()).collect()
    }

    fn took(&mut self, server: &NodeAddr, time: Duration) {
        if let Some(ranked) = self.find(server) {
            (ranked.took, ranked.failed) = (Some(time), None);
        }
    }

    fn failed(&mut self, server: &NodeAddr, now: Instant) {
        if let Some(ranked) = self.find(server) {
            ranked.failed = Some(now);
        }
    }

    fn find(&mut self, server: &NodeAddr) -> Option<&mut Ranked> {
        self.0.iter_mut().find(|ranked| ranked.address == *server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> NodeAddr {
        NodeAddr::new(name, "3023").unwrap()
    }

    fn order(known: &Ranking, now: Instant) -> String {
        known.in_order(now).iter().map(|server| server.host.as_str()).collect()
    }

    #[test]
    fn each_is_measured_once_and_then_the_quickest_comes_first() {
        let servers = Servers::new("proxy", vec![server("a"), server("b"), server("c")]);
        let (mut known, now) = (servers.known.into_inner().unwrap(), Instant::now());
        assert_eq!(order(&known, now), "abc");
        known.took(&server("a"), Duration::from_millis(30));
        assert_eq!(order(&known, now), "bca");
        known.took(&server("b"), Duration::from_millis(10));
        known.took(&server("c"), Duration::from_millis(20));
        assert_eq!(order(&known, now), "bca");
    }

    #[test]
    fn one_that_failed_comes_last_for_a_minute_or_until_it_connects() {
        let servers = Servers::new("proxy", vec![server("a"), server("b")]);
        let (mut known, now) = (servers.known.into_inner().unwrap(), Instant::now());
        known.took(&server("a"), Duration::from_millis(1));
        known.took(&server("b"), Duration::from_millis(2));
        known.failed(&server("a"), now);
        assert_eq!(order(&known, now), "ba");
        assert_eq!(order(&known, now + AVOIDED), "ab");
        known.took(&server("a"), Duration::from_millis(1));
        assert_eq!(order(&known, now), "ab");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_no_reason_to_ask_another_and_silence_is() {
        let servers = Servers::new("proxy", vec![server("a"), server("b")]);
        servers.judge(&server("a"), &Failure::new(FailureKind::Denied, "no"));
        assert_eq!(servers.with(|known| order(known, Instant::now())), "ab");
        servers.judge(&server("a"), &Failure::new(FailureKind::Timeout, "…"));
        assert_eq!(servers.with(|known| order(known, Instant::now())), "ba");
        let deadline = Instant::now() + Duration::from_secs(4);
        assert_eq!(servers.share_of(deadline), deadline - Duration::from_secs(2));
        assert_eq!(Servers::new("proxy", vec![server("a")]).share_of(deadline), deadline);
    }
}
