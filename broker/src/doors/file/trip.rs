//! A file after its client was answered: carried by SFTP, or by commands where there is none.

use super::Verb;
use super::client::{Incoming, Outgoing, ends};
use super::unfinished::{failure, fate};
use crate::broker::Broker;
use crate::pool::{Leased, Node, Use};
use crate::reach;
use crate::session::transfer::{self, BULK, Got, Harm, Lacking, Order, Stopped, Unfinished, by_shell, shell};
use crate::session::{Event, NotOpened};
use crate::target::{Run, Target, Wishes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use natssh_wire::Failure;
use natssh_wire::frame::FromBroker;
use natssh_wire::ssh_words::LogLevel;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

/// How often a file of which nothing has passed is taken elsewhere.
const MORE_TRIES: u32 = 1;
/// A node that may still have a temporary file is told to remove it within this.
const CLEARING: Duration = Duration::from_secs(60);
/// Between two tries of that, at first.
const PAUSE: Duration = Duration::from_secs(1);
/// An SFTP server that has nothing more to do ends within this, and gives its place back.
const WINDING_DOWN: Duration = Duration::from_secs(5);

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

/// A try that came to nothing.
enum Missed {
    /// There is no channel.
    NoLease(Failure),
    /// The transfer stopped.
    Unfinished(Unfinished),
}

impl Trip {
    /// A channel for it.
    pub(super) async fn lease(&self, how: Use) -> Result<Leased<Node>, Failure> {
        let Self { broker, target, wishes, caller, patience, .. } = self;
        let deadline = Instant::now() + *patience;
        match broker.lease_for(how, target, wishes, caller.clone(), deadline).await {
            Ok(leased) => Ok(leased),
            Err(NotOpened::Failed(failure)) => Err(failure),
            Err(NotOpened::RealSsh(reason)) => Err(super::needs_ssh(&reason, &target.host)),
        }
    }

    /// Carries the file and tells how that went.
    pub(super) async fn carry(self: &Arc<Self>, upgraded: Upgraded, leased: Leased<Node>, how: Use) {
        // The door serves nothing but unix sockets.
        let Ok(parts) = upgraded.downcast::<TokioIo<UnixStream>>() else { return };
        let (mut incoming, mut outgoing) = ends(parts.io.into_inner(), parts.read_buf);
        self.greet(&mut outgoing, &leased).await;
        let mut tries = 0;
        let mut next = Ok(leased);
        let missed = loop {
            let missed = match next {
                Err(failure) => break Missed::NoLease(failure),
                Ok(leased) => match self.run(&mut incoming, &mut outgoing, leased, how).await {
                    Ok(last) => {
                        outgoing.tell(&[FromBroker::Exit(0)]).await;
                        wind_down(last).await;
                        return;
                    }
                    Err(missed) => missed,
                },
            };
            if tries == MORE_TRIES || !missed.is_cut() || incoming.has_begun() || outgoing.has_begun() {
                break missed;
            }
            self.clear_away(&missed);
            tries += 1;
            next = self.lease(how).await;
        };
        self.clear_away(&missed);
        if let Some(failure) = self.told(missed) {
            let json = serde_json::to_vec(&failure).unwrap_or_default();
            outgoing.tell(&[FromBroker::Failed(&json)]).await;
        }
    }

    /// What ssh would say at its start.
    async fn greet(&self, outgoing: &mut Outgoing, leased: &Leased<Node>) {
        let level = self.wishes.level;
        let warning = leased.session().warning().filter(|_| level >= LogLevel::Info);
        let line = format!("natssh: the file goes over a session of {}", self.target.peer());
        let warning = warning.map(|line| FromBroker::Debug(0, line));
        let line = (level.debug() >= 1).then_some(FromBroker::Debug(1, &line));
        let frames: Vec<_> = warning.into_iter().chain(line).collect();
        if !frames.is_empty() {
            outgoing.tell(&frames).await;
        }
    }

    /// One try, from its first request on; the channel that was used last.
    async fn run(
        &self,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
        mut leased: Leased<Node>,
        how: Use,
    ) -> Result<Leased<Node>, Missed> {
        if !self.broker.without_sftp.holds(leased.key(), Instant::now()) {
            let carried = match self.verb {
                Verb::Put => self.put(incoming, &leased).await.map(|()| Got::Whole),
                Verb::Get => self.get(incoming, outgoing, &leased, Some(BULK)).await.map_err(missed),
            };
            match carried {
                Ok(Got::Whole) => return Ok(leased),
                Ok(Got::Large) => {
                    wind_down(leased).await;
                    let leased = self.lease(Use::Alone).await.map_err(Missed::NoLease)?;
                    self.get(incoming, outgoing, &leased, None).await.map_err(missed)?;
                    return Ok(leased);
                }
                Err(Missed::Unfinished(Unfinished { why: Stopped::NoSftp(lacking), .. })) => {
                    if lacking == Lacking::Surely {
                        tracing::debug!(host = self.target.host, "no sftp; files go by commands");
                        self.broker.without_sftp.note(leased.key(), Instant::now());
                    }
                    drop(leased);
                    leased = self.lease(self.by_commands(how)).await.map_err(Missed::NoLease)?;
                }
                Err(other) => return Err(other),
            }
        }
        match self.verb {
            Verb::Put => self.put_by_commands(incoming, leased, how).await,
            Verb::Get => self.get_by_command(incoming, outgoing, leased).await,
        }
    }

    /// How large a file is, cat does not say beforehand.
    fn by_commands(&self, how: Use) -> Use {
        match self.verb {
            Verb::Put => how,
            Verb::Get => Use::Alone,
        }
    }

    async fn put(&self, incoming: &mut Incoming, leased: &Leased<Node>) -> Result<(), Missed> {
        self.start(leased, Run::Subsystem("sftp".into())).await.map_err(missed)?;
        let put = transfer::put(&**leased, &self.order, incoming).await;
        put.map_err(Missed::Unfinished)
    }

    async fn get(
        &self,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
        leased: &Leased<Node>,
        most: Option<u64>,
    ) -> Result<Got, Stopped> {
        self.start(leased, Run::Subsystem("sftp".into())).await?;
        tokio::select! {
            biased;
            got = transfer::get(&**leased, &self.order.path, most, outgoing) => got,
            left = incoming.leaves() => Err(Stopped::Client(left)),
        }
    }

    async fn put_by_commands(
        &self,
        incoming: &mut Incoming,
        leased: Leased<Node>,
        how: Use,
    ) -> Result<Leased<Node>, Missed> {
        let path = &self.order.path;
        self.start(&leased, Run::Command(shell::write(&self.order))).await.map_err(missed)?;
        if let Err(why) = by_shell::feed(&*leased, path, incoming).await {
            if let Stopped::Client(_) = why {
                // What it writes can be removed once it has ended.
                drop(by_shell::end(&*leased, path).await);
            }
            return Err(self.unfinished(why, Harm::Perhaps));
        }
        drop(leased);
        let leased = self.lease(how).await.map_err(Missed::NoLease)?;
        self.start(&leased, Run::Command(shell::rename(&self.order))).await.map_err(missed)?;
        let renamed = by_shell::end(&*leased, path).await;
        renamed.map_err(|why| self.unfinished(why, Harm::Replaced))?;
        Ok(leased)
    }

    async fn get_by_command(
        &self,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
        leased: Leased<Node>,
    ) -> Result<Leased<Node>, Missed> {
        let path = &self.order.path;
        self.start(&leased, Run::Command(shell::read(path))).await.map_err(missed)?;
        let heard = tokio::select! {
            biased;
            heard = by_shell::hear(&*leased, path, outgoing) => heard,
            left = incoming.leaves() => Err(Stopped::Client(left)),
        };
        heard.map_err(missed)?;
        Ok(leased)
    }

    /// A put by commands that stopped there. A command that fails removes what it has made.
    fn unfinished(&self, why: Stopped, harm: Harm) -> Missed {
        let failed = matches!(why, Stopped::File(_));
        let left = (!failed).then(|| self.order.temporary());
        Missed::Unfinished(Unfinished { why, left, harm: if failed { Harm::None } else { harm } })
    }

    /// Removes a temporary file that may have stayed behind, on whichever session there is next.
    fn clear_away(self: &Arc<Self>, missed: &Missed) {
        let Missed::Unfinished(Unfinished { left: Some(left), .. }) = missed else { return };
        let (trip, left) = (self.clone(), left.clone());
        tokio::spawn(async move {
            if !timeout(CLEARING, trip.remove_at_last(&left)).await.unwrap_or(false) {
                let path = crate::text::one_line(&String::from_utf8_lossy(&left));
                tracing::warn!(host = trip.target.host, path, "a temporary file may have stayed on a node");
            }
        });
    }

    /// Tries until the node can be reached; whether the file is gone.
    async fn remove_at_last(&self, left: &[u8]) -> bool {
        let mut pause = PAUSE;
        loop {
            match self.remove(left).await {
                Ok(()) => return true,
                Err(Missed::Unfinished(Unfinished { why: Stopped::File(_), .. })) => return false,
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
    }

    async fn remove(&self, left: &[u8]) -> Result<(), Missed> {
        let leased = self.lease(Use::Shared).await.map_err(Missed::NoLease)?;
        let removed = if self.broker.without_sftp.holds(leased.key(), Instant::now()) {
            self.start(&leased, Run::Command(shell::remove(left))).await.map_err(missed)?;
            by_shell::end(&*leased, left).await
        } else {
            self.start(&leased, Run::Subsystem("sftp".into())).await.map_err(missed)?;
            transfer::remove(&*leased, left).await
        };
        removed.map_err(missed)?;
        wind_down(leased).await;
        Ok(())
    }

    /// What the client is told; nothing where it is gone.
    fn told(&self, missed: Missed) -> Option<Failure> {
        let Unfinished { why, harm, .. } = match missed {
            Missed::NoLease(failure) => return Some(failure),
            Missed::Unfinished(unfinished) => unfinished,
        };
        let failure = failure(&why, &fate(harm, &self.order.path), &self.target)?;
        if matches!(why, Stopped::NotSftp(_) | Stopped::Stalled) {
            self.broker.failures.record(self.target.address().ok().as_ref(), None, &failure);
        }
        tracing::debug!(host = self.target.host, reason = failure.message, "a file was not carried");
        Some(failure)
    }

    async fn start(&self, leased: &Leased<Node>, run: Run) -> Result<(), Stopped> {
        let lost = |_| Stopped::Cut("the node closed the channel".into());
        let wishes = Wishes { run, terminal: None, ..self.wishes.clone() };
        leased.start(&wishes).await.map_err(lost)
    }
}

impl Missed {
    /// Whether the session or the channel was lost: another one may do.
    fn is_cut(&self) -> bool {
        matches!(self, Self::Unfinished(Unfinished { why: Stopped::Cut(_), .. }))
    }
}

fn missed(why: Stopped) -> Missed {
    Missed::Unfinished(Unfinished { why, left: None, harm: Harm::None })
}

/// Lets what runs on a channel end by itself, so that the node counts it no more when its place is given back.
async fn wind_down(leased: Leased<Node>) {
    let ended = async {
        drop(leased.finish_writing().await);
        while matches!(leased.next().await, Event::Started | Event::Refused | Event::Output(..)) {}
    };
    drop(timeout(WINDING_DOWN, ended).await);
}
