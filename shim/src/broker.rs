//! `natssh broker …`: start it, stop it, look after it.

use crate::call::{Call, Missed, PATIENCE, Version, question};
use crate::cli::Broker;
use crate::status::{no_broker, odd_answer, print};
use crate::{NO_BROKER, complain, place, program, start};
use natssh_wire::paths::Paths;
use natssh_wire::request::{encode_post, encode_unversioned};
use natssh_wire::{Failure, FailureKind};
use rustix::process::{Pid, test_kill_process};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Between two looks at a broker that is on its way out.
const LOOK: Duration = Duration::from_millis(50);

/// Does what was asked.
pub(crate) fn run(command: &Broker) -> Result<ExitCode, Failure> {
    let paths = place::paths()?;
    match command {
        Broker::Start => start(&paths),
        Broker::Stop { now, wait } => stop(&paths, if *now { "/v1/stop" } else { "/v1/drain" }, *wait),
        Broker::Restart => {
            leave_the_socket(&paths)?;
            start(&paths)
        }
        Broker::Reload => reload(&paths),
        Broker::Logs { follow, lines } => Err(logs(&paths, *follow, *lines)),
        Broker::Run { words } => Err(program::become_broker("run", words)),
    }
}

fn start(paths: &Paths) -> Result<ExitCode, Failure> {
    let now = Instant::now();
    let word = match Call::open(&paths.socket, now + PATIENCE) {
        Ok(_) => "runs already",
        Err(Missed::Absent) => {
            start::start(paths, now + start::PATIENCE)?;
            "started"
        }
        Err(Missed::Failed(failure)) => return Err(failure),
    };
    let pid = pid(paths)?.ok_or_else(no_broker)?.as_raw_nonzero();
    Ok(print(&format!("{word}, pid {pid}\n"), ExitCode::SUCCESS))
}

/// Tells the broker, of whatever version, to leave, and waits for its end.
fn stop(paths: &Paths, order: &str, wait: Duration) -> Result<ExitCode, Failure> {
    let deadline = Instant::now() + wait;
    let Some(pid) = pid(paths)? else { return Ok(complain(&no_broker(), NO_BROKER)) };
    // It may be gone before its answer is out.
    any_version(paths, "POST", order)?;
    while runs(pid) {
        if Instant::now() >= deadline {
            let text = format!("the broker still waits for its streams after {} s", wait.as_secs());
            return Err(
                Failure::new(FailureKind::Timeout, text).hint(format!("kill {}", pid.as_raw_nonzero()))
            );
        }
        std::thread::sleep(LOOK);
    }
    Ok(print("stopped\n", ExitCode::SUCCESS))
}

/// Tells the broker, if there is one, to leave, and waits until it no longer answers; its streams may go on.
fn leave_the_socket(paths: &Paths) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let old = pid(paths)?;
    if old.is_some() {
        any_version(paths, "POST", "/v1/drain")?;
    }
    while old.is_some() && pid(paths)? == old {
        if Instant::now() >= deadline {
            let text = format!("the broker still answers at {}", paths.socket.display());
            return Err(Failure::new(FailureKind::Timeout, text).hint("natssh broker stop --now"));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// False for a process that has ended, also while nobody has collected its status: in a container the first
/// process may never do that.
fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    // The state follows the name in brackets, which may hold brackets itself.
    let ended = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'));
    !ended && test_kill_process(pid).is_ok()
}

fn reload(paths: &Paths) -> Result<ExitCode, Failure> {
    match question(&paths.socket, &encode_post("/v1/reload")?, Version::Ours) {
        Ok(_) => Ok(print("reloaded\n", ExitCode::SUCCESS)),
        Err(Missed::Absent) => Ok(complain(&no_broker(), NO_BROKER)),
        Err(Missed::Failed(failure)) => Err(failure),
    }
}

/// The process of the broker, if one is there.
fn pid(paths: &Paths) -> Result<Option<Pid>, Failure> {
    let Some(body) = any_version(paths, "GET", "/v1/status")? else { return Ok(None) };
    let status: serde_json::Value = serde_json::from_slice(&body).map_err(odd_answer)?;
    let pid = status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    pid.map(Some)
        .ok_or_else(|| Failure::new(FailureKind::Protocol, "the broker does not say its process number"))
}

fn any_version(paths: &Paths, method: &str, path: &str) -> Result<Option<Vec<u8>>, Failure> {
    match question(&paths.socket, &encode_unversioned(method, path)?, Version::Any) {
        Ok(body) => Ok(Some(body)),
        Err(Missed::Absent) => Ok(None),
        Err(Missed::Failed(failure)) => Err(failure),
    }
}

/// Becomes `tail`, which knows how to follow a file that is rotated.
fn logs(paths: &Paths, follow: bool, lines: u32) -> Failure {
    if !paths.log.is_file() {
        let text = format!("there is no log yet at {}", paths.log.display());
        return Failure::new(FailureKind::Config, text).hint("natssh broker start");
    }
    let mut tail = Command::new("tail");
    tail.args(["-n", &lines.to_string()]);
    if follow {
        tail.arg("-F");
    }
    let error = tail.arg("--").arg(&paths.log).exec();
    Failure::new(FailureKind::Internal, format!("run tail: {error}"))
        .hint(format!("read {}", paths.log.display()))
}
