//! Which address is tried next, and when (RFC 8305, "Happy Eyeballs"). No I/O; the caller supplies the time.
//!
//! Servers come in the caller's order; the addresses of one name alternate
//! between IPv6 and IPv4, beginning with the family that the resolver puts
//! first. A further attempt starts 250 ms after the last one, or as soon as
//! one has failed; whoever connects first wins.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// RFC 8305 section 5, "Connection Attempt Delay". A name that is still being
/// looked up holds back the servers after it for as long.
pub(super) const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one server that are tried: a name with more is a mistake, or an attack.
const ADDRESSES: usize = 16;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Connect to this address of the server with this number, then ask again.
    Start(usize, SocketAddr),
    /// Ask again then, or when something has happened.
    Wait(Instant),
    /// Nothing is left to start; ask again when something has happened.
    Idle,
    /// Nothing is left at all.
    Lost,
}

/// A race between the addresses of several servers.
#[derive(Debug)]
pub(super) struct Race {
    /// By server: its addresses that are still to be tried; none while its name is looked up.
    left: Vec<Option<VecDeque<SocketAddr>>>,
    begun: Instant,
    /// When the next attempt may start.
    due: Instant,
    flying: usize,
}

impl Race {
    /// A race between `servers` whose names are being looked up.
    pub(super) fn new(servers: usize, now: Instant) -> Self {
        Self { left: vec![None; servers], begun: now, due: now, flying: 0 }
    }

    /// A name has been looked up; a lookup that failed has no addresses.
    pub(super) fn resolved(&mut self, server: usize, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.left[server] = Some(alternating(addresses).take(ADDRESSES).collect());
    }

    /// An attempt has failed: the next one need not wait.
    pub(super) fn failed(&mut self, now: Instant) {
        self.flying -= 1;
        self.due = now;
    }

    /// What to do now.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let held = now < self.begun + STAGGER;
        let mut resolving = false;
        for (server, left) in self.left.iter_mut().enumerate() {
            match left {
                None if held => return Step::Wait(self.begun + STAGGER),
                None => resolving = true,
                Some(left) if left.is_empty() => {}
                Some(_) if now < self.due => return Step::Wait(self.due),
                Some(left) => {
                    let Some(address) = left.pop_front() else { continue };
                    self.flying += 1;
                    self.due = now + STAGGER;
                    return Step::Start(server, address);
                }
            }
        }
        if resolving || self.flying > 0 { Step::Idle } else { Step::Lost }
    }
}

/// The addresses by turns of the two families, the first one's first, each in its order.
fn alternating(addresses: impl IntoIterator<Item = SocketAddr>) -> impl Iterator<Item = SocketAddr> {
    let addresses: Vec<_> = addresses.into_iter().collect();
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut ours, mut others): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut turn = false;
    std::iter::from_fn(move || {
        turn = !turn;
        let (now, else_) = if turn { (&mut ours, &mut others) } else { (&mut others, &mut ours) };
        now.pop_front().or_else(|| else_.pop_front())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 22))
    }

    fn v6(n: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 22))
    }

    #[test]
    fn families_alternate_a_quarter_of_a_second_apart() {
        let now = Instant::now();
        let mut race = Race::new(1, now);
        race.resolved(0, [v6(1), v6(2), v6(3), v4(1), v4(2)]);
        for (n, address) in [v6(1), v4(1), v6(2), v4(2), v6(3)].into_iter().enumerate() {
            let due = now + STAGGER * u32::try_from(n).unwrap();
            if n > 0 {
                assert_eq!(race.step(due - Duration::from_millis(1)), Step::Wait(due));
            }
            assert_eq!(race.step(due), Step::Start(0, address));
        }
        assert_eq!(race.step(now + STAGGER * 9), Step::Idle);
    }

    #[test]
    fn a_failure_starts_the_next_at_once_and_the_last_one_loses() {
        let now = Instant::now();
        let mut race = Race::new(2, now);
        race.resolved(0, [v4(1)]);
        race.resolved(1, [v4(2)]);
        assert_eq!(race.step(now), Step::Start(0, v4(1)));
        assert_eq!(race.step(now), Step::Wait(now + STAGGER));
        race.failed(now);
        assert_eq!(race.step(now), Step::Start(1, v4(2)));
        race.failed(now);
        assert_eq!(race.step(now), Step::Lost);
    }

    #[test]
    fn a_slow_lookup_holds_the_others_back_but_not_for_long() {
        let now = Instant::now();
        let mut race = Race::new(2, now);
        race.resolved(1, [v4(2)]);
        assert_eq!(race.step(now), Step::Wait(now + STAGGER));
        assert_eq!(race.step(now + STAGGER), Step::Start(1, v4(2)));
        race.failed(now + STAGGER);
        assert_eq!(race.step(now + STAGGER), Step::Idle);
        race.resolved(0, []);
        assert_eq!(race.step(now + STAGGER), Step::Lost);
    }

    proptest! {
        /// However lookups and attempts end: every address is tried once, and the race
        /// is lost when they are all through and not before.
        #[test]
        fn every_address_is_tried_once(
            servers in prop::collection::vec((0u8..4, 0u16..4), 1..4),
            steps in prop::collection::vec((0u8..3, 0u64..300), 0..100),
        ) {
            let mut now = Instant::now();
            let mut race = Race::new(servers.len(), now);
            let all: usize = servers.iter().map(|(a, b)| usize::from(*a) + usize::from(*b)).sum();
            let mut names = servers.into_iter().enumerate();
            let (mut tried, mut flying) = (Vec::new(), 0);
            let end = [(0, 0), (1, 300), (2, 0)].into_iter().cycle().take(300);
            for (step, millis) in steps.into_iter().chain(end) {
                match step {
                    0 => if let Some((server, (fours, sixes))) = names.next() {
                        race.resolved(server, (0..fours).map(v4).chain((0..sixes).map(v6)));
                    },
                    1 => match race.step(now) {
                        Step::Start(server, address) => {
                            tried.push((server, address));
                            flying += 1;
                        }
                        Step::Wait(then) => prop_assert!(then > now),
                        Step::Idle => prop_assert!(flying > 0 || names.len() > 0),
                        Step::Lost => prop_assert!(flying == 0 && tried.len() == all && names.len() == 0),
                    },
                    _ => if flying > 0 {
                        flying -= 1;
                        race.failed(now);
                    },
                }
                now += Duration::from_millis(millis);
            }
            prop_assert_eq!(race.step(now), Step::Lost);
            tried.sort();
            tried.dedup();
            prop_assert_eq!(tried.len(), all);
        }
    }
}
