//! Who may shake hands with a server now: dials are admitted, not fired.
//!
//! An OpenSSH server drops connections at random from the tenth on that has not
//! authenticated (`MaxStartups 10:30:100`), so whoever opens fifty at once loses
//! some. Here every handshake takes a place first, and waits in [`line`] for it.
//!
//! A handshake of natssh's own gives its place back when it is over. On a raw
//! stream the end of the handshake cannot be seen, as it is encrypted: such a
//! stream holds its place for two seconds from the server's first byte on,
//! before which no handshake can be over, or until it closes.
//!
//! A server that refuses somebody's authentication is not asked by them again for a while: `breaker`.

mod breaker;
mod circuit;
mod line;

pub use circuit::Circuit;

pub(crate) use breaker::Breaker;

use circuit::Breakers;
use line::{Line, Ticket};
use natssh_wire::status::Handshakes;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

/// A raw stream holds its place for so long after the server's first byte: a handshake over a long path
/// takes about one second.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// The same where no byte comes: it may not be SSH, or the server is frozen and takes nobody anyway.
const SILENCE: Duration = Duration::from_secs(10);
/// The line in front of a server is no longer; the one who would come next is told at once.
const LONGEST_LINE: usize = 1024;
/// Of the caller's time, one part in so many is left for the dial itself.
const LEFT_FOR_THE_DIAL: u32 = 5;
/// Servers that `status` shows for an upstream, the fullest first.
const SHOWN: usize = 10;

/// A server, as far as it can be told apart from others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Server {
    /// At an address that is dialled from here.
    Dialled(NodeAddr),
    /// Behind an upstream, by the name that it has there.
    Behind { upstream: String, cluster: Option<String>, node: NodeAddr },
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialled(node) | Self::Behind { node, cluster: None, .. } => node.fmt(f),
            Self::Behind { node, cluster: Some(cluster), .. } => write!(f, "{node} in {cluster}"),
        }
    }
}

/// The lines in front of all servers, and the breakers to those that have refused somebody. It outlives a reload.
#[derive(Debug, Default)]
pub struct Admission {
    lines: Mutex<HashMap<Server, Front>>,
    breakers: Mutex<Breakers>,
}

/// What is in front of one server.
#[derive(Debug)]
struct Front {
    line: Line,
    limit: usize,
    /// The upstream that came last, which `status` shows it under.
    upstream: String,
    /// Wakes those who wait.
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
    /// When a task settles the line though nobody comes or goes.
    looked_at: Option<Instant>,
}

/// One upstream's way to the lines.
#[derive(Debug, Clone)]
pub struct Gates {
    admission: Arc<Admission>,
    upstream: String,
    limit: usize,
    told_busy: Arc<AtomicU64>,
}

/// The way into one server.
#[derive(Debug, Clone)]
pub struct Gate {
    gates: Gates,
    server: Server,
}

/// A place in front of a server, or in the line for one; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    server: Server,
    ticket: Ticket,
}

impl Gates {
    /// For the upstream of that name, which wants at most `limit` handshakes a server.
    #[must_use]
    pub fn new(admission: &Arc<Admission>, upstream: &str, limit: usize) -> Self {
        Self { admission: admission.clone(), upstream: upstream.to_owned(), limit, told_busy: Arc::default() }
    }

    /// The gate of a server that is dialled from here.
    #[must_use]
    pub fn dialled(&self, server: &NodeAddr) -> Gate {
        Gate { gates: self.clone(), server: Server::Dialled(in_lower_case(server)) }
    }

    /// The gate of a node behind the upstream.
    #[must_use]
    pub fn behind(&self, cluster: Option<&String>, node: &NodeAddr) -> Gate {
        let (upstream, node) = (self.upstream.clone(), in_lower_case(node));
        Gate { gates: self.clone(), server: Server::Behind { upstream, cluster: cluster.cloned(), node } }
    }

    /// Servers with anybody in front of them, the fullest first, and how many callers were told "busy".
    #[must_use]
    pub fn report(&self) -> (Vec<Handshakes>, u64) {
        let mut lines = self.admission.lock();
        let now = Instant::now();
        let mut shown = Vec::new();
        for (server, front) in lines.iter_mut().filter(|(_, front)| front.upstream == self.upstream) {
            front.settle(now);
            if !front.line.is_empty() {
                shown.push(Handshakes {
                    server: server.to_string(),
                    in_flight: front.line.in_flight() as u64,
                    waiting: front.line.waiting() as u64,
                    limit: front.limit as u64,
                });
            }
        }
        shown.sort_by(|a, b| (b.waiting, b.in_flight, &a.server).cmp(&(a.waiting, a.in_flight, &b.server)));
        shown.truncate(SHOWN);
        (shown, self.told_busy.load(Relaxed))
    }
}

impl Gate {
    /// A place, waited for in the line; a fifth of the time until `deadline` is kept for the dial.
    ///
    /// # Errors
    /// `Busy`, with how many are before the caller.
    pub async fn enter(&self, deadline: Instant) -> Result<Place, Failure> {
        let (place, admitted) = self.join()?;
        let patience = deadline.saturating_duration_since(Instant::now());
        let in_time = timeout_at(deadline - patience / LEFT_FOR_THE_DIAL, admitted).await;
        match in_time {
            Ok(Ok(())) => Ok(place),
            _ => Err(self.busy()),
        }
    }

    /// A place, if there is one now and nobody waits for it.
    #[must_use]
    pub fn try_enter(&self) -> Option<Place> {
        let (place, mut admitted) = self.join().ok()?;
        admitted.try_recv().is_ok().then_some(place)
    }

    fn join(&self) -> Result<(Place, oneshot::Receiver<()>), Failure> {
        let mut lines = self.gates.admission.lock();
        let front = lines.entry(self.server.clone()).or_insert_with(Front::new);
        if front.line.waiting() >= LONGEST_LINE {
            drop(lines);
            return Err(self.busy());
        }
        front.limit = self.gates.limit;
        front.upstream.clone_from(&self.gates.upstream);
        let (sender, admitted) = oneshot::channel();
        let ticket = front.line.join();
        front.waiting.insert(ticket, sender);
        drop(lines);
        self.gates.admission.settle(&self.server);
        let (admission, server) = (self.gates.admission.clone(), self.server.clone());
        Ok((Place { admission, server, ticket }, admitted))
    }

    fn busy(&self) -> Failure {
        self.gates.told_busy.fetch_add(1, Relaxed);
        let lines = self.gates.admission.lock();
        let line = lines.get(&self.server).map(|front| &front.line);
        let (in_flight, waiting) = line.map_or((0, 0), |line| (line.in_flight(), line.waiting()));
        let text = format!("{} is busy: {in_flight} handshakes in flight, {waiting} waiting", self.server);
        Failure::new(FailureKind::Busy, text).hint("natssh status")
    }
}

impl Place {
    /// The stream is open.
    pub fn stream_opened(&self) {
        self.ends_after(SILENCE);
    }

    /// The server has sent its first byte: the handshake, which nobody sees, goes on for a while.
    pub fn spoke(&self) {
        self.ends_after(HANDSHAKE);
    }

    /// The handshake is over: whose own it was knows.
    pub fn over(&self) {
        self.ends_after(Duration::ZERO);
    }

    fn ends_after(&self, time: Duration) {
        if let Some(front) = self.admission.lock().get_mut(&self.server) {
            front.line.ends(self.ticket, Instant::now() + time);
        }
        self.admission.settle(&self.server);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(front) = self.admission.lock().get_mut(&self.server) {
            front.waiting.remove(&self.ticket);
            front.line.leave(self.ticket);
        }
        self.admission.settle(&self.server);
    }
}

impl Admission {
    /// Lets in who may go in; a line with nobody in it is forgotten.
    fn settle(self: &Arc<Self>, server: &Server) {
        let mut lines = self.lock();
        let Some(front) = lines.get_mut(server) else { return };
        front.settle(Instant::now());
        if front.line.is_empty() {
            lines.remove(server);
            return;
        }
        // Places may come to end earlier than they were going to.
        if let Some(due) = front.due().filter(|due| front.looked_at.is_none_or(|at| *due < at)) {
            front.looked_at = Some(due);
            tokio::spawn(self.clone().look_again(server.clone(), due));
        }
    }

    /// Settles a line when a place in it ends by itself that somebody waits for.
    async fn look_again(self: Arc<Self>, server: Server, at: Instant) {
        sleep_until(at).await;
        if let Some(front) = self.lock().get_mut(&server).filter(|front| front.looked_at == Some(at)) {
            front.looked_at = None;
        }
        self.settle(&server);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, Front>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Front {
    fn new() -> Self {
        let line = Line::default();
        Self { line, limit: 1, upstream: String::new(), waiting: HashMap::new(), looked_at: None }
    }

    fn settle(&mut self, now: Instant) {
        for ticket in self.line.settle(self.limit, now) {
            if let Some(sender) = self.waiting.remove(&ticket) {
                // Who stopped waiting gives the place back when it drops it.
                let _ = sender.send(());
            }
        }
    }

    /// When a place ends that somebody waits for.
    fn due(&self) -> Option<Instant> {
        self.line.next_end().filter(|_| self.line.waiting() > 0)
    }
}

/// Names are the same server in any case.
fn in_lower_case(node: &NodeAddr) -> NodeAddr {
    NodeAddr { host: node.host.to_lowercase(), port: node.port }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeAddr {
        NodeAddr::new(name, "22").unwrap()
    }

    fn gates(limit: usize) -> Gates {
        Gates::new(&Arc::default(), "office", limit)
    }

    fn within(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_raw_stream_holds_its_place_until_two_seconds_after_the_first_byte_or_until_it_closes() {
        let gate = gates(1).dialled(&node("web"));
        let begun = Instant::now();
        let first = gate.enter(within(9)).await.unwrap();
        first.stream_opened();
        let (second, ()) = tokio::join!(gate.enter(within(9)), async {
            tokio::time::sleep(HANDSHAKE * 2).await;
            first.spoke();
        });
        let second = second.unwrap();
        assert_eq!(begun.elapsed(), HANDSHAKE * 3);
        second.spoke();
        let (third, ()) = tokio::join!(gate.enter(within(9)), async {
            tokio::time::sleep(HANDSHAKE / 4).await;
            drop(second);
        });
        assert_eq!(begun.elapsed(), HANDSHAKE * 3 + HANDSHAKE / 4);
        third.as_ref().unwrap().stream_opened();
        assert!(gate.enter(within(20)).await.is_ok());
        assert_eq!(begun.elapsed(), HANDSHAKE * 3 + HANDSHAKE / 4 + SILENCE);
        drop((first, third));
        assert!(gate.gates.admission.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_how_many_were_before_them() {
        let gate = gates(2).behind(None, &node("web"));
        let held = [gate.enter(within(5)).await.unwrap(), gate.enter(within(5)).await.unwrap()];
        let other = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(within(100)).await }
        });
        let begun = Instant::now();
        let failure = gate.enter(within(5)).await.unwrap_err();
        // Told in time for the caller to hear it.
        assert_eq!(begun.elapsed(), Duration::from_secs(4));
        assert_eq!(failure.kind, FailureKind::Busy);
        assert_eq!(failure.message, "web:22 is busy: 2 handshakes in flight, 2 waiting");
        let (shown, told_busy) = gate.gates.report();
        assert_eq!((shown[0].in_flight, shown[0].waiting, shown[0].limit, told_busy), (2, 1, 2, 1));
        drop(held);
        assert!(other.await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn five_hundred_at_once_are_let_in_or_told_and_never_more_than_eight() {
        let gate = gates(8).dialled(&node("web"));
        let (inside, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let callers = (0..500).map(|_| {
            let (gate, inside, most) = (gate.clone(), inside.clone(), most.clone());
            tokio::spawn(async move {
                let place = gate.enter(within(9)).await?;
                place.stream_opened();
                most.fetch_max(inside.fetch_add(1, Relaxed) + 1, Relaxed);
                tokio::time::sleep(Duration::from_millis(290)).await;
                inside.fetch_sub(1, Relaxed);
                Ok::<_, Failure>(())
            })
        });
        let (mut done, mut busy) = (0, 0);
        for caller in callers.collect::<Vec<_>>() {
            match caller.await.unwrap() {
                Ok(()) => done += 1,
                Err(failure) => {
                    assert_eq!(failure.kind, FailureKind::Busy);
                    busy += 1;
                }
            }
        }
        assert_eq!(most.load(Relaxed), 8);
        // Eight every 290 ms in the 7.2 s that are theirs.
        assert_eq!((done, busy), (25 * 8, 300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_not_taken_out_of_turn_and_servers_are_told_apart() {
        let gates = gates(1);
        let gate = gates.dialled(&node("web"));
        let held = gate.try_enter().unwrap();
        assert!(gate.try_enter().is_none() && gates.dialled(&node("WEB")).try_enter().is_none());
        assert!(gates.dialled(&node("db")).try_enter().is_some());
        assert!(gates.behind(None, &node("web")).try_enter().is_some());
        drop(held);
        assert!(gate.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_has_an_end() {
        let gate = gates(1).dialled(&node("web"));
        let _held = gate.try_enter().unwrap();
        let line: Vec<_> = (0..LONGEST_LINE).map(|_| gate.join().unwrap()).collect();
        assert_eq!(gate.enter(within(9)).await.unwrap_err().kind, FailureKind::Busy);
        drop(line);
        assert!(gate.join().is_ok());
    }
}
