//! natssh as ssh: whose a call is to run.
//!
//! The words alone may demand the real ssh; everything else is the broker's to
//! decide. Whatever natssh does not do itself, the real ssh does with the very
//! same words, before anything has run on the node.

use crate::UNREACHABLE;
use crate::control;
use crate::exec::{self, Outcome, Stdin};
use crate::real_ssh::become_it;
use crate::voice::Voice;
use natssh_wire::Word;
use natssh_wire::exec::Resolution;
use natssh_wire::ssh_words::{Invocation, LogLevel, Tunnel};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

/// Does what ssh would do with these words.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let words: Vec<Word> = words.iter().cloned().map(Word::from).collect();
    let call = match Invocation::parse(&words) {
        Ok(call) => call,
        // Usage, -V and -Q: what ssh says of these, it says best itself.
        Err(_) => return hand_over(&words, None, &Voice::default()),
    };
    // The same for a log file that cannot be opened.
    let Ok(voice) = voice(&call) else {
        return hand_over(&words, None, &Voice::default());
    };
    if let Some(control) = call.control() {
        return control::run(control, &words, &voice);
    }
    let Some(demand) = call.demands_real_ssh() else {
        let stdin = if call.stdin_is_null() { Stdin::Null } else { Stdin::Callers };
        return match exec::run(&words, stdin, &voice) {
            Outcome::Ended(status) => status,
            Outcome::RealSsh(resolution) => decided(&words, &resolution, &voice),
        };
    };
    if demand.tunnel == Tunnel::Never {
        return hand_over(&words, None, &voice);
    }
    if call.names_a_way() {
        voice.debug(1, &real_ssh_runs_it(demand.reason));
        return hand_over(&words, None, &voice);
    }
    match exec::resolve(&words) {
        Ok(resolution) => {
            let reason = resolution.reason.or_else(|| Some(demand.reason.to_owned()));
            decided(&words, &Resolution { reason, ..resolution }, &voice)
        }
        Err(failure) => {
            voice.complain(&failure);
            ExitCode::from(UNREACHABLE)
        }
    }
}

/// Becomes the real ssh, as the broker says.
fn decided(words: &[Word], resolution: &Resolution, voice: &Voice) -> ExitCode {
    voice.debug(1, &real_ssh_runs_it(resolution.reason.as_deref().unwrap_or("natssh does not")));
    hand_over(words, Some(resolution), voice)
}

fn real_ssh_runs_it(reason: &str) -> String {
    format!("natssh: the real ssh runs this: {reason}")
}

/// Becomes the real ssh; returns only if that cannot be.
fn hand_over(words: &[Word], told: Option<&Resolution>, voice: &Voice) -> ExitCode {
    voice.complain(&become_it(words, told));
    ExitCode::from(UNREACHABLE)
}

/// As loud as the words say, and to where they say.
fn voice(call: &Invocation) -> std::io::Result<Voice> {
    let open = |path: &Word| OpenOptions::new().append(true).create(true).mode(0o600).open(path.as_os_str());
    let file = call.log_file().map(open).transpose()?;
    Ok(Voice { level: call.log_level().unwrap_or(LogLevel::Info), file })
}
