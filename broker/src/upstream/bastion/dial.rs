//! Dialling one trunk to a bastion, over TCP or over a stream of another upstream.

use super::super::dialling::{advise, as_newest, identity_of};
use super::super::prompt::Prompt;
use super::super::trunks::Dialled;
use super::super::trust;
use super::super::{Ask, Upstream};
use crate::dial;
use crate::failures::unix_now;
use crate::identity::{Identity, Snapshot, Watched};
use crate::ssh::host_key::{self, Names, Sha1};
use crate::ssh::{Budget, Connection, Hello, HostCheck, Keeping, KeyOffer, Logins};
use crate::target::Algorithms;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One less than sshd's MaxAuthTries: the last one is the server's to say no to.
const ATTEMPTS: usize = 5;

/// Dials one trunk.
pub(super) struct Dialler {
    pub(super) bastion: NodeAddr,
    pub(super) peer: String,
    pub(super) login: String,
    pub(super) via: Option<Arc<Upstream>>,
    /// The caller's agent, for the way there.
    pub(super) agent: Option<PathBuf>,
    pub(super) known_hosts: Vec<PathBuf>,
    pub(super) connect_timeout: Duration,
    pub(super) watched: Arc<Watched>,
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
        let login = identity.login(Some(&self.login)).map_err(|error| error.to_failure())?.to_owned();
        let hello = self.hello(login.clone(), identity).await;
        let opened = match &self.via {
            None => Connection::open(self.over_tcp(deadline).await?, hello, deadline).await,
            Some(via) => {
                let ask = Ask::for_trunk(&self.bastion, self.agent.clone(), deadline);
                let stream = via.open(&ask).await.map_err(|failure| self.not_reached(failure))?;
                let socket = stream.into_socket().map_err(|error| {
                    let text = format!("no socket for the way to {}: {error}", self.peer);
                    Failure::new(FailureKind::Internal, text).hint("natssh status")
                })?;
                Connection::open(socket, hello, deadline).await
            }
        };
        opened.map_err(|error| advise(error.to_failure(&self.peer, &login), identity))
    }

    async fn over_tcp(&self, deadline: Instant) -> Result<Prompt, Failure> {
        let connected = dial::connect("bastion", std::slice::from_ref(&self.bastion), deadline).await;
        connected.map(|connected| Prompt(connected.stream)).map_err(|failure| failure.hint("natssh status"))
    }

    async fn hello(&self, login: String, identity: &Identity) -> Hello {
        let known = trust::known(identity, &self.known_hosts).await;
        let names = Names::new(&self.bastion.host, self.bastion.port);
        let expected = host_key::expected(&known, &names);
        let check: HostCheck = Box::new(move |presented| {
            let verdict = host_key::verify(&known, &names, *presented, unix_now(), Sha1::Refused);
            verdict.map(drop).map_err(|error| error.to_failure())
        });
        Hello {
            peer: self.peer.clone(),
            login,
            offers: KeyOffer::all_of(&identity.credential).into_iter().take(ATTEMPTS).collect(),
            algorithms: Algorithms::default(),
            expected,
            check,
            // A bastion is never offered the agent.
            agent_logins: Logins::default(),
            keeping: Keeping::Streams(self.budget.clone()),
        }
    }

    /// The upstream below said why; this says what it was wanted for.
    fn not_reached(&self, below: Failure) -> Failure {
        Failure { message: format!("no way to {}: {}", self.peer, below.message), ..below }
    }
}
