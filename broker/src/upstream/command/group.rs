//! The process groups of commands, and the end of all that belongs to them.
//!
//! A command leads a group of its own, so that what it starts ends with it. A broker
//! that leaves ends all groups first. Only a process that leaves its group on purpose
//! (setsid) can stay behind.

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a group has between being asked to end and being killed.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether a group is gone.
const LOOK: Duration = Duration::from_millis(20);

/// The groups that are alive, by their number.
type Groups = HashMap<Pid, Vec<String>>;

/// The process groups that are alive, each with the names of the upstreams that it works for: its own, and those whose
/// commands asked for it.
#[derive(Debug, Default)]
pub struct Processes(watch::Sender<Groups>);

/// A group's place among the living.
pub(super) struct Place(Arc<Processes>, Pid);

impl Processes {
    /// A group that was started for these upstreams; alive until the place is dropped.
    pub(super) fn enter(self: &Arc<Self>, group: Pid, upstreams: Vec<String>) -> Place {
        self.0.send_modify(|groups| {
            groups.insert(group, upstreams);
        });
        Place(self.clone(), group)
    }

    /// The upstreams that a process works for; none unless it belongs to a command.
    #[must_use]
    pub fn upstreams_of(&self, process: Pid) -> Vec<String> {
        let group = group_of(process);
        group.and_then(|group| self.0.borrow().get(&group).cloned()).unwrap_or_default()
    }

    /// The living, to wait on.
    pub(super) fn living(&self) -> watch::Receiver<Groups> {
        self.0.subscribe()
    }

    /// Ends them all, and waits until they are gone: for a broker that leaves.
    pub async fn end(&self) {
        let mut groups = self.living();
        let each = |act: fn(Pid)| self.0.borrow().keys().copied().for_each(act);
        each(ask_to_end);
        if timeout(GRACE, groups.wait_for(HashMap::is_empty)).await.is_err() {
            each(kill);
            let _ = timeout(GRACE, groups.wait_for(HashMap::is_empty)).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.send_modify(|groups| {
            groups.remove(&self.1);
        });
    }
}

/// Asks the group of `child` to end; kills it when it does not.
pub(super) async fn end(group: Pid, child: &mut Child) {
    ask_to_end(group);
    let gone = async {
        let _ = child.wait().await;
        // The number of a group is not given to another while a member is alive.
        while test_kill_process_group(group).is_ok() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if timeout(GRACE, gone).await.is_err() {
        kill(group);
        let _ = child.wait().await;
    }
}

/// As a terminal that hangs up, and as a system that shuts down.
fn ask_to_end(group: Pid) {
    for signal in [Signal::HUP, Signal::TERM] {
        // It may be gone already.
        let _ = kill_process_group(group, signal);
    }
}

fn kill(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
}

/// The group that a process is in; none when the process is gone, or was started in a container from
/// outside: then its group is the outer system's and has no number in here.
#[cfg(target_os = "linux")]
fn group_of(process: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    group_in(&stat)
}

/// Elsewhere there are no such containers.
#[cfg(not(target_os = "linux"))]
fn group_of(process: Pid) -> Option<Pid> {
    rustix::process::getpgid(Some(process)).ok()
}

/// The group in a `/proc/PID/stat`: `PID (NAME) STATE PARENT GROUP …`, where the name may hold anything. Read there
/// because rustix's `getpgid` takes the kernel's answer 0, which means "outside of this container", for a process number.
#[cfg(target_os = "linux")]
fn group_in(stat: &str) -> Option<Pid> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let group = after_name.split_whitespace().nth(2)?;
    Pid::from_raw(group.parse().ok()?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_the_group_that_the_kernel_says() {
        let me = rustix::process::getpid();
        assert_eq!(group_of(me), Some(rustix::process::getpgrp()));
    }

    #[test]
    fn the_group_comes_after_whatever_name() {
        assert_eq!(group_in("71 (ssh (a) b) S 70 71 71 0 -1"), Pid::from_raw(71));
    }

    #[test]
    fn a_group_outside_of_this_container_is_none() {
        assert_eq!(group_in("71 (ssh) S 0 0 0 0 -1"), None);
    }
}
