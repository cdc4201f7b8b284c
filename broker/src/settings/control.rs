//! Whose connection a call with `-O` is about.
//!
//! Everything that runs a command matters nothing here: what `-O` closes is known by whom it leads to.

use super::call::{Around, Call};
use super::lookup::NotFound;
use super::meaning::Whom;
use super::{Declined, Settings, meaning};
use crate::reach::Reach;
use crate::target::Target;
use natssh_wire::Failure;
use natssh_wire::exec::ExecRequest;
use natssh_wire::ssh_words::Invocation;
use std::path::PathBuf;

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
        request: &ExecRequest,
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
        if let Some(complaint) = &found.complaint {
            return Ok(Err(complaint.clone()));
        }
        let whom = match Whom::of(&found.known.printed, &call.typed) {
            Ok(whom) => whom,
            Err(reason) => return Ok(Err(reason)),
        };
        let meaning = meaning(&call, &around, &found, &whom);
        let way = match self.road(&meaning, &whom, reach, 0).await {
            Ok(road) => road.way,
            Err(Declined { reason, .. }) => return Ok(Err(reason)),
        };
        let mut target = match meaning.target(whom, way) {
            Ok(target) => target,
            Err(reason) => return Ok(Err(reason)),
        };
        self.identities.introduce(&mut target, &call, &found, reach).await;
        let master = found.known.printed.one("controlpath");
        let master = master.filter(|path| !path.is_empty() && *path != "none").map(|path| around.path(path));
        Ok(Ok(Controlled { target: Box::new(target), master }))
    }
}
