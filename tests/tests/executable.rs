//! A real Ansible whose ssh is natssh: `ANSIBLE_SSH_EXECUTABLE=natssh`, and nothing else is changed.

use natssh_tests::ansible::{self, PATIENCE, demo, passed};
use natssh_tests::screen::lacks_terminals;
use natssh_tests::{Plan, Running, Said, World, programs, tools};
use std::fs;

#[test]
fn the_demo_playbook_passes_with_pipelining_and_leaves_nothing_behind() {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    let world = Plan::new().start();
    let words = ["-i", &demo("inventory.yml"), &demo("playbook.yml")];
    let mut command = ansible::command(&world, &playbook, &words);
    let natssh = programs::path("natssh");
    // sftp starts an ssh of its own, unless it is told of another.
    command
        .env("ANSIBLE_SSH_EXECUTABLE", &natssh)
        .env("ANSIBLE_SFTP_EXTRA_ARGS", format!("-S {}", natssh.display()));
    let said = Running::start(command).end_within(PATIENCE);
    assert_eq!(passed(&said), 2, "{}", said.text());
    left_nothing(&world, &said);
}

/// Ansible's default: each module is run by `-tt`.
#[test]
fn the_demo_playbook_passes_without_pipelining_at_a_terminal_by_piped_transfer() {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    if lacks_terminals() {
        return;
    }
    let world = Plan::new().start();
    let words = ["-i", &demo("inventory.yml"), &demo("playbook.yml")];
    let mut command = ansible::command(&world, &playbook, &words);
    command
        .env("ANSIBLE_SSH_EXECUTABLE", programs::path("natssh"))
        .env("ANSIBLE_PIPELINING", "0")
        .env("ANSIBLE_SSH_TRANSFER_METHOD", "piped");
    let said = Running::start(command).end_within(PATIENCE);
    assert_eq!(passed(&said), 2, "{}", said.text());
    left_nothing(&world, &said);
}

#[test]
fn tasks_become_root_by_sudo_with_and_without_pipelining() {
    let Some(program) = tools::python_program("ansible") else { return };
    if !rustix::process::geteuid().is_root() {
        // Anybody else's sudo wants a password, which is theirs.
        return;
    }
    natssh_tests::need!("sudo");
    let world = Plan::new().start();
    for pipelining in ["1", "0"] {
        let words = ["all", "-i", "control-plane,worker,", "-b", "-m", "command", "-a", "id -u"];
        let mut command = ansible::command(&world, &program, &words);
        command
            .env("ANSIBLE_SSH_EXECUTABLE", programs::path("natssh"))
            .env("ANSIBLE_PIPELINING", pipelining)
            .env("ANSIBLE_SSH_TRANSFER_METHOD", "piped");
        let said = Running::start(command).end_within(PATIENCE);
        assert_eq!(said.ok().matches(" | CHANGED | rc=0 >>\n0").count(), 2, "{}", said.text());
    }
}

/// No process of the broker's, no socket of a ControlPath, no words of a multiplexer's.
#[track_caller]
fn left_nothing(world: &World, said: &Said) {
    let all = format!("{}{}", said.text(), said.stderr);
    assert!(!all.contains("Shared connection"), "{all}");
    let left = world.started_by_broker();
    assert!(left.is_empty(), "{left:?}");
    let sockets = fs::read_dir(world.path().join("cp")).into_iter().flatten().count();
    assert_eq!(sockets, 0, "ssh has kept a session of its own");
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
}
