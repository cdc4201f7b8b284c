//! One file, once a session for it is there: carried by SFTP, or by commands where there is none.

use super::Verb;
use super::unfinished::{failure, fate};
use crate::broker::Broker;
use crate::pool::{Leased, Node, Use};
use crate::reach;
use crate::session::NotOpened;
use crate::session::transfer::{Got, Harm, Lacking, Left, Order, Sink, Source, Stopped, Talk, Unfinished};
use crate::target::{Target, Wishes};
use natssh_wire::Failure;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

mod clear;
mod lent;
mod ways;

pub(super) use lent::{Lent, Over};

/// How often a file of which nothing has passed is taken elsewhere.
const MORE_TRIES: u32 = 1;

/// One file, where it is and for whom.
pub(super) struct Trip {
    pub(super) broker: Arc<Broker>,
    pub(super) target: Box<Target>,
    pub(super) wishes: Wishes,
    pub(super) caller: reach::Caller,
    /// How long a session may take to be there.
    pub(super) patience: Duration,
    pub(super) verb: Verb,
    pub(super) order: Order,
}

/// Where the bytes of a put come from, and how one hears that the client of a get is gone.
pub(super) trait Incoming: Source {
    /// Whether anything of the file has been taken: then it cannot be begun anew.
    fn has_begun(&self) -> bool;
    /// Waits until a client that has nothing to send is gone.
    fn leaves(&mut self) -> impl Future<Output = Left> + Send;
}

/// Where the bytes of a get go.
pub(super) trait Outgoing: Sink {
    /// Whether the client was sent any of the file: then it cannot be begun anew.
    fn has_begun(&self) -> bool;
}

/// A client.
pub(super) struct Client<I, O> {
    pub(super) incoming: I,
    pub(super) outgoing: O,
}

/// A try that came to nothing.
enum Missed {
    /// There is no channel.
    NoLease(Failure),
    /// The transfer stopped.
    Unfinished(Unfinished),
}

impl Trip {
    /// A channel for it, with a conversation that may have begun.
    pub(super) async fn lease(&self, how: Use) -> Result<Lent, Failure> {
        let Self { broker, target, wishes, caller, .. } = self;
        let to_node = broker.to_node(target, wishes, caller.clone());
        if let Some((channel, talk)) = broker.pool.rouse(how, target, wishes, to_node).await {
            return Ok(Lent { channel, talk });
        }
        Ok(Lent { channel: self.channel(how).await?, talk: Talk::default() })
    }

    /// A channel on which nothing runs.
    async fn channel(&self, how: Use) -> Result<Leased<Node>, Failure> {
        let Self { broker, target, wishes, caller, patience, .. } = self;
        let deadline = Instant::now() + *patience;
        let to_node = broker.to_node(target, wishes, caller.clone());
        match broker.pool.lease_for(how, target, wishes, to_node, deadline).await {
            Ok(leased) => Ok(leased),
            Err(NotOpened::Failed(failure)) => Err(failure),
            Err(NotOpened::RealSsh(reason)) => Err(super::needs_ssh(&reason, &target.host)),
        }
    }

    /// Carries the file.
    ///
    /// # Errors
    /// What the client is to be told; none where it is gone.
    pub(super) async fn go<I: Incoming, O: Outgoing>(
        self: &Arc<Self>,
        client: &mut Client<I, O>,
        lent: Lent,
        how: Use,
    ) -> Result<Over, Option<Failure>> {
        let mut tries = 0;
        let mut next = Ok(lent);
        let missed = loop {
            let missed = match next {
                Err(failure) => break Missed::NoLease(failure),
                Ok(lent) => match self.run(client, lent, how).await {
                    Ok(over) => return Ok(over),
                    Err(missed) => missed,
                },
            };
            let has_begun = client.incoming.has_begun() || client.outgoing.has_begun();
            if tries == MORE_TRIES || has_begun || !missed.is_cut() {
                break missed;
            }
            self.clear_away(&missed);
            tries += 1;
            next = self.lease(how).await;
        };
        self.clear_away(&missed);
        Err(self.told(missed))
    }

    /// One try, from its first request on.
    async fn run<I: Incoming, O: Outgoing>(
        &self,
        client: &mut Client<I, O>,
        mut lent: Lent,
        how: Use,
    ) -> Result<Over, Missed> {
        if self.broker.without_sftp.holds(lent.channel.key(), Instant::now()) {
            return self.run_commands(client, lent.channel, how).await;
        }
        let carried = match self.verb {
            Verb::Put => self.put(client, &mut lent).await.map(|()| Got::Whole),
            Verb::Get => self.get(client, &mut lent, Use::Shared).await,
        };
        match carried {
            Ok(Got::Whole) => Ok(lent.over()),
            Ok(Got::TooLarge) => {
                // Others are on that session, and stay there.
                lent.over().wind_down().await;
                let mut lent = self.lease(Use::Alone).await.map_err(Missed::NoLease)?;
                self.get(client, &mut lent, Use::Alone).await?;
                Ok(lent.over())
            }
            Err(Missed::Unfinished(Unfinished { why: Stopped::NoSftp(lacking), .. })) => {
                if lacking == Lacking::Surely {
                    tracing::debug!(host = self.target.host, "no sftp; files go by commands");
                    self.broker.without_sftp.note(lent.channel.key(), Instant::now());
                }
                drop(lent);
                let channel = self.channel(self.by_commands(how)).await.map_err(Missed::NoLease)?;
                self.run_commands(client, channel, how).await
            }
            Err(other) => Err(other),
        }
    }

    async fn run_commands<I: Incoming, O: Outgoing>(
        &self,
        client: &mut Client<I, O>,
        channel: Leased<Node>,
        how: Use,
    ) -> Result<Over, Missed> {
        let last = match self.verb {
            Verb::Put => self.put_by_commands(client, channel, how).await?,
            Verb::Get => self.get_by_command(client, channel).await?,
        };
        Ok(Over(Some(last)))
    }

    /// How large a file is, cat does not say beforehand.
    fn by_commands(&self, how: Use) -> Use {
        match self.verb {
            Verb::Put => how,
            Verb::Get => Use::Alone,
        }
    }

    /// What the client is told; nothing where it is gone.
    fn told(&self, missed: Missed) -> Option<Failure> {
        let Unfinished { why, harm, .. } = match missed {
            Missed::NoLease(failure) => return Some(failure),
            Missed::Unfinished(unfinished) => unfinished,
        };
        let failure = failure(&why, &fate(harm, &self.order.path), &self.target)?;
        if matches!(why, Stopped::NotSftp(_) | Stopped::Stalled) {
            self.note(&failure);
        }
        tracing::debug!(host = self.target.host, reason = failure.message, "a file was not carried");
        Some(failure)
    }

    /// Keeps a failure for those who ask later.
    pub(super) fn note(&self, failure: &Failure) {
        self.broker.failures.record(self.target.address().ok().as_ref(), None, failure);
    }
}

impl Missed {
    fn because(why: Stopped) -> Self {
        Self::Unfinished(Unfinished { why, left: None, harm: Harm::None })
    }

    /// Whether the session or the channel was lost: another one may do.
    fn is_cut(&self) -> bool {
        matches!(self, Self::Unfinished(Unfinished { why: Stopped::Cut(_), .. }))
    }
}
