//! Starts a broker, and waits until it answers.
//!
//! Any number of shims may do this at once: each starts one, the broker's lock
//! lets one live, and the others leave quietly. The broker must hold nothing of
//! its starter: Ansible waits for pipes that any descendant still has open.

use crate::call::{Call, Missed, left};
use crate::program;
use crate::words::one_line;
use natssh_wire::environment::is_kept;
use natssh_wire::paths::Paths;
use natssh_wire::{Failure, FailureKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a broker may take to listen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// glibc's caches by thread, which go on filling for tens of thousands of commands, are off: what one thread takes the
/// next one often gives back (tunables in the manual of the GNU C library). Other C libraries do not look at it.
const HEAP: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
/// The most that is read of a broker's complaint.
const COMPLAINT_LIMIT: u64 = 4096;

/// Starts a broker unless one comes by itself, and calls it.
///
/// # Errors
/// What the broker itself said, or that none came within [`PATIENCE`] or by `limit`.
pub(crate) fn start(paths: &Paths, limit: Instant) -> Result<Call, Failure> {
    let broker = program::find()?;
    let deadline = limit.min(Instant::now() + PATIENCE);
    let (mut nap, mut respawn) = (Duration::from_millis(1), Duration::from_millis(250));
    let mut started = Started::spawn(&broker, paths)?;
    let mut next_spawn = Instant::now() + respawn;
    loop {
        match Call::open(&paths.socket, deadline) {
            Ok(call) => return Ok(call),
            Err(Missed::Failed(failure)) => return Err(failure),
            Err(Missed::Absent) => {}
        }
        if Instant::now() >= deadline {
            return Err(failed("it does not listen yet", paths));
        }
        match started.watch(nap.min(left(deadline))) {
            Some(status) if !status.success() => return Err(started.failure(status, paths)),
            // It found the lock taken. Should that one be on its way out, another is needed.
            Some(_) if Instant::now() >= next_spawn => {
                started = Started::spawn(&broker, paths)?;
                respawn *= 2;
                next_spawn = Instant::now() + respawn;
            }
            _ => {}
        }
        nap = (nap * 2).min(Duration::from_millis(50));
    }
}

/// A broker on its way.
struct Started {
    child: Child,
    complaint: Vec<u8>,
    /// True until the broker lets go of its stderr: it is ready then, or gone.
    speaks: bool,
}

impl Started {
    fn spawn(broker: &Path, paths: &Paths) -> Result<Self, Failure> {
        // What ssh or Ansible left open across exec must not reach the broker.
        close_fds::set_fds_cloexec(3, &[]);
        let kept = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_kept));
        let child = Command::new(broker)
            .args(["run", "--detached"])
            .env_clear()
            .envs(kept)
            .env(HEAP.0, HEAP.1)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed(&format!("run {}: {e}", broker.display()), paths))?;
        Ok(Self { child, complaint: Vec::new(), speaks: true })
    }

    /// Listens to the broker for at most `nap`; its exit status if it has left.
    fn watch(&mut self, nap: Duration) -> Option<ExitStatus> {
        match self.child.stderr.as_mut().filter(|_| self.speaks) {
            None => std::thread::sleep(nap),
            Some(pipe) => {
                let timeout = Timespec::try_from(nap).ok()?;
                let ready = poll(&mut [PollFd::new(&*pipe, PollFlags::IN)], Some(&timeout));
                if matches!(ready, Ok(1..)) {
                    let mut chunk = [0; 1024];
                    match pipe.read(&mut chunk) {
                        Ok(1..) if self.complaint.len() as u64 >= COMPLAINT_LIMIT => {}
                        Ok(count @ 1..) => self.complaint.extend_from_slice(&chunk[..count]),
                        _ => self.speaks = false,
                    }
                }
            }
        }
        self.child.try_wait().ok().flatten()
    }

    /// The broker's complaint in one line, or how it ended.
    fn failure(&mut self, status: ExitStatus, paths: &Paths) -> Failure {
        if let Some(pipe) = self.child.stderr.as_mut().filter(|_| self.speaks) {
            // It has left, so this ends; unless it left a child, hence only what is there.
            let mut chunk = [0; COMPLAINT_LIMIT as usize];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if matches!(poll(&mut [PollFd::new(&*pipe, PollFlags::IN)], Some(&now)), Ok(1..)) {
                let count = pipe.read(&mut chunk).unwrap_or(0);
                self.complaint.extend_from_slice(&chunk[..count]);
            }
        }
        let said = one_line(&String::from_utf8_lossy(&self.complaint));
        match said.strip_prefix("natssh-broker: ").unwrap_or(&said) {
            "" => failed(&format!("natssh-broker ended with {status}"), paths),
            // Its own hint, in brackets at the end, is better than the log.
            said if said.ends_with(')') => Failure { hint: None, ..failed(said, paths) },
            said => failed(said, paths),
        }
    }
}

fn failed(reason: &str, paths: &Paths) -> Failure {
    Failure::new(FailureKind::Config, format!("the broker did not start: {reason}"))
        .hint(format!("its log: {}", paths.log.display()))
}
