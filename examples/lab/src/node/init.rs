//! The first process of a rooted node: builds its file system, keeps sshd
//! running, buries orphans, and ends, and the node with it, when the
//! supervisor's end of stdin is closed.
//!
//! It is plain blocking code: process 1 of a PID namespace has to wait for
//! whatever child ends, its own or an orphan.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::process::{Command, Stdio, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use super::filesystem::Filesystem;
use crate::state::Folder;
use crate::tools;

/// Where the node finds sshd's keys and configuration.
pub const KEYS: &str = "/run/natssh-lab";
/// What it says when sshd listens.
pub const READY: &str = "ready";
/// The order to read sshd's keys and configuration again.
pub const RELOAD: &str = "reload";

/// A node may not touch what all share: the clock, the kernel's modules, raw
/// devices, the kernel's log.
const TAKEN: &[CapabilitySet] = &[
    CapabilitySet::SYS_TIME,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::SYSLOG,
    CapabilitySet::MKNOD,
    CapabilitySet::WAKE_ALARM,
    CapabilitySet::BLOCK_SUSPEND,
];

/// Becomes the node. Returns only if it cannot.
///
/// # Errors
/// When the node cannot be built or sshd does not come up.
pub fn run(folder: &Folder, name: &str) -> Result<()> {
    let plan = folder.load()?.context("there is no plan of this lab")?;
    let topology = plan.topology.context("a rootless lab has no such nodes")?;
    let index = plan.nodes.iter().position(|node| node == name).context("no such node in the plan")?;
    let sshd = tools::find("sshd").context("sshd is not installed")?;
    let own = folder.node(name);
    Filesystem {
        base: &own.join("root"),
        hostname: name,
        address: topology.node(index),
        keys: &own.join("ssh"),
        keys_inside: Path::new(KEYS),
        hidden: folder.path(),
        shown: plan.python.prefix.as_deref(),
    }
    .enter()?;
    rustix::system::sethostname(name.as_bytes()).context("set the host name")?;
    for capability in TAKEN {
        remove_capability_from_bounding_set(*capability).context("give up a capability")?;
    }

    let current = Arc::new(AtomicI32::new(start(&sshd)?.as_raw_nonzero().get()));
    listening(&sshd)?;
    println!("{READY}");
    stdout().flush().context("report to the supervisor")?;
    let obeying = Arc::clone(&current);
    spawn(move || obey(&obeying));
    loop {
        let Ok(Some((ended, _))) = wait(WaitOptions::empty()) else {
            continue;
        };
        if ended.as_raw_nonzero().get() == current.load(Ordering::SeqCst) {
            // A playbook may stop it; a node without sshd is no node.
            sleep(Duration::from_millis(100));
            current.store(start(&sshd)?.as_raw_nonzero().get(), Ordering::SeqCst);
        }
    }
}

/// Does what the supervisor says, until it is gone.
fn obey(sshd: &AtomicI32) {
    for line in stdin().lock().lines().map_while(Result::ok) {
        if line == RELOAD
            && let Some(pid) = Pid::from_raw(sshd.load(Ordering::SeqCst))
        {
            let _ = kill_process(pid, Signal::HUP);
        }
    }
    exit(0);
}

/// Starts sshd with nothing of the supervisor's surroundings. Its log is the
/// supervisor's.
fn start(sshd: &Path) -> Result<Pid> {
    let child = Command::new(sshd)
        .args(["-D", "-e", "-f"])
        .arg(Path::new(KEYS).join("sshd_config"))
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("start sshd")?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("sshd has no process number")
}

/// Waits until something listens on port 22. Looked up, not tried: sshd counts
/// and may punish a connection that says nothing.
fn listening(sshd: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let table = std::fs::read_to_string("/proc/net/tcp").context("read /proc/net/tcp")?;
        if listens_on_22(&table) {
            return Ok(());
        }
        sleep(Duration::from_millis(5));
    }
    bail!("{} does not listen; the lab's log says why", sshd.display())
}

/// State 0A is LISTEN; ports are in hexadecimal.
fn listens_on_22(table: &str) -> bool {
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().unwrap_or_default();
        let state = fields.nth(1).unwrap_or_default();
        local.ends_with(":0016") && state == "0A"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let listener = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000";
        let connection = "   0: 0100007F:0016 0100007F:D431 01 00000000:00000000";
        assert!(listens_on_22(listener));
        assert!(!listens_on_22(connection));
    }
}
