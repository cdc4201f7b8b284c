//! A call of ssh that the broker runs: ask it, then carry bytes until the command has ended.
//!
//! Until the broker has answered that it runs the command, nothing has run, and
//! asking again is safe; from its answer on, nothing is ever asked again.

mod end;
mod escape;
mod keyboard;
mod outbox;
mod pump;
mod raw;
mod signals;
mod stdio;
mod terminal;

use crate::ask::{Waits, until_answered};
use crate::call::{Call, Missed, check_version};
use crate::voice::Voice;
use crate::{UNREACHABLE, place};
use end::End;
use keyboard::Keyboard;
use natssh_wire::exec::{ExecRequest, Resolution, Terminals};
use natssh_wire::request::{encode_exec, encode_resolve};
use natssh_wire::terminal::{Granted, Size};
use natssh_wire::{Failure, FailureKind, Word};
use pump::Pump;
use rustix::fd::OwnedFd;
use rustix::termios::isatty;
use signals::Signals;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use stdio::Input;

/// The broker has said by then whether the command runs: it gives up on a node itself, and sooner.
const ANSWER: Duration = Duration::from_secs(600);
/// A broker that leaves has made room for the next by then.
const HANDOVER: Duration = Duration::from_secs(10);

/// Where the command's input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stdin {
    /// The caller's.
    Callers,
    /// Nowhere, as with `-n`: what stands there is left for others.
    Null,
}

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ran, or failed; this program's exit status.
    Ended(ExitCode),
    /// The real ssh has to run it.
    RealSsh(Resolution),
}

/// Has the broker run the call of ssh with these words.
pub(crate) fn run(words: &[Word], stdin: Stdin, voice: &Voice) -> Outcome {
    let request = request(words);
    let told = request.terminal.as_ref().map(|terminal| terminal.size);
    let ran = ask(&encode_exec(&request)).and_then(|answer| match answer {
        Answer::Resolution(resolution) => Ok(Outcome::RealSsh(resolution)),
        Answer::Frames { socket, terminal, stdin: wanted } => {
            let keyboard = terminal.map(|granted| (granted, told.unwrap_or_default()));
            let ended = carry(socket, keyboard, stdin.max(wanted), voice);
            ended.map(|end| Outcome::Ended(leave(&end, voice)))
        }
    });
    ran.unwrap_or_else(|failure| {
        voice.complain(&failure);
        Outcome::Ended(ExitCode::from(UNREACHABLE))
    })
}

/// What would become of that call: for one of which the words alone say that the real ssh has to run it.
pub(crate) fn resolve(words: &[Word]) -> Result<Resolution, Failure> {
    match ask(&encode_resolve(&request(words)))? {
        Answer::Resolution(resolution) => Ok(resolution),
        Answer::Frames { .. } => {
            Err(Failure::new(FailureKind::Protocol, "the broker runs what it was only asked about"))
        }
    }
}

/// What this process was given.
pub(crate) fn request(words: &[Word]) -> ExecRequest {
    let directory = std::env::current_dir().map_or_else(|_| "/".into(), |path| path.into_os_string().into());
    ExecRequest {
        words: words.to_vec(),
        directory,
        environment: std::env::vars_os().map(|(name, value)| (name.into(), value.into())).collect(),
        terminals: Terminals {
            stdin: isatty(rustix::stdio::stdin()),
            stdout: isatty(rustix::stdio::stdout()),
            stderr: isatty(rustix::stdio::stderr()),
        },
        terminal: Some(terminal::callers()),
        timeout_ms: None,
    }
}

/// What the broker answers that refuses nothing.
enum Answer {
    /// 101.
    Frames {
        socket: OwnedFd,
        /// The terminal that the command is at.
        terminal: Option<Granted>,
        /// What the settings want of standard input: more than the words say.
        stdin: Stdin,
    },
    /// 200.
    Resolution(Resolution),
}

fn ask(request: &Result<Vec<u8>, Failure>) -> Result<Answer, Failure> {
    let request = request.as_ref().map_err(Clone::clone)?;
    let waits = Waits { begun: Instant::now(), limit: ANSWER, answer: ANSWER, handover: HANDOVER };
    until_answered(&place::paths()?, &waits, |call, deadline| answer(call, request, deadline))
}

fn answer(call: Call, request: &[u8], deadline: Instant) -> Result<Answer, Missed> {
    let head = call.ask(request, deadline)?;
    check_version(&head).map_err(Missed::Failed)?;
    match head.status {
        101 => {
            let stdin = if head.no_stdin { Stdin::Null } else { Stdin::Callers };
            let socket = call.into_stream().map_err(Missed::Failed)?;
            Ok(Answer::Frames { socket, terminal: head.terminal, stdin })
        }
        200 => {
            let body = call.body(&head, deadline).map_err(Missed::Failed)?;
            let resolution = serde_json::from_slice(&body).map_err(|e| Missed::Failed(odd(&e)))?;
            Ok(Answer::Resolution(resolution))
        }
        _ => Err(Missed::Failed(call.refusal(&head, deadline))),
    }
}

/// Carries bytes until the command has ended.
fn carry(
    socket: OwnedFd,
    granted: Option<(Granted, Size)>,
    stdin: Stdin,
    voice: &Voice,
) -> Result<End, Failure> {
    let internal = |what: &str, error: &dyn std::fmt::Display| {
        Failure::new(FailureKind::Internal, format!("{what}: {error}"))
    };
    let signals = Signals::listen().map_err(|e| internal("signals cannot be heard", &e))?;
    // This one's open file is nobody else's.
    rustix::io::ioctl_fionbio(&socket, true)
        .map_err(|e| internal("the broker's socket cannot be read", &e))?;
    let input = (stdin == Stdin::Callers).then(|| Input::of(rustix::stdio::stdin()));
    if granted.is_some() {
        signals.listen_to_terminal().map_err(|e| internal("signals cannot be heard", &e))?;
    }
    let keyboard = granted.map(|(granted, told)| Keyboard::take(granted, told));
    Ok(Pump::new(socket, signals, input, keyboard, voice).run())
}

/// The exit status, as ssh has it, and what is said about it.
fn leave(end: &End, voice: &Voice) -> ExitCode {
    match end {
        // As `exit` does with what is larger.
        End::Exit(status) => return ExitCode::from(status.to_be_bytes()[3]),
        End::Killed(signal) => voice.debug(1, &format!("the command was ended by the signal {signal}")),
        End::Failed(failure) => voice.complain(failure),
        End::Signalled(number) => voice.verbose(&format!("Killed by signal {number}.")),
        End::GivenUp => {}
        End::Stuck => voice.debug(1, "nobody reads the command's output, and it does not read its input"),
    }
    ExitCode::from(UNREACHABLE)
}

fn odd(error: &serde_json::Error) -> Failure {
    Failure::new(FailureKind::Protocol, format!("the broker's answer is not understood: {error}"))
        .hint("natssh broker restart")
}
