//! Dialling a target by its way, for a session of natssh's own.

use super::{Opened, Reach, Request};
use crate::session::NotOpened;
use crate::target::{Target, Way};
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
            Way::Route => {
                let request = Request {
                    node,
                    login: Some(target.user.clone()),
                    agent: caller.agent.clone(),
                    caller: caller.process,
                    deadline,
                };
                Ok(self.open(request).await?)
            }
            Way::Jump(_) | Way::Command(_) => Err(NotOpened::RealSsh("the way is ssh's own".into())),
        }
    }

    /// The upstream that a target is dialled by, and its number, which is another one for each set of settings that it
    /// has had; none where the target itself says the way.
    #[must_use]
    pub fn upstream_of(&self, target: &Target) -> Option<(String, u64)> {
        let node = NodeAddr { host: target.host.clone(), port: target.port };
        let named = (target.way == Way::Route).then(|| self.settings.routes.pick(&node).upstream)?;
        let number = self.numbers.get(&named).copied().unwrap_or_default();
        Some((named, number))
    }
}
