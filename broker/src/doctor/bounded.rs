//! Things that may take for ever, and are given up on instead.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// No program that is asked says more than this.
const OUTPUT: u64 = 256 << 10;
/// Between two looks at a program.
const LOOK: Duration = Duration::from_millis(10);

/// What a function answers within a limit. Later it is left behind: it ends with this program.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let _ = answer.send(ask());
    });
    answered.recv_timeout(limit).ok()
}

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// Whether it ended with status 0.
    pub(super) well: bool,
    /// Its stdout and then its stderr.
    pub(super) text: String,
}

/// Runs a program to its end, or ends it; none when it is not there, or took too long.
pub(super) fn program(mut command: Command, limit: Duration) -> Option<Said> {
    let deadline = Instant::now() + limit;
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.ok()?;
    let (mut out, mut err) = (child.stdout.take()?.take(OUTPUT), child.stderr.take()?.take(OUTPUT));
    let (text, heard) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is what there is.
        let _ = out.read_to_end(&mut bytes);
        let _ = err.read_to_end(&mut bytes);
        let _ = text.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(LOOK),
            _ => break None,
        }
    };
    let Some(status) = ended else {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    };
    // Something that it started may still hold its stdout.
    let text = heard.recv_timeout(deadline.saturating_duration_since(Instant::now()).max(LOOK)).ok()?;
    Some(Said { well: status.success(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: u64) -> Option<Said> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        program(command, Duration::from_millis(limit))
    }

    #[test]
    fn a_program_is_heard_to_its_end_and_no_longer_than_its_limit() {
        let said = sh("echo out; echo err >&2; exit 3", 20_000);
        assert_eq!(said, Some(Said { well: false, text: "out\nerr\n".into() }));
        let began = Instant::now();
        assert_eq!(sh("exec sleep 60", 100), None);
        assert_eq!(sh("sleep 60 & echo held", 300), None, "its child holds its stdout");
        assert_eq!(within(Duration::from_millis(100), || thread::sleep(Duration::from_secs(60))), None);
        assert!(began.elapsed() < Duration::from_secs(20));
        assert_eq!(program(Command::new("/nowhere/ssh"), Duration::from_secs(1)), None);
    }
}
