//! A call of ssh after its client was answered: a command handed to its node, and how it ended.

use super::pump::{Client, Command, Over};
use super::told;
use crate::broker::Broker;
use crate::doors::greeting::greeting;
use crate::pool::{self, Leased, Node};
use crate::reach;
use crate::session::{Gone, NotOpened, Running};
use crate::target::{Need, Run, Target, Wishes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use natssh_wire::frame::{BadFrame, FromBroker};
use natssh_wire::ssh_words::LogLevel;
use natssh_wire::terminal::Size;
use natssh_wire::{Failure, FailureKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

/// How often a command that has not started is taken elsewhere.
const MORE_TRIES: u32 = 1;
/// A client reads its last frames within this.
const FAREWELL: Duration = Duration::from_secs(5);
/// As ssh says it (ssh.c), which runs the shell all the same.
const NO_TERMINAL: &str = "Pseudo-terminal will not be allocated because stdin is not a terminal.";

/// What is to be run, where and for whom.
pub(super) struct Call {
    pub(super) broker: Arc<Broker>,
    pub(super) target: Box<Target>,
    pub(super) wishes: Wishes,
    pub(super) caller: reach::Caller,
    /// When a session has to be there.
    pub(super) deadline: Instant,
}

impl Command for Running {
    async fn signal(&self, name: &str) -> Result<(), Gone> {
        Running::signal(self, name).await
    }

    async fn resize(&self, size: Size) -> Result<(), Gone> {
        Running::resize(self, size).await
    }

    async fn rekey(&self) -> Result<(), Gone> {
        Running::rekey(self).await
    }
}

impl Call {
    /// Runs the command, carries its bytes and tells its end.
    pub(super) async fn carry(&self, upgraded: Upgraded, leased: Leased<Node>) {
        let Some(mut client) = client_of(upgraded, &self.wishes) else { return };
        if let Err(failure) = self.run(&mut client, leased).await {
            farewell(&mut client, &self.target, &failure).await;
        }
    }

    /// An error means that the command's end is not known, and says whether it ran.
    async fn run(&self, client: &mut Client, mut leased: Leased<Node>) -> Result<(), Failure> {
        if !self.greet(client, &leased).await {
            return Ok(());
        }
        let terminal = self.wishes.terminal.as_ref().map_or(Need::May, |pty| pty.need);
        let mut tries = 0;
        loop {
            let not_started = match leased.start(&self.wishes).await {
                Ok(()) => match client.carry(&*leased, terminal).await {
                    Over::Told | Over::ClientGone => return Ok(()),
                    Over::BadFrame(bad) => return Err(bad_frame(&bad)),
                    Over::Closed => return Err(self.noted(self.closed())),
                    // The pool notes it, once for all commands of the session.
                    Over::Cut(reason) => return Err(self.cut(&reason)),
                    Over::NoTerminal => return Err(self.noted(self.no_terminal())),
                    Over::Refused => self.refused(),
                },
                // It had ended, as a channel that was opened ahead of need may have.
                Err(Gone) => pool::lost(&self.target),
            };
            if tries == MORE_TRIES || !self.may_go_elsewhere() || !client.could_start_again() {
                return Err(self.noted(not_started));
            }
            tries += 1;
            drop(leased);
            let Self { broker, target, wishes, caller, deadline } = self;
            let to_node = broker.to_node(target, wishes, caller.clone());
            leased = match broker.pool.lease(target, wishes, to_node, *deadline).await {
                Ok(leased) => leased,
                Err(NotOpened::Failed(failure)) => return Err(failure),
                Err(NotOpened::RealSsh(reason)) => return Err(self.too_late_for_ssh(&reason)),
            };
        }
    }

    /// What ssh would say at its start; false if nobody is there to hear it.
    async fn greet(&self, client: &mut Client, leased: &Leased<Node>) -> bool {
        let level = self.wishes.level;
        let node = leased.session();
        let lines = match level.debug() {
            0 => Vec::new(),
            debug => told::lines(debug, &self.target, &self.wishes, &told::On::of(node.ssh())),
        };
        let lacks_terminal = self.wishes.lacks_terminal && level >= LogLevel::Info;
        let no_terminal = lacks_terminal.then_some(FromBroker::Debug(0, NO_TERMINAL));
        let frames: Vec<_> = no_terminal.into_iter().chain(greeting(level, node, &lines)).collect();
        frames.is_empty() || client.tell(&frames).await
    }

    /// A node that has no such subsystem on one session has none on another.
    fn may_go_elsewhere(&self) -> bool {
        !matches!(self.wishes.run, Run::Subsystem(_))
    }

    fn noted(&self, failure: Failure) -> Failure {
        let node = self.target.address().ok();
        self.broker.failures.record(node.as_ref(), None, &failure);
        failure
    }

    fn refused(&self) -> Failure {
        let peer = self.target.peer();
        match &self.wishes.run {
            Run::Subsystem(name) => {
                Failure::new(FailureKind::Denied, format!("{peer} has no subsystem {name:?}; nothing ran"))
                    .hint("look for Subsystem in the sshd_config of the node")
            }
            Run::Command(_) | Run::Shell => {
                Failure::new(FailureKind::Denied, format!("{peer} refuses to run a command; nothing ran"))
                    .hint("look into the log of the node's sshd")
            }
        }
    }

    /// As ssh says it (clientloop.c), which runs nothing back either.
    fn no_terminal(&self) -> Failure {
        let text = format!(
            "PTY allocation request failed on channel 0: {} gives no terminal; the command may have run without",
            self.target.peer()
        );
        Failure::new(FailureKind::Denied, text)
            .hint("the same without -t, or PermitTTY in the sshd_config of the node")
    }

    fn closed(&self) -> Failure {
        let text = format!(
            "{} closed the channel and told no exit status; the command may have run",
            self.target.peer()
        );
        Failure::new(FailureKind::Cut, text).hint("look into the log of the node's sshd")
    }

    fn cut(&self, reason: &str) -> Failure {
        let text = format!(
            "the session to {} ended under the command, which may have run and may run on: {reason}",
            self.target.peer()
        );
        Failure::new(FailureKind::Cut, text).hint(format!("natssh why {}", self.target.host))
    }

    fn too_late_for_ssh(&self, reason: &str) -> Failure {
        let text = format!(
            "the session to {} was lost, and the next one is ssh's to open: {reason}",
            self.target.peer()
        );
        Failure::new(FailureKind::Denied, text).hint("the same command again")
    }
}

/// Who was answered with 101; none who has left meanwhile: whoever leaves before its command started does not want it
/// any more, as with ssh.
pub(super) fn client_of(upgraded: Upgraded, wishes: &Wishes) -> Option<Client> {
    // The door serves nothing but unix sockets.
    let parts = upgraded.downcast::<TokioIo<UnixStream>>().ok()?;
    let mut client = Client::new(parts.io.into_inner(), parts.read_buf);
    if wishes.no_input {
        client.end_input();
    }
    (!client.has_left()).then_some(client)
}

/// Tells why the end of a call was not seen.
pub(super) async fn farewell(client: &mut Client, target: &Target, failure: &Failure) {
    tracing::debug!(host = target.host, reason = failure.message, "the end of a command was not seen");
    let json = serde_json::to_vec(failure).unwrap_or_default();
    // It may have left, and then nobody is told.
    drop(timeout(FAREWELL, client.tell(&[FromBroker::Failed(&json)])).await);
}

pub(super) fn bad_frame(bad: &BadFrame) -> Failure {
    Failure::new(FailureKind::BadRequest, format!("the client sent what is no frame: {bad}"))
        .hint("natssh --version")
}
