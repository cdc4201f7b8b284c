//! natssh as ssh: whose a call is to run.
//!
//! The words alone may demand the real ssh; everything else is the broker's to
//! decide. Whatever natssh does not do itself, the real ssh does with the very
//! same words, before anything has run on the node.

use crate::UNREACHABLE;
use crate::real_ssh::{Through, become_it};
use crate::voice::Voice;
use natssh_wire::Word;
use natssh_wire::ssh_words::{Demand, Invocation, LogLevel, Tunnel};
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
        Err(_) => {
            let voice = Voice { level: LogLevel::Info, file: None };
            return hand_over(&words, Through::ItsOwnWay, &voice);
        }
    };
    let voice = voice(&call);
    let through = match call.demands_real_ssh() {
        Some(Demand { tunnel: Tunnel::Never, .. }) => Through::ItsOwnWay,
        Some(Demand { reason, .. }) => {
            voice.debug(1, &format!("natssh: the real ssh runs this: {reason}"));
            way(&call)
        }
        None => way(&call),
    };
    hand_over(&words, through, &voice)
}

/// What leads to the host, unless the caller says what.
fn way(call: &Invocation) -> Through {
    if call.names_a_way() { Through::ItsOwnWay } else { Through::Natssh }
}

/// Becomes the real ssh; returns only if that cannot be.
fn hand_over(words: &[Word], through: Through, voice: &Voice) -> ExitCode {
    voice.complain(&become_it(words, through));
    ExitCode::from(UNREACHABLE)
}

/// As loud as the words say, and to where they say.
fn voice(call: &Invocation) -> Voice {
    // Where the file cannot be opened, the complaint about that goes to stderr as well.
    let file = call.log_file().and_then(|path| {
        OpenOptions::new().append(true).create(true).mode(0o600).open(path.as_os_str()).ok()
    });
    Voice { level: call.log_level().unwrap_or(LogLevel::Info), file }
}
