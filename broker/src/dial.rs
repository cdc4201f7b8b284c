//! Dialling TCP servers by name: both families, several servers, one deadline.
//!
//! What to try when is decided in `race`; this file looks names up and
//! connects. A bare connection is only ever made to be used: servers count them.
//!
//! Limit: the system's resolver answers for both families together, so a name
//! whose IPv6 half is slow to come is slow altogether.

mod race;
mod servers;

pub use servers::Servers;

use natssh_wire::{Failure, FailureKind, NodeAddr};
use race::{Race, Step};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

/// A connection that was made.
#[derive(Debug)]
pub struct Connected {
    /// The connection; small packets leave at once, and a peer that vanished is noticed in the end.
    pub stream: TcpStream,
    /// The server that took it.
    pub server: NodeAddr,
    /// How long that server took to answer: about one round trip.
    pub took: Duration,
    /// Servers that were tried before it, and failed or were slower.
    pub beaten: Vec<NodeAddr>,
}

/// Connects to one of `servers`, preferring those that come first. `role` says
/// in messages what they are: "proxy", "bastion", or nothing for a node.
///
/// # Errors
/// `Unreachable`, or `Timeout` when `deadline` passed, naming each server that
/// was tried. No hint: the caller knows what helps.
pub async fn connect(role: &str, servers: &[NodeAddr], deadline: Instant) -> Result<Connected, Failure> {
    let mut attempts = Attempts::new(servers);
    match timeout_at(deadline, attempts.run()).await {
        Ok(Some(connected)) => Ok(connected),
        Ok(None) => Err(attempts.failure(role, FailureKind::Unreachable)),
        Err(_) => Err(attempts.failure(role, FailureKind::Timeout)),
    }
}

/// What a task of the race brings back.
enum Event {
    Resolved(usize, io::Result<Vec<SocketAddr>>),
    Tried { server: usize, address: SocketAddr, took: Duration, outcome: io::Result<TcpStream> },
}

/// One race, and what has gone wrong in it.
struct Attempts<'s> {
    servers: &'s [NodeAddr],
    race: Race,
    /// Dropping it ends lookups and attempts that are no longer needed.
    tasks: JoinSet<Event>,
    /// By server: each address that failed, and how; none for its name.
    errors: Vec<Vec<(Option<SocketAddr>, String)>>,
    /// By server: whether an attempt was made.
    tried: Vec<bool>,
}

impl<'s> Attempts<'s> {
    fn new(servers: &'s [NodeAddr]) -> Self {
        let mut tasks = JoinSet::new();
        for (n, server) in servers.iter().enumerate() {
            let (host, port) = (server.host.clone(), server.port);
            tasks.spawn(
                async move { Event::Resolved(n, lookup_host((host, port)).await.map(Iterator::collect)) },
            );
        }
        Self {
            servers,
            race: Race::new(servers.len(), Instant::now()),
            tasks,
            errors: vec![Vec::new(); servers.len()],
            tried: vec![false; servers.len()],
        }
    }

    /// The first connection; none when everything has failed.
    async fn run(&mut self) -> Option<Connected> {
        loop {
            let event = match self.race.step(Instant::now()) {
                Step::Start(server, address) => {
                    self.start(server, address);
                    continue;
                }
                Step::Wait(until) => tokio::select! {
                    event = self.tasks.join_next() => event,
                    () = sleep_until(until) => continue,
                },
                Step::Idle => self.tasks.join_next().await,
                Step::Lost => return None,
            };
            if let Some(connected) = self.learn(event?) {
                return Some(connected);
            }
        }
    }

    fn start(&mut self, server: usize, address: SocketAddr) {
        self.tried[server] = true;
        self.tasks.spawn(async move {
            let begun = Instant::now();
            let outcome = TcpStream::connect(address).await;
            Event::Tried { server, address, took: begun.elapsed(), outcome }
        });
    }

    fn learn(&mut self, event: Result<Event, JoinError>) -> Option<Connected> {
        // Nothing in these tasks panics, and nobody else ends them.
        match event.ok()? {
            Event::Resolved(server, Ok(addresses)) => self.race.resolved(server, addresses),
            Event::Resolved(server, Err(error)) => {
                self.errors[server].push((None, format!("its name cannot be resolved ({error})")));
                self.race.resolved(server, []);
            }
            Event::Tried { server, took, outcome: Ok(stream), .. } => {
                prepare(&stream);
                let others = self.servers.iter().enumerate().filter(|(n, _)| *n != server && self.tried[*n]);
                let beaten = others.map(|(_, address)| address.clone()).collect();
                return Some(Connected { stream, server: self.servers[server].clone(), took, beaten });
            }
            Event::Tried { server, address, outcome: Err(error), .. } => {
                self.errors[server].push((Some(address), in_words(&error)));
                self.race.failed(Instant::now());
            }
        }
        None
    }

    fn failure(&self, role: &str, kind: FailureKind) -> Failure {
        let text = match self.servers {
            [server] => {
                let peer = if role.is_empty() { server.to_string() } else { format!("{role} {server}") };
                match (kind, self.reason(0)) {
                    (FailureKind::Timeout, None) => format!("{peer} did not answer in time"),
                    (_, reason) => format!("{peer} cannot be reached: {}", or_silence(reason)),
                }
            }
            servers => {
                let each = servers.iter().enumerate();
                let each: Vec<_> =
                    each.map(|(n, s)| format!("{s}: {}", or_silence(self.reason(n)))).collect();
                format!("no {role} can be reached: {}", each.join("; "))
            }
        };
        Failure::new(kind, text)
    }

    /// How a server failed: one reason where all its addresses agree, else each with its own.
    fn reason(&self, server: usize) -> Option<String> {
        let errors = &self.errors[server];
        let (_, first) = errors.first()?;
        if errors.iter().all(|(_, text)| text == first) {
            return Some(first.clone());
        }
        let each = errors.iter().map(|(address, text)| match address {
            Some(address) => format!("{text} ({})", address.ip()),
            None => text.clone(),
        });
        Some(each.collect::<Vec<_>>().join(", "))
    }
}

fn or_silence(reason: Option<String>) -> String {
    reason.unwrap_or_else(|| "no answer in time".into())
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::TimedOut => "the connection timed out".into(),
        _ => error.to_string(),
    }
}

fn prepare(stream: &TcpStream) {
    // Neither is worth failing a connection for.
    drop(stream.set_nodelay(true));
    let _ = rustix::net::sockopt::set_socket_keepalive(stream, true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    async fn listening() -> (TcpListener, NodeAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = NodeAddr::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        (listener, address)
    }

    /// A port of this machine where nobody listens, for as long as the socket is bound.
    fn refusing() -> (std::net::TcpListener, NodeAddr) {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                .unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let bound = std::net::TcpListener::from(socket);
        let address = NodeAddr::parse(&bound.local_addr().unwrap().to_string()).unwrap();
        (bound, address)
    }

    #[tokio::test]
    async fn a_dead_server_is_passed_over() {
        let ((_bound, dead), (_listener, alive)) = (refusing(), listening().await);
        let connected = connect("proxy", &[dead.clone(), alive.clone()], soon()).await.unwrap();
        assert_eq!((connected.server, connected.beaten), (alive.clone(), vec![dead.clone()]));
        let connected = connect("proxy", &[alive.clone(), dead], soon()).await.unwrap();
        assert_eq!((connected.server, connected.beaten), (alive, vec![]));
    }

    #[tokio::test]
    async fn a_failure_names_every_server_and_what_became_of_it() {
        let ((_a, one), (_b, two)) = (refusing(), refusing());
        let failure = connect("proxy", std::slice::from_ref(&one), soon()).await.unwrap_err();
        assert_eq!(failure.message, format!("proxy {one} cannot be reached: connection refused"));
        assert_eq!(failure.kind, FailureKind::Unreachable);
        let failure = connect("proxy", &[one.clone(), two.clone()], soon()).await.unwrap_err();
        let both = format!("no proxy can be reached: {one}: connection refused; {two}: connection refused");
        assert_eq!(failure.message, both);
        let unknown = NodeAddr::new("no-such-host.invalid", "22").unwrap();
        let failure = connect("", &[unknown], soon()).await.unwrap_err();
        let begin = "no-such-host.invalid:22 cannot be reached: its name cannot be resolved (";
        assert!(failure.message.starts_with(begin), "{failure}");
    }

    #[tokio::test]
    async fn a_silent_server_costs_a_quarter_of_a_second_when_there_is_another() {
        let ((_full, silent), (_listener, alive)) = (silent().await, listening().await);
        let begun = Instant::now();
        let connected = connect("proxy", &[silent.clone(), alive.clone()], soon()).await.unwrap();
        assert_eq!((connected.server, connected.beaten), (alive, vec![silent.clone()]));
        assert!(begun.elapsed() >= race::STAGGER);
        let failure =
            connect("", std::slice::from_ref(&silent), Instant::now() + race::STAGGER).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Timeout);
        assert_eq!(failure.message, format!("{silent} did not answer in time"));
    }

    /// A server that answers nothing: its backlog is full, and the system drops what comes.
    async fn silent() -> (Vec<TcpStream>, NodeAddr) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            held.push(stream);
        }
        // Held open by the task until the runtime ends.
        tokio::spawn(async move {
            let _listener = listener;
            std::future::pending::<()>().await;
        });
        (held, NodeAddr::parse(&address.to_string()).unwrap())
    }
}
