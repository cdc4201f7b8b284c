//! The real thing: sessions to nodes, over whatever stream a route gives.

use super::lease::{Held, Leased};
use super::line::{Boxed, Counts, Line, Opener};
use crate::reach::{Caller, Opened, Reach, Way};
use crate::session::transfer::Talk;
use crate::session::{Alive, Ended, Gone, Health, NotOpened, OpenError, Port, Running, Session, Stores};
use crate::target::{Target, Wishes};
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::watch;
use tokio::time::Instant;

/// A session.
pub struct Node {
    session: Arc<Session>,
    has_warned: AtomicBool,
}

/// Opens sessions on a node, by the configuration in force.
pub struct ToNode {
    reach: Arc<Reach>,
    target: Target,
    alive: Alive,
    stores: Arc<Stores>,
    caller: Caller,
}

impl ToNode {
    /// For a call by `caller`.
    #[must_use]
    pub fn new(
        reach: &Arc<Reach>,
        target: &Target,
        wishes: &Wishes,
        stores: &Arc<Stores>,
        caller: Caller,
    ) -> Arc<Self> {
        let (reach, target, stores) = (reach.clone(), target.clone(), stores.clone());
        Arc::new(Self { reach, target, alive: Alive::new(wishes.alive), stores, caller })
    }

    async fn connect(&self, deadline: Instant) -> Result<Node, NotOpened> {
        let target = &self.target;
        let Opened { stream, carried } = self.reach.dial(target, &self.caller, deadline).await?;
        let (socket, shaken) = stream.into_session(carried).map_err(|error| {
            let text = format!("no socket for a session to {}: {error}", target.host);
            Failure::new(FailureKind::Internal, text).hint("natssh status")
        })?;
        let opened = Session::open(socket, target, &self.stores, self.alive, deadline).await;
        shaken.hands();
        if let Err(NotOpened::Failed(failure)) = &opened {
            self.reach.note(target, failure);
        }
        Ok(Node { session: Arc::new(opened?), has_warned: AtomicBool::new(false) })
    }
}

impl Opener<Node> for ToNode {
    fn way(&self) -> Way {
        self.reach.way_to(&self.target)
    }

    fn open(self: Arc<Self>, deadline: Instant) -> Boxed<Result<Node, NotOpened>> {
        Box::pin(async move { self.connect(deadline).await })
    }
}

impl Node {
    /// The session itself, for whoever tells of it.
    pub fn ssh(&self) -> &Session {
        &self.session
    }

    /// What ssh would have told at the opening, for the first who asks: `Warning: Permanently added …`.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        let warning = self.session.warning()?;
        (!self.has_warned.swap(true, Relaxed)).then_some(warning)
    }
}

impl Held<Node> {
    /// Has the node connect to `node`, as the node knows it.
    ///
    /// # Errors
    /// See [`OpenError`]; never `Refused`.
    pub async fn port(&self, node: NodeAddr) -> Result<Port, OpenError> {
        self.session().session.port(node).await
    }

    /// Waits for the session's end, and says why it ended.
    pub async fn ended(&self) -> Arc<str> {
        let mut ended = self.session().session.ended();
        let reason = ended.wait_for(Option::is_some).await.ok();
        let reason = reason.and_then(|ended| ended.as_ref().map(|ended| ended.reason.clone()));
        reason.unwrap_or_else(|| "it was closed".into())
    }
}

impl Line for Node {
    type Channel = Running;
    type Talk = Talk;

    fn channel(self: Arc<Self>) -> Boxed<Result<Running, OpenError>> {
        let session = self.session.clone();
        Box::pin(async move { session.channel().await })
    }

    fn is_closed(channel: &Running) -> bool {
        channel.has_ended()
    }

    fn wind_down(channel: Running) -> Boxed<bool> {
        Box::pin(async move { channel.wind_down().await })
    }

    fn caught_up(self: Arc<Self>) -> Boxed<()> {
        let session = self.session.clone();
        // A session that has ended has nothing left to catch up with.
        Box::pin(async move {
            let _ = session.ping().await;
        })
    }

    fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.session.ended()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.session.health()
    }

    fn private(&self) -> watch::Receiver<bool> {
        self.session.private()
    }

    fn until(&self) -> Option<u64> {
        self.session.proof()?.valid_before
    }

    fn still_stands(&self) -> bool {
        self.session.proof().is_none_or(|proof| proof.is_still_there())
    }

    fn server(&self) -> &str {
        self.session.server()
    }

    fn sha1(&self) -> bool {
        self.session.sha1()
    }

    fn counts(&self) -> Counts {
        let (to_node, from_node) = self.session.bytes();
        Counts { round_trip: self.session.round_trip(), to_node, from_node }
    }

    fn close(self: Arc<Self>) {
        self.session.close();
    }
}

impl Leased<Node> {
    /// Hands over what is to be run and all that goes with it, and has the next channel opened behind it.
    ///
    /// # Errors
    /// The channel had ended before: nothing ran.
    pub async fn start(&self, wishes: &Wishes) -> Result<(), Gone> {
        Running::start(self, wishes).await?;
        self.started();
        Ok(())
    }
}
