//! Takes down what a plan names, whoever brought it up and however that ended.
//!
//! Nothing here relies on a supervisor's memory: processes are found by the
//! mark they carry, namespaces by the lab's prefix, files by their place. Mounts
//! are made inside the nodes' own mount namespaces and vanish with their last
//! process. It may run any number of times.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::Signal;

use crate::control::{self, Reply, Request};
use crate::netns;
use crate::processes::{Process, end_all, marked, trees};
use crate::state::{Folder, Plan};

/// How long a supervisor may take to do as it was told.
const POLITE: Duration = Duration::from_secs(20);
/// How long killed processes may take to be gone.
const KILLED: Duration = Duration::from_secs(10);

/// What was removed.
#[derive(Debug, Default)]
pub struct Removed {
    /// Processes that had to be ended here.
    pub processes: usize,
    /// Network namespaces, with their links and routes.
    pub namespaces: Vec<String>,
    /// Nodes' folders.
    pub nodes: Vec<String>,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processes, namespaces, nodes } = self;
        writeln!(f, "removed {} nodes: {}", nodes.len(), nodes.join(", "))?;
        if !namespaces.is_empty() {
            writeln!(f, "removed {} network namespaces: {}", namespaces.len(), namespaces.join(", "))?;
        }
        write!(f, "ended {processes} processes")
    }
}

/// `natssh-lab down`: asks the supervisor, and does itself what is left.
/// None when there was nothing to take down.
///
/// # Errors
/// When something cannot be removed.
pub fn down(folder: &Folder) -> Result<Option<String>> {
    let plan = folder.load()?;
    let answer = match control::ask(folder, &Request::Down) {
        Ok(Some(Reply::Done(report))) => Some(report),
        // It failed, fell silent or is not there: it is done without it.
        _ => None,
    };
    let Some(plan) = plan else {
        if folder.is_claimed() {
            bail!("a lab is only just coming up in {}; try again", folder.path().display());
        }
        return Ok(answer);
    };
    end_supervisor(folder, plan.supervisor, answer.is_some())?;
    match answer {
        Some(report) => Ok(Some(report)),
        None => Ok(Some(sweep(folder, &plan)?.to_string())),
    }
}

/// Ends every process of the lab but the caller, and removes every namespace
/// and file.
///
/// # Errors
/// When something cannot be removed.
pub fn sweep(folder: &Folder, plan: &Plan) -> Result<Removed> {
    let mark = folder.mark();
    let processes = end_all(KILLED, || trees(&marked(&mark)))?;
    let namespaces = match &plan.topology {
        Some(topology) => netns::remove(topology)?,
        None => Vec::new(),
    };
    folder.clear()?;
    Ok(Removed { processes, namespaces, nodes: plan.nodes.clone() })
}

/// Waits for a supervisor that is going, or makes it go.
fn end_supervisor(folder: &Folder, supervisor: Option<Process>, obeys: bool) -> Result<()> {
    let Some(supervisor) = supervisor else {
        // Held by a program in itself, which is not ours to end.
        if !obeys && folder.is_claimed() {
            bail!("the lab in {} belongs to a running program that does not answer", folder.path().display());
        }
        return Ok(());
    };
    if !obeys {
        supervisor.signal(Signal::KILL);
    }
    let deadline = Instant::now() + POLITE;
    while supervisor.is_alive() {
        if Instant::now() > deadline {
            supervisor.signal(Signal::KILL);
            sleep(Duration::from_millis(100));
            return Ok(());
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}
