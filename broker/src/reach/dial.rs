//! Dialling a target by its way, for a session of natssh's own.

use super::{Opened, Reach, Request};
use crate::routes::Picked;
use crate::session::NotOpened;
use crate::ssh::Early;
use crate::target::{self, Target};
use crate::upstream::{Around, Stream};
use natssh_wire::exec::ExecRequest;
use natssh_wire::{Failure, FailureKind, NodeAddr};
use rustix::process::Pid;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::Instant;

/// The name under which what only the user's ssh_config knows is counted and told.
pub(super) const SSH_CONFIG: &str = "ssh_config";
/// A ProxyCommand that calls natssh, which runs a ProxyCommand, and so on, ends here.
const DEPTH: usize = 8;

/// For whom a target is dialled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its `SSH_AUTH_SOCK`, for what is on the way; who one is at the target is in the target.
    pub agent: Option<PathBuf>,
    /// Its process, where the system tells.
    pub process: Option<Pid>,
    /// What a ProxyCommand of its ssh_config finds around it.
    pub around: Around,
}

/// A way to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Way {
    /// What the routes say; none where the target itself names the way.
    pub picked: Option<Picked>,
    /// The number of that upstream, which is another one for each set of settings it has had.
    pub number: u64,
}

impl Way {
    /// The upstream that leads there.
    #[must_use]
    pub fn upstream(&self) -> Option<&str> {
        self.picked.as_ref().map(|picked| picked.upstream.as_str())
    }
}

impl Caller {
    /// Whoever made that request.
    #[must_use]
    pub fn of(request: &ExecRequest, process: Option<Pid>) -> Self {
        let word = |word: &natssh_wire::Word| word.as_os_str().to_owned();
        let mut agents = request.environment.iter().filter(|(name, _)| name.as_bytes() == b"SSH_AUTH_SOCK");
        let agent = agents.next().map(|(_, socket)| socket).filter(|socket| !socket.as_bytes().is_empty());
        let directory = PathBuf::from(word(&request.directory));
        Self {
            agent: agent.map(|socket| directory.join(socket.as_os_str())),
            process,
            around: Around::Caller {
                directory,
                environment: request
                    .environment
                    .iter()
                    .map(|(name, value)| (word(name), word(value)))
                    .collect(),
            },
        }
    }
}

/// What a dial comes to.
pub(super) type Dialling = Pin<Box<dyn Future<Output = Result<Opened, NotOpened>> + Send>>;

impl Reach {
    /// Opens a stream to a target. A failure is also kept for `status` and `why`.
    ///
    /// # Errors
    /// One sentence and what to type, or what only the real ssh can do, before `deadline`.
    pub async fn dial(
        self: &Arc<Self>,
        target: &Target,
        caller: &Caller,
        deadline: Instant,
    ) -> Result<Opened, NotOpened> {
        let node = address(target)?;
        let begun = Instant::now();
        let stream = match &target.way {
            target::Way::Route => {
                let request = Request {
                    node,
                    login: Some(target.user.clone()),
                    agent: caller.agent.clone(),
                    caller: caller.process,
                    early: Early::Greeting,
                    begun: std::time::Instant::now(),
                    deadline,
                };
                return Ok(self.open(request).await?);
            }
            target::Way::Command(line) => {
                self.run(line, &node, caller, deadline).await.map_err(NotOpened::from)
            }
            target::Way::Jump(hops) => self.jump(hops, &node, caller, deadline).await,
        };
        match stream {
            Ok(stream) => {
                let carried = self.meters.of(SSH_CONFIG).stream_opened(begun.elapsed());
                Ok(Opened { stream, carried })
            }
            Err(not) => {
                if let NotOpened::Failed(failure) = &not {
                    tracing::debug!(%node, reason = failure.message, "not opened");
                    self.failures.record(Some(&node), Some(SSH_CONFIG), failure);
                }
                Err(not)
            }
        }
    }

    /// The same, for who is itself part of a dial.
    pub(super) fn dial_below(self: Arc<Self>, target: Target, caller: Caller, deadline: Instant) -> Dialling {
        Box::pin(async move { self.dial(&target, &caller, deadline).await })
    }

    /// A ProxyCommand, which ssh_config names and ssh would run.
    async fn run(
        &self,
        line: &str,
        node: &NodeAddr,
        caller: &Caller,
        deadline: Instant,
    ) -> Result<Stream, Failure> {
        let within = caller.process.map(|process| self.processes.upstreams_of(process)).unwrap_or_default();
        if within.iter().filter(|name| *name == SSH_CONFIG).count() >= DEPTH {
            let text =
                format!("the ProxyCommand for {node} calls natssh, which runs a ProxyCommand, and so on");
            return Err(Failure::new(FailureKind::Config, text).hint(format!("ssh -G {}", node.host)));
        }
        self.commands.open(line, &caller.around, node, &within, deadline).await
    }

    /// Keeps for `status` and `why` that no session was opened on a target, though a stream was.
    pub fn note(&self, target: &Target, failure: &Failure) {
        let node = NodeAddr { host: target.host.clone(), port: target.port };
        self.failures.record(Some(&node), self.way_to(target).upstream(), failure);
    }

    /// The way to a target, as the configuration in force says. Equal ways lead through the same upstream.
    #[must_use]
    pub fn way_to(&self, target: &Target) -> Way {
        if target.way != target::Way::Route {
            return Way::default();
        }
        let picked = self.settings.routes.pick(&NodeAddr { host: target.host.clone(), port: target.port });
        let number = self.numbers.get(&picked.upstream).copied().unwrap_or_default();
        Way { picked: Some(picked), number }
    }
}

/// Where a target is.
///
/// # Errors
/// The host has a name that no way could carry.
pub(super) fn address(target: &Target) -> Result<NodeAddr, Failure> {
    target
        .address()
        .map_err(|bad| Failure::new(FailureKind::BadRequest, format!("natssh cannot name the host: {bad}")))
}
