//! A call that has the session and runs nothing on it: `-W`, which connects its streams to a port that the node reaches,
//! and `-N`, which wants the session to be there.

use super::call::{Call, bad_frame, client_of, farewell};
use super::pump::{Client, Command, Over};
use crate::doors::greeting::greeting;
use crate::pool::{self, Held, Node};
use crate::session::{Event, Gone, NotOpened, OpenError, Port, Remote};
use crate::target::{Need, Purpose};
use crate::upstream::refused;
use bytes::Bytes;
use hyper::upgrade::Upgraded;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use std::time::Duration;
use tokio::time::timeout;

/// Longer than a node waits for somebody who does not answer: Linux gives up on a connection after 127 s.
const CONNECT: Duration = Duration::from_secs(150);

/// Whose session is wanted by whom, and what for.
pub(super) struct Hold {
    pub(super) call: Call,
    pub(super) purpose: Purpose,
}

impl Command for Port {}

/// A session, of which nothing is heard but its end.
impl Remote for Held<Node> {
    async fn next(&self) -> Event {
        Event::Cut(self.ended().await)
    }

    async fn write(&self, _bytes: Bytes) -> Result<(), Gone> {
        Ok(())
    }

    async fn finish_writing(&self) -> Result<(), Gone> {
        Ok(())
    }
}

impl Command for Held<Node> {}

impl Hold {
    /// Does what is wanted until one side has enough, and tells how that was.
    pub(super) async fn carry(&self, upgraded: Upgraded, held: Held<Node>) {
        let Some(mut client) = client_of(upgraded, &self.call.wishes) else { return };
        if let Err(failure) = self.run(&mut client, held).await {
            farewell(&mut client, &self.call.target, &failure).await;
        }
    }

    async fn run(&self, client: &mut Client, held: Held<Node>) -> Result<(), Failure> {
        if !self.greet(client, &held).await {
            return Ok(());
        }
        let over = match &self.purpose {
            Purpose::Nothing => client.carry(&held, Need::May).await,
            Purpose::Forward(to) => match self.connect(client, held, to).await? {
                Some((port, _held)) => client.carry(&port, Need::May).await,
                None => Over::ClientGone,
            },
        };
        match over {
            Over::Told | Over::ClientGone => Ok(()),
            Over::BadFrame(bad) => Err(bad_frame(&bad)),
            // The pool notes it, once for all who were on the session.
            Over::Cut(reason) => Err(self.cut(&reason)),
            Over::Refused | Over::Closed | Over::NoTerminal => Err(self.cut("the node closed the channel")),
        }
    }

    /// Has the node connect; the session stays in use as long as it is held. None when the client has left meanwhile.
    async fn connect(
        &self,
        client: &Client,
        mut held: Held<Node>,
        to: &NodeAddr,
    ) -> Result<Option<(Port, Held<Node>)>, Failure> {
        // One that was lost before the node could be asked is made up for once.
        let mut is_second = false;
        loop {
            let opened = tokio::select! {
                opened = timeout(CONNECT, held.port(to.clone())) => opened,
                () = client.left() => return Ok(None),
            };
            let lost = match opened {
                Ok(Ok(port)) => return Ok(Some((port, held))),
                Ok(Err(OpenError::NoChannel(why))) => {
                    return Err(self.noted(refused(&self.call.target.peer(), &to.to_string(), &why)));
                }
                Ok(Err(OpenError::Lost(_) | OpenError::Refused(_))) => pool::lost(&self.call.target),
                Err(_) => return Err(self.noted(self.unanswered(to))),
            };
            if is_second {
                return Err(self.noted(lost));
            }
            is_second = true;
            drop(held);
            let Call { broker, target, wishes, caller, deadline } = &self.call;
            let to_node = broker.to_node(target, wishes, caller.clone());
            held = match broker.pool.hold(target, wishes, to_node, *deadline).await {
                Ok(held) => held,
                Err(NotOpened::Failed(failure)) => return Err(failure),
                Err(NotOpened::RealSsh(_)) => return Err(lost),
            };
        }
    }

    /// What ssh would say at its start; false if nobody is there to hear it.
    async fn greet(&self, client: &mut Client, held: &Held<Node>) -> bool {
        let level = self.call.wishes.level;
        let peer = self.call.target.peer();
        let line = match &self.purpose {
            Purpose::Forward(to) => format!("natssh: {peer} connects to {to} for a session that is kept"),
            Purpose::Nothing => format!("natssh: a session to {peer} is kept"),
        };
        let lines = [(1, line)];
        let frames: Vec<_> = greeting(level, held.session(), &lines).collect();
        frames.is_empty() || client.tell(&frames).await
    }

    /// As ssh begins what it says of `-W`.
    fn noted(&self, failure: Failure) -> Failure {
        let message = format!("stdio forwarding failed: {}", failure.message);
        let failure = Failure { message, ..failure };
        self.call.broker.failures.record(self.call.target.address().ok().as_ref(), None, &failure);
        failure
    }

    fn unanswered(&self, to: &NodeAddr) -> Failure {
        let text = format!("{} got no answer from {to} in {} s", self.call.target.peer(), CONNECT.as_secs());
        Failure::new(FailureKind::Timeout, text).hint("natssh status")
    }

    fn cut(&self, reason: &str) -> Failure {
        let text = format!("the session to {} ended: {reason}", self.call.target.peer());
        Failure::new(FailureKind::Cut, text).hint(format!("natssh why {}", self.call.target.host))
    }
}
