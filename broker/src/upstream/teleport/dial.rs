//! Dialling one trunk to a Teleport proxy.

use super::super::dialling::{advise, as_newest, identity_of};
use super::super::trunks::Dialled;
use super::super::trust;
use super::tls::{self, Io};
use super::upgrade;
use crate::config::TlsRouting;
use crate::dial::{Connected, Servers};
use crate::failures::unix_now;
use crate::identity::{Identity, Snapshot, Watched};
use crate::ssh::host_key::{self, Expected, Names, Sha1};
use crate::ssh::{Budget, Connection, Hello, HostCheck, Keeping, KeyOffer, Logins};
use crate::target::Algorithms;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::either::Either;

/// Where Teleport's web listener is, unless somebody has moved it.
const WEB_PORTS: [u16; 2] = [443, 3080];

/// Dials one trunk.
pub(super) struct Dialler {
    pub(super) servers: Arc<Servers>,
    pub(super) login: Option<String>,
    pub(super) cluster: Option<String>,
    pub(super) known_hosts: Vec<PathBuf>,
    pub(super) tls: Option<TlsRouting>,
    pub(super) connect_timeout: Duration,
    pub(super) watched: Arc<Watched>,
    pub(super) logins: Logins,
    pub(super) records: Arc<AtomicBool>,
    pub(super) budget: Arc<Budget>,
}

impl Dialler {
    /// Dials once, with the newest identity.
    pub(super) async fn dial(&self) -> Dialled {
        as_newest(&self.watched, |snapshot| async move { self.connect(&snapshot).await }).await
    }

    async fn connect(&self, snapshot: &Snapshot) -> Result<Connection, Failure> {
        let deadline = Instant::now() + self.connect_timeout;
        let identity = identity_of(snapshot)?;
        let login = identity.login(self.login.as_deref()).map_err(|error| error.to_failure())?.to_owned();
        let connected = self.servers.connect(deadline).await;
        let Connected { stream, server, .. } = connected.map_err(|failure| failure.hint("natssh status"))?;
        let hello = Hello {
            peer: format!("proxy {server}"),
            login,
            // A proxy knows one authority: a second key would only be a second refusal.
            offers: KeyOffer::all_of(&identity.credential).into_iter().take(1).collect(),
            algorithms: Algorithms::default(),
            expected: Expected::default(),
            check: self.host_check(identity, &server).await,
            agent_logins: self.logins.clone(),
            keeping: Keeping::Streams(self.budget.clone()),
        };
        let (peer, login) = (hello.peer.clone(), hello.login.clone());
        let share = self.servers.share_of(deadline);
        let opened = match self.line(stream, &server, identity, share).await {
            Ok(line) => {
                Connection::open(line, hello, share).await.map_err(|error| error.to_failure(&peer, &login))
            }
            Err(failure) => Err(failure),
        };
        let connection = opened.map_err(|failure| {
            self.servers.judge(&server, &failure);
            let failure = if self.tls.is_none() { wants_tls(&server, failure) } else { failure };
            advise(failure, identity)
        })?;
        // Two booleans, RecordingProxy first; proxies before v7 do not know the
        // question, and there the refusal of the first stream tells.
        if let Ok(Ok(details)) = timeout_at(deadline, connection.ask("cluster-details@goteleport.com")).await
        {
            self.records.store(details.first().is_some_and(|byte| *byte != 0), Relaxed);
        }
        Ok(connection)
    }

    /// The way to its SSH listener.
    async fn line(
        &self,
        stream: TcpStream,
        server: &NodeAddr,
        identity: &Identity,
        deadline: Instant,
    ) -> Result<Either<TcpStream, Box<dyn Io>>, Failure> {
        let Some(settings) = &self.tls else { return Ok(Either::Left(stream)) };
        let way: Box<dyn Io> = match settings.upgrade {
            true => upgrade::tunnel(stream, server, settings, deadline).await?,
            false => Box::new(stream),
        };
        tls::connect(way, server, settings, identity, deadline).await.map(Either::Right)
    }

    /// Trust in the proxy: what the identity brings, and files of the user's own.
    async fn host_check(&self, identity: &Identity, server: &NodeAddr) -> HostCheck {
        let known = trust::known(identity, &self.known_hosts).await;
        let mut names = Names::new(&server.host, server.port).with_teleport_role("Proxy");
        if let Some(cluster) = self.cluster.as_ref().or(identity.cluster.as_ref()) {
            names = names.in_cluster(cluster);
        }
        // Teleport 7 proves its key with SHA-1, but its authority signs with SHA-512.
        Box::new(move |presented| {
            let verdict = host_key::verify(&known, &names, *presented, unix_now(), Sha1::Refused);
            verdict.map(drop).map_err(|error| error.to_failure())
        })
    }
}

/// A web listener hangs up on whoever speaks SSH to it outside TLS, without a word.
fn wants_tls(server: &NodeAddr, failure: Failure) -> Failure {
    if failure.kind == FailureKind::Unreachable && WEB_PORTS.contains(&server.port) {
        return failure.hint("if that is the web listener: tls_routing = true beside proxy in natssh.toml");
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_hung_up_on_at_a_web_port_is_told_of_tls_routing_and_nobody_else() {
        let hint = |port, kind| {
            let server = NodeAddr { host: "teleport.example.com".into(), port };
            wants_tls(&server, Failure::new(kind, "…")).hint
        };
        for port in [443, 3080] {
            assert!(
                hint(port, FailureKind::Unreachable).is_some_and(|hint| hint.contains("tls_routing = true"))
            );
            assert_eq!(hint(port, FailureKind::Denied), None);
        }
        assert_eq!(hint(3023, FailureKind::Unreachable), None);
    }
}
