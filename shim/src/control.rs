//! `natssh -O check|stop|exit HOST`: ssh's words to a master, said to the sessions that the broker keeps.
//!
//! No broker is started: without one there is nothing to control but what the real ssh may have. Its own master, left
//! by a call that went to it, is asked as well, because whoever resets a connection means both.

use crate::UNREACHABLE;
use crate::call::{Call, Missed, check_version};
use crate::exec::request;
use crate::place;
use crate::real_ssh::become_it;
use crate::voice::Voice;
use natssh_wire::exec::Controlled;
use natssh_wire::request::encode_control;
use natssh_wire::ssh_words::Control;
use natssh_wire::{Failure, FailureKind, Word};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The broker asks `ssh -G`, which may run a `Match exec`.
const ANSWER: Duration = Duration::from_secs(60);

/// Does what ssh would do with these words, and says it in ssh's own.
pub(crate) fn run(control: Control, words: &[Word], voice: &Voice) -> ExitCode {
    let answer = match ask(words) {
        Ok(answer) => answer,
        Err(Missed::Absent) => {
            voice.debug(1, "natssh: no broker is running, so the real ssh answers");
            return complain(&become_it(words, None), voice);
        }
        Err(Missed::Failed(failure)) => return complain(&failure, voice),
    };
    if answer.real_ssh {
        voice.debug(1, "natssh: the real ssh answers for a connection of its own");
        return complain(&become_it(words, None), voice);
    }
    if answer.sessions == 0 {
        let peer = answer.peer.map_or_else(String::new, |peer| format!(" to {peer}"));
        let none = Failure::new(FailureKind::Unreachable, format!("no session{peer} is open"));
        return complain(&none.hint("natssh sessions"), voice);
    }
    match control {
        // ssh says this one even with -q.
        Control::Check => voice.always(&format!("Master running (pid={})", answer.pid)),
        Control::Stop => voice.error("Stop listening request sent."),
        Control::Exit => voice.error("Exit request sent."),
    }
    ExitCode::SUCCESS
}

fn ask(words: &[Word]) -> Result<Controlled, Missed> {
    let asked = encode_control(&request(words)).map_err(Missed::Failed)?;
    let paths = place::paths().map_err(Missed::Failed)?;
    let deadline = Instant::now() + ANSWER;
    let call = Call::open(&paths.socket, deadline)?;
    let head = call.ask(&asked, deadline)?;
    check_version(&head).map_err(Missed::Failed)?;
    if head.status != 200 {
        return Err(Missed::Failed(call.refusal(&head, deadline)));
    }
    let body = call.body(&head, deadline).map_err(Missed::Failed)?;
    serde_json::from_slice(&body).map_err(|error| Missed::Failed(crate::status::odd_answer(error)))
}

fn complain(failure: &Failure, voice: &Voice) -> ExitCode {
    voice.complain(failure);
    ExitCode::from(UNREACHABLE)
}
