//! Nothing is left behind, however a lab ends.

use std::path::{Path, PathBuf};

use natssh_lab::Fault;
use natssh_lab::faults::NodeFault;
use natssh_lab::state::{Folder, Mode};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{Ground, PROGRAM, eventually, modes, natssh_lab, output, stderr, traces};

/// A lab that `natssh-lab up` left running.
struct Daemon {
    _parent: TempDir,
    state: PathBuf,
    supervisor: Pid,
    /// What its namespaces' names have in common.
    id: String,
}

impl Daemon {
    fn up(mode: Mode) -> Self {
        let parent = TempDir::new().expect("a folder");
        let state = parent.path().join("lab");
        let arguments: &[&str] = match mode {
            Mode::Rootless => &["up", "--rootless"],
            Mode::Rooted => &["up"],
        };
        let up = natssh_lab(&state, arguments);
        assert!(up.status.success(), "{}", stderr(&up));
        assert!(stderr(&up).contains("stand-in"), "it says what it is: {}", stderr(&up));
        let (supervisor, id) = plan(&state);
        Self { _parent: parent, state, supervisor, id }
    }

    fn down(&self) -> String {
        let down = natssh_lab(&self.state, &["down"]);
        assert!(down.status.success(), "{}", stderr(&down));
        String::from_utf8_lossy(&down.stdout).into_owned()
    }

    fn is_gone(&self) {
        assert!(!self.state.exists());
        eventually("no trace is left", || traces(&self.state, &self.id).is_empty());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = natssh_lab(&self.state, &["down"]);
    }
}

fn plan(state: &Path) -> (Pid, String) {
    let plan = Folder::at(state).expect("a short path").load().expect("readable").expect("a plan");
    let pid = plan.supervisor.expect("a daemon").pid;
    let id = plan.topology.map(|topology| topology.id).unwrap_or_default();
    (Pid::from_raw(i32::try_from(pid).expect("small")).expect("not 0"), id)
}

#[test]
fn down_removes_everything_and_can_be_repeated() {
    for mode in modes() {
        let daemon = Daemon::up(mode);
        assert!(!traces(&daemon.state, &daemon.id).is_empty(), "the traces of a lab are found");
        let said = daemon.down();
        assert!(said.contains("removed 2 nodes: control-plane, worker"), "{said}");
        daemon.is_gone();
        assert!(daemon.down().contains("no lab"));
    }
}

#[test]
fn a_killed_supervisor_leaves_nothing_that_down_does_not_find() {
    for mode in modes() {
        let daemon = Daemon::up(mode);
        // Frozen processes do not notice that their supervisor is gone.
        let frozen = natssh_lab(&daemon.state, &["fault", "node", "freeze", "worker"]);
        assert!(frozen.status.success(), "{}", stderr(&frozen));
        // An orphan of a session is a child of nobody that the lab knows.
        let orphan =
            natssh_lab(&daemon.state, &["exec", "control-plane", "sh", "-c", "sleep 1000 >&- 2>&- &"]);
        assert!(orphan.status.success(), "{}", stderr(&orphan));
        kill_process(daemon.supervisor, Signal::KILL).expect("it ran");
        eventually("the supervisor is gone", || !is_running(daemon.supervisor));

        let again = natssh_lab(&daemon.state, &["up"]);
        assert!(stderr(&again).contains("natssh-lab down"), "{}", stderr(&again));
        daemon.down();
        daemon.is_gone();
    }
}

#[test]
fn a_terminated_supervisor_cleans_up_by_itself() {
    let daemon = Daemon::up(Mode::Rootless);
    kill_process(daemon.supervisor, Signal::TERM).expect("it ran");
    eventually("the folder is gone", || !daemon.state.exists());
    daemon.is_gone();
}

#[test]
fn a_lab_that_cannot_come_up_leaves_nothing() {
    for mode in modes() {
        let parent = TempDir::new().expect("a folder");
        let state = parent.path().join("lab");
        let mut options = natssh_lab::Options::rootless(&state).expect("a short path");
        options.mode = mode;
        options.program = "/bin/false".into();
        let error = natssh_lab::Lab::up(options).expect_err("nodes that end at once");
        assert!(!state.exists(), "{error:#}");
        eventually("no trace is left", || traces(&state, "").is_empty());
    }
}

#[test]
fn two_labs_stand_side_by_side() {
    for mode in modes() {
        let (one, other) = (std::thread::spawn(move || Ground::up(mode)), Ground::up(mode));
        let one = one.join().expect("up");
        let status = |ground: &Ground| ground.lab.status().expect("a status");
        assert_ne!(status(&one).proxy, status(&other).proxy);
        if mode == Mode::Rooted {
            assert_ne!(status(&one).nodes[0].address, status(&other).nodes[0].address);
        }
        one.lab.fault(Fault::Node(NodeFault::Offline { node: "worker".to_owned() })).expect("done");
        assert!(one.refused("worker").is_some());
        assert_eq!(other.refused("worker"), None);
        one.lab.down().expect("down");
        assert_eq!(other.refused("worker"), None);
    }
}

#[test]
fn a_second_lab_in_the_same_folder_is_refused() {
    let daemon = Daemon::up(Mode::Rootless);
    let second = natssh_lab(&daemon.state, &["up", "--rootless"]);
    assert!(!second.status.success());
    assert!(stderr(&second).contains("already up"), "{}", stderr(&second));
    assert!(natssh_lab(&daemon.state, &["status"]).status.success(), "the first one lives on");
}

#[test]
fn the_environment_leads_stock_ssh_to_a_node() {
    let daemon = Daemon::up(Mode::Rootless);
    let state = daemon.state.display();
    let script = format!(
        "eval \"$('{PROGRAM}' env --state {state})\" && ssh $LAB_SSH_OPTIONS $LAB_FIRST_NODE 'echo reached; pwd' && \
         test -d \"$TELEPORT_HOME\" && test -f \"$NATSSH_CONFIG\" && echo \"$NATSSH_SOCKET\""
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-ec", &script]);
    let ran = output(shell);
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let expected = format!("reached\n{state}/nodes/control-plane/home\n{state}/broker/broker.sock\n");
    assert_eq!(said, expected, "{}", stderr(&ran));
}

fn is_running(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
