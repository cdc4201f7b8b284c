//! `-O check`, `stop` and `exit`: what is said to a master of ssh's, answered by the sessions that the broker keeps.

use natssh_tests::{Running, Server, need, run, tools, until};
use std::fs;
use std::process::Command;

/// What it says and how it ends.
fn said(command: Command) -> (Option<i32>, String) {
    let said = run(command);
    assert_eq!(said.text(), "", "nothing of this is output");
    (said.code, said.stderr)
}

fn control(server: &Server, what: &str) -> (Option<i32>, String) {
    said(server.natssh(&["-O", what, "server"]))
}

fn no_session(server: &Server) -> (Option<i32>, String) {
    let login = server.world.login();
    (Some(255), format!("natssh: no session to {login}@127.0.0.1 is open (natssh sessions)\r\n"))
}

fn sent(what: &str) -> (Option<i32>, String) {
    (Some(0), format!("{what} request sent.\r\n"))
}

#[test]
fn a_check_tells_whether_a_session_is_open() {
    need!("ssh", "sshd");
    let server = Server::start("");
    assert_eq!(control(&server, "check"), no_session(&server));
    assert_eq!(control(&server, "stop"), no_session(&server));
    assert_eq!(control(&server, "exit"), no_session(&server));
    run(server.natssh(&["server", "true"])).ok();
    let pid = server.world.status().pid;
    let running = (Some(0), format!("Master running (pid={pid})\r\n"));
    assert_eq!(control(&server, "check"), running);
    assert_eq!(said(server.natssh(&["-q", "-O", "check", "server"])), running, "ssh says it with -q too");
    // Not somebody else's.
    let other = run(server.natssh(&["-O", "check", "-l", "nobody-of-that-name", "server"]));
    assert!(other.unreachable().contains("no session to nobody-of-that-name@"), "{}", other.stderr);
    // As Ansible may call it.
    let mut closed = server.world.command("sh");
    closed.args(["-c", &format!("natssh ssh -F {} -O check server <&- >&-", server.config())]);
    assert_eq!(said(closed), running);
    assert_eq!(server.accepted(), 1);
}

#[test]
fn after_a_stop_the_next_command_authenticates_afresh_and_running_ones_finish() {
    need!("ssh", "sshd");
    let server = Server::start("");
    let mut running = Running::interactive(server.natssh(&["server", "echo runs; read word; echo $word"]));
    running.until_said("runs");
    assert_eq!(control(&server, "stop"), sent("Stop listening"));
    assert_eq!(control(&server, "check"), no_session(&server), "it takes no more commands");
    run(server.natssh(&["server", "true"])).ok();
    assert_eq!(server.accepted(), 2);
    running.write(b"ends\n");
    assert_eq!(running.end().ok(), "runs\nends\n");
    until("the old session is gone", || (server.world.status().sessions.len() == 1).then_some(()));
    assert_eq!(said(server.natssh(&["-q", "-O", "stop", "server"])), (Some(0), String::new()));
}

#[test]
fn an_exit_ends_what_runs() {
    need!("ssh", "sshd");
    let server = Server::start("");
    let running = Running::interactive(server.natssh(&["server", "echo runs; read word"]));
    running.until_said("runs");
    assert_eq!(control(&server, "exit"), sent("Exit"));
    let ended = running.stay();
    assert!(ended.unreachable().contains("ended under the command, which may have run"), "{}", ended.stderr);
    assert_eq!(control(&server, "check"), no_session(&server));
    assert!(server.world.status().failures.is_empty(), "somebody wanted it");
    run(server.natssh(&["server", "true"])).ok();
    assert_eq!(server.accepted(), 2);
}

/// What a call that went to the real ssh has left is meant too.
#[test]
fn a_master_of_sshs_own_is_asked_as_well() {
    need!("ssh", "sshd");
    let server = Server::start("");
    let path = server.world.path().join("cp");
    let path = path.to_str().unwrap();
    let real = |words: &[&str]| {
        let mut ssh = server.world.command("ssh");
        ssh.args(["-F", &server.config(), "-S", path]).args(words);
        ssh
    };
    let master = Running::start(real(&["-MN", "server"]));
    let theirs = until("the master listens", || {
        let said = run(real(&["-O", "check", "server"]));
        (said.code == Some(0)).then_some(said.stderr)
    });
    let with_path = |what: &str| said(server.natssh(&["-S", path, "-O", what, "server"]));
    assert_eq!(with_path("check"), (Some(0), theirs));
    run(server.natssh(&["-S", path, "server", "true"])).ok();
    let ours = format!("Master running (pid={})\r\n", server.world.status().pid);
    assert_eq!(with_path("check"), (Some(0), ours));
    assert_eq!(with_path("exit"), sent("Exit"));
    drop(master.end());
    assert_eq!(server.world.status().sessions.len(), 0);
    assert_eq!(with_path("exit"), no_session(&server));
}

#[test]
fn nothing_is_started_to_be_controlled() {
    need!("ssh", "sshd");
    let server = Server::start("");
    run(server.world.natssh(&["broker", "stop"])).ok();
    for what in ["check", "stop", "exit"] {
        let mut real = server.world.command("ssh");
        real.args(["-F", &server.config(), "-O", what, "server"]);
        assert_eq!(control(&server, what), said(real), "-O {what}");
    }
    assert!(!server.world.socket().exists());
}

/// `meta: reset_connection` is `-O check`, then `-O stop`.
#[test]
fn ansible_resets_a_connection() {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    need!("ssh", "sshd");
    let server = Server::start("");
    let file = server.world.path().join("reset.yml");
    let tasks = "- hosts: all\n  gather_facts: false\n  tasks:\n    - raw: echo one\n    - raw: echo two\n    \
        - meta: reset_connection\n    - raw: echo three\n";
    fs::write(&file, tasks).unwrap();
    let mut ansible = server.world.command(playbook);
    ansible
        .args(["-i", "server,"])
        .arg(&file)
        .env("ANSIBLE_HOME", server.world.path().join("ansible"))
        .env("ANSIBLE_SSH_EXECUTABLE", natssh_tests::programs::path("natssh"))
        .env("ANSIBLE_SSH_CONTROL_PATH_DIR", server.world.path().join("cp"))
        .env("ANSIBLE_SSH_COMMON_ARGS", format!("-F {}", server.config()))
        // Without a terminal, so that all three are natssh's.
        .env("ANSIBLE_SSH_USETTY", "0");
    let said = Running::start(ansible).end_within(natssh_tests::ansible::PATIENCE);
    assert_eq!(natssh_tests::ansible::passed(&said), 1, "{}", said.text());
    assert_eq!(server.accepted(), 2, "one before the reset, and one after it");
}
