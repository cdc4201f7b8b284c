//! Processes as the lab needs them: recognised again after a crash, found with
//! all their descendants, stopped and ended.
//!
//! Read from `/proc`, so that `natssh-lab down` can clean up after a supervisor
//! that was killed and remembers nothing.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// One process, told apart from a later one that was given the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// The process number, as this PID namespace sees it.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

/// What the lab reads from one `/proc/PID/stat` line.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    start: u64,
    zombie: bool,
}

impl Process {
    /// The calling process.
    pub fn me() -> Self {
        let pid = std::process::id();
        let start = stat(pid).map_or(0, |stat| stat.start);
        Self { pid, start }
    }

    /// The process that has this number now; none if it is gone or a zombie.
    pub fn find(pid: u32) -> Option<Self> {
        let stat = stat(pid).filter(|stat| !stat.zombie)?;
        Some(Self { pid, start: stat.start })
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        Self::find(self.pid) == Some(*self)
    }

    /// Sends a signal, unless the number has passed to another process. One
    /// that has just ended is no error: that is what was wanted.
    pub fn signal(&self, signal: Signal) {
        if !self.is_alive() {
            return;
        }
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// These processes and everything below them, parents first.
pub fn trees(roots: &[Process]) -> Vec<Process> {
    let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
    for pid in numbers() {
        if let Some(stat) = stat(pid).filter(|stat| !stat.zombie) {
            let start = stat.start;
            children.entry(stat.parent).or_default().push(Process { pid, start });
        }
    }
    let mut found: Vec<Process> = roots.iter().filter(|p| p.is_alive()).copied().collect();
    let mut seen: HashSet<u32> = found.iter().map(|p| p.pid).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        for child in children.get(&parent.pid).into_iter().flatten() {
            if seen.insert(child.pid) {
                found.push(*child);
            }
        }
    }
    found
}

/// Every process, the caller apart, that was started with this `NAME=value`
/// in its environment and that the caller may look at.
pub fn marked(mark: &str) -> Vec<Process> {
    let me = std::process::id();
    numbers()
        .filter(|pid| *pid != me)
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|bytes| bytes.split(|b| *b == 0).any(|entry| entry == mark.as_bytes()))
        })
        .filter_map(Process::find)
        .collect()
}

/// Sends SIGSTOP or SIGCONT to all that `select` finds, and again until it
/// finds nobody new: a process may fork while it is being stopped.
pub fn signal_all(signal: Signal, select: impl Fn() -> Vec<Process>) {
    let mut reached = HashSet::new();
    loop {
        let new: Vec<_> = select().into_iter().filter(|p| reached.insert(*p)).collect();
        if new.is_empty() {
            return;
        }
        new.iter().for_each(|process| process.signal(signal));
    }
}

/// Ends all that `select` finds, and what it finds next, until it finds
/// nobody. Returns how many there were.
pub fn end_all(patience: Duration, select: impl Fn() -> Vec<Process>) -> Result<usize> {
    let deadline = Instant::now() + patience;
    let mut ended = HashSet::new();
    loop {
        let found = select();
        if found.is_empty() {
            return Ok(ended.len());
        }
        for process in &found {
            process.signal(Signal::KILL);
            ended.insert(*process);
        }
        if Instant::now() > deadline {
            let pids: Vec<_> = found.iter().map(|p| p.pid.to_string()).collect();
            bail!("processes {} do not end", pids.join(", "));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn numbers() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command name, in brackets, may itself hold brackets and blanks: what
/// counts starts after the last closing one.
fn parse_stat(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.trim_end().parse().ok()?;
    let zombie = matches!(state, "Z" | "X");
    Some(Stat { parent, start, zombie })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_stat_line_is_read_past_a_hostile_name() {
        let line = "7 (a) S 9 (x)) Z 42 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
        let expected = Stat { parent: 42, start: 98765, zombie: true };
        assert_eq!(parse_stat(line), Some(expected));
        assert_eq!(parse_stat("7 (cut"), None);
    }

    #[test]
    fn a_marked_process_and_its_child_are_found_and_ended() {
        let mark = format!("NATSSH_LAB_TEST_MARK={}", std::process::id());
        let (name, value) = mark.split_once('=').expect("a mark");
        let mut shell = Command::new("sh")
            .args(["-c", "env -i sleep 600; true"])
            .env(name, value)
            .spawn()
            .expect("sh starts");
        let deadline = Instant::now() + Duration::from_secs(10);
        while trees(&marked(&mark)).len() < 2 {
            assert!(Instant::now() < deadline, "the child of sh never appeared");
            std::thread::yield_now();
        }
        let ended = end_all(Duration::from_secs(5), || trees(&marked(&mark)));
        assert!(ended.expect("they end") >= 2);
        let status = shell.wait().expect("sh is ours to wait for");
        assert!(!status.success());
    }

    #[test]
    fn a_number_that_passed_to_another_process_is_not_it() {
        let me = Process::me();
        assert!(me.is_alive());
        let other = Process { start: me.start + 1, ..me };
        assert!(!other.is_alive());
    }
}
