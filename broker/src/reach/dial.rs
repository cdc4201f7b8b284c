//! Dialling a target by its way, for a session of natssh's own.

use super::{Opened, Reach, Request};
use crate::routes::Picked;
use crate::session::NotOpened;
use crate::target::{self, Target};
use natssh_wire::{Failure, FailureKind, NodeAddr};
use rustix::process::Pid;
use std::path::PathBuf;
use tokio::time::Instant;

/// For whom a target is dialled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its `SSH_AUTH_SOCK`, for what is on the way; who one is at the target is in the target.
    pub agent: Option<PathBuf>,
    /// Its process, where the system tells.
    pub process: Option<Pid>,
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

impl Reach {
    /// Opens a stream to a target. A failure is also kept for `status` and `why`.
    ///
    /// # Errors
    /// One sentence and what to type, or what only the real ssh can do, before `deadline`.
    pub async fn dial(
        &self,
        target: &Target,
        caller: &Caller,
        deadline: Instant,
    ) -> Result<Opened, NotOpened> {
        let node = NodeAddr::new(&target.host, &target.port.to_string()).map_err(|bad| {
            Failure::new(FailureKind::BadRequest, format!("natssh cannot name the host: {bad}"))
        })?;
        match &target.way {
            target::Way::Route => {
                let request = Request {
                    node,
                    login: Some(target.user.clone()),
                    agent: caller.agent.clone(),
                    caller: caller.process,
                    deadline,
                };
                Ok(self.open(request).await?)
            }
            target::Way::Jump(_) | target::Way::Command(_) => {
                Err(NotOpened::RealSsh("the way is ssh's own".into()))
            }
        }
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
