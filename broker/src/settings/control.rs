//! Whose connection a call with `-O` is about.
//!
//! Everything that runs a command matters nothing here: what `-O` closes is known by whom it leads to.

use super::call::{Around, Call};
use super::lookup::{Found, NotFound};
use super::meaning::Whom;
use super::{Settings, meaning};
use crate::reach::Reach;
use crate::target::Target;
use natssh_wire::Failure;
use natssh_wire::exec::ExecRequest;
use natssh_wire::ssh_words::Invocation;
use std::path::PathBuf;
use std::sync::Arc;

/// The connection that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controlled {
    /// Whom commands with the same options would reach, as whom, by which way.
    pub target: Box<Target>,
    /// `ControlPath`: where a master of ssh's own would listen.
    pub master: Option<PathBuf>,
}

impl Settings {
    /// The connection that the words mean; a reason where only the real ssh could have one.
    ///
    /// # Errors
    /// There is no real ssh to ask.
    pub async fn controlled(
        &self,
        request: &Arc<ExecRequest>,
        invocation: &Invocation,
        reach: &Reach,
    ) -> Result<Result<Controlled, String>, Failure> {
        let Some(call) = Call::of(invocation, request.terminals) else {
            return Ok(Err("the host's name is not UTF-8".into()));
        };
        let around = Around::of(request);
        let found = match self.lookup.settings(&call, &around).await {
            Ok(found) => found,
            Err(NotFound::NoSsh(failure)) => return Err(failure),
            Err(other) => return Ok(Err(other.to_string())),
        };
        Ok(self.meant(&call, &around, &found, reach).await)
    }

    async fn meant(
        &self,
        call: &Call,
        around: &Around<'_>,
        found: &Found,
        reach: &Reach,
    ) -> Result<Controlled, String> {
        if let Some(complaint) = &found.complaint {
            return Err(complaint.clone());
        }
        let printed = &found.known.printed;
        let whom = Whom::of(printed, &call.typed)?;
        let meaning = meaning(call, around, found, &whom);
        let road = self.road(&meaning, &whom, reach, 0).await.map_err(|declined| declined.reason)?;
        let mut target = meaning.target(whom.clone(), road.way)?;
        self.identities.introduction(&whom, &target.way, call, found, reach).await.add_to(&mut target);
        let master = printed.one("controlpath").filter(|path| !path.is_empty() && *path != "none");
        Ok(Controlled { target: Box::new(target), master: master.map(|path| around.path(path)) })
    }
}
